from __future__ import annotations

import logging
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from features.embedding.extractor import load_extractor
from features.errors import ExtractorError
from features.images.decoding import load_pixels
from features.networks.converted import converted_network
from features.networks.devices.keras_engine import KerasEngine
from features.networks.engines import Plan, has_matrix_units, load_engine, plan_engine
from features.networks.libraries import import_openvino, root_logger_kept
from features.networks.openvino import OpenVinoEngine
from features.networks.openvino_serving import Cores, ServingEngine
from features.networks.registry import NETWORKS
from features.networks.weights import Source, resolve_weights
from tests.conftest import ROOT
from tests.pictures import image_bytes

NETWORK = NETWORKS["inception_v3"]
UNTRAINED = resolve_weights(NETWORK, "untrained")
SOURCE = Source(NETWORK, UNTRAINED, ("mixed10",), "mean", 75)
VGG16 = NETWORKS["vgg16"]
SMALL = Source(VGG16, resolve_weights(VGG16, "untrained"), ("block5_pool",), "mean", 32)


@pytest.fixture(autouse=True, scope="module")
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder for converted networks, with the one of all tests in it."""
    folder = tmp_path_factory.mktemp("cache")
    shared = converted_network(SOURCE, "fp32").path.parent
    shutil.copytree(shared, folder / "networks" / shared.name)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LESION_CACHE", str(folder))
        yield folder


@pytest.fixture(scope="module")
def pixels() -> np.ndarray:
    return np.stack([load_pixels(image_bytes(seed), 75) for seed in range(70)])


@pytest.fixture(scope="module")
def reference(pixels: np.ndarray) -> np.ndarray:
    return KerasEngine(SOURCE, 75).run(pixels)


@pytest.fixture(scope="module")
def converted() -> Path:
    return converted_network(SOURCE, "fp32").path


def distance(one: np.ndarray, other: np.ndarray) -> float:
    return float((np.linalg.norm(one - other, axis=1) / np.linalg.norm(other, axis=1)).max())


def cosine(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    lengths = np.linalg.norm(one, axis=1) * np.linalg.norm(other, axis=1)
    return (one * other).sum(axis=1) / lengths


@pytest.mark.parametrize("serving", [False, True])
def test_openvino_in_fp32_gives_the_numbers_of_keras(
    pixels: np.ndarray, reference: np.ndarray, converted: Path, serving: bool
) -> None:
    engine = (ServingEngine if serving else OpenVinoEngine)(converted, "fp32", 75)
    assert distance(engine.run(pixels), reference) < 1e-4
    assert distance(engine.run(pixels[:1]), reference[:1]) < 1e-4
    assert engine.run(pixels[:0]).shape == (0, 2048)


def test_vgg16_is_converted_too() -> None:
    pixels = np.stack([load_pixels(image_bytes(seed), 48) for seed in range(3)])
    extractors = [
        load_extractor("vgg16", "untrained", input_size=48, engine=engine, precision="fp32")
        for engine in ("keras", "openvino")
    ]
    assert extractors[0].spec == extractors[1].spec
    assert distance(extractors[1].embed(pixels), extractors[0].embed(pixels)) < 1e-4


def test_an_embedding_does_not_depend_on_its_neighbours(
    pixels: np.ndarray, converted: Path
) -> None:
    engine = OpenVinoEngine(converted, "fp32", 75)
    together = engine.run(pixels)
    np.testing.assert_array_equal(engine.run(pixels[::-1])[::-1], together)
    np.testing.assert_array_equal(engine.run(pixels[5:6]), together[5:6])


@pytest.mark.parametrize("kind", [OpenVinoEngine, ServingEngine])
def test_an_engine_may_be_shared_between_threads(
    pixels: np.ndarray,
    reference: np.ndarray,
    converted: Path,
    kind: type[OpenVinoEngine | ServingEngine],
) -> None:
    engine = kind(converted, "fp32", 75)
    found: dict[int, np.ndarray] = {}
    threads = [
        threading.Thread(target=lambda n=n: found.update({n: engine.run(pixels[n : n + 9])}))
        for n in range(0, 63, 9)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for start, embeddings in found.items():
        assert distance(embeddings, reference[start : start + 9]) < 1e-4


def test_images_that_come_one_by_one_are_served_beside_maps(
    pixels: np.ndarray, reference: np.ndarray, converted: Path
) -> None:
    engine = ServingEngine(converted, "fp32", 75)
    with ThreadPoolExecutor(8) as askers:
        found = [askers.submit(engine.run, pixels[n : n + 1]) for n in range(40)]
        looks = [askers.submit(engine.run_with_maps, pixels[n : n + 2]) for n in range(5)]
        for n, one in enumerate(found):
            assert distance(one.result(60), reference[n : n + 1]) < 1e-4
        for n, one in enumerate(looks):
            embeddings, maps = one.result(60)
            assert distance(embeddings, reference[n : n + 2]) < 1e-4
            np.testing.assert_allclose(maps[0].mean(axis=(1, 2)), embeddings, rtol=1e-3, atol=1e-4)


def test_views_of_an_image_go_through_at_the_same_time(
    pixels: np.ndarray, reference: np.ndarray, converted: Path
) -> None:
    engine = ServingEngine(converted, "fp32", 75, views=2)
    with ThreadPoolExecutor(6) as askers:
        found = [askers.submit(engine.run, pixels[n : n + 2]) for n in range(20)]
        looks = [askers.submit(engine.run_with_maps, pixels[n : n + 2]) for n in range(5)]
        for n, one in enumerate(found):
            assert distance(one.result(60), reference[n : n + 2]) < 1e-4
        for n, one in enumerate(looks):
            embeddings, maps = one.result(60)
            assert distance(embeddings, reference[n : n + 2]) < 1e-4
            np.testing.assert_allclose(maps[0].mean(axis=(1, 2)), embeddings, rtol=1e-3, atol=1e-4)
    assert distance(engine.run(pixels[:9]), reference[:9]) < 1e-4
    assert distance(engine.run(pixels[:1]), reference[:1]) < 1e-4


def test_who_is_alone_has_all_cores_and_who_wants_all_is_not_passed_over() -> None:
    cores = Cores(2)
    with cores.some() as all_of_them:
        assert all_of_them
    order: list[str] = []

    def ask(name: str, *, every: bool = False) -> None:
        order.append(f"{name} asks")
        with cores.every() if every else cores.some():
            order.append(f"{name} has")

    with ThreadPoolExecutor(3) as askers, cores.every():
        for name in ("first", "all", "last"):
            askers.submit(ask, name, every=name == "all")
            while f"{name} asks" not in order:
                time.sleep(0.001)
            time.sleep(0.05)
        assert not any(entry.endswith("has") for entry in order)
    assert order.index("first has") < order.index("all has") < order.index("last has")


def test_bf16_points_the_same_way(
    pixels: np.ndarray, reference: np.ndarray, converted: Path
) -> None:
    try:
        engine = OpenVinoEngine(converted, "bf16", 75)
    except ExtractorError as error:
        assert "this CPU can't compute in bf16" in str(error)  # noqa: PT017
        pytest.skip("this CPU has no bf16")
    assert cosine(engine.run(pixels), reference).min() > 0.999


def test_mixed_precision_in_keras_points_the_same_way() -> None:
    pixels = np.stack([load_pixels(image_bytes(seed), 32) for seed in range(4)])
    exact, mixed = (KerasEngine(SMALL, 32, name).run(pixels) for name in ("fp32", "bf16"))
    assert cosine(mixed, exact).min() > 0.995


def test_a_conversion_is_kept_and_taken_up_again(own_cache: Path, converted: Path) -> None:
    assert converted.is_relative_to(own_cache)
    before = converted.stat().st_mtime_ns
    again = converted_network(SOURCE, "bf16")
    assert again.path == converted
    assert converted.stat().st_mtime_ns == before
    assert not list((own_cache / "networks").glob(".partial-*"))


def test_a_kept_conversion_is_run_without_keras(converted: Path, own_cache: Path) -> None:
    script = (
        "import sys, numpy as np\n"
        "from features.embedding.extractor import load_extractor\n"
        "e = load_extractor('inception_v3', 'untrained', input_size=75, precision='fp32')\n"
        "e.embed(np.zeros((1, 75, 75, 3), np.uint8))\n"
        "assert 'keras' not in sys.modules and 'tensorflow' not in sys.modules\n"
        "assert sys.modules['openvino_telemetry'] is None\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=ROOT,
        env={**os.environ, "LESION_CACHE": str(own_cache)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_where_keras_is_missing_it_is_said(own_cache: Path, tmp_path: Path) -> None:
    (tmp_path / "keras.py").write_text("raise ImportError('No module named keras')")
    script = (
        "from features.embedding.extractor import load_extractor\n"
        "from features.errors import ExtractorError\n"
        "try: load_extractor('inception_v3', 'untrained', input_size=76).prepare()\n"
        "except ExtractorError as error: print(error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=ROOT,
        env={
            **os.environ,
            "LESION_CACHE": str(tmp_path / "cache"),
            "PYTHONPATH": os.pathsep.join((str(tmp_path), str(ROOT))),
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "has to be built by Keras, which is not installed here" in done.stdout


def test_without_a_folder_to_keep_it_in_the_network_is_converted_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setenv("LESION_CACHE", str(tmp_path / "file"))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    pixels = np.stack([load_pixels(image_bytes(seed), 32) for seed in range(2)])
    engine = load_engine(Plan("openvino", "fp32"), SMALL, 32)
    assert distance(engine.run(pixels), KerasEngine(SMALL, 32).run(pixels)) < 1e-4


def test_a_full_disk_is_told_and_nothing_is_left_on_it(
    small_disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LESION_CACHE", str(small_disk))
    with pytest.raises(ExtractorError, match=f"written to {small_disk}.*free some space there"):
        converted_network(SMALL, "fp32")
    assert not list((small_disk / "networks").iterdir())


def test_on_jax_it_is_told_that_openvino_can_not_take_the_network(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import keras

    monkeypatch.setenv("LESION_CACHE", str(tmp_path))
    monkeypatch.setattr(keras.config, "backend", lambda: "jax")
    with pytest.raises(ExtractorError, match="again with KERAS_BACKEND=tensorflow"):
        converted_network(SMALL, "fp32")
    assert not list((tmp_path / "networks").iterdir())


def test_a_conversion_that_fails_leaves_the_root_logger_as_it_was(tmp_path: Path) -> None:
    openvino, root = import_openvino(), logging.getLogger()
    (tmp_path / "network.onnx").write_text("no network")

    def state() -> tuple[object, ...]:
        return root.level, list(root.filters), list(root.handlers)

    before = state()
    with root_logger_kept():
        with pytest.raises(Exception, match="recognize"):
            openvino.convert_model(tmp_path / "network.onnx")
        assert state() != before
    assert state() == before


def test_a_broken_conversion_is_told(tmp_path: Path) -> None:
    path = tmp_path / "network.xml"
    path.write_text("no network")
    with pytest.raises(ExtractorError, match="can't be run"):
        OpenVinoEngine(path, "fp32", 75)


def test_what_suits_the_machine_is_planned_without_loading_an_engine() -> None:
    script = (
        "import sys; from features.networks.engines import plan_engine; print(plan_engine());"
        "assert not {'keras', 'openvino', 'tensorflow'} & set(sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=False
    )
    if not Path("/dev/nvidiactl").exists():
        assert done.returncode == 0, done.stderr
        expected = "bf16" if has_matrix_units() else "fp32"
        assert done.stdout.strip() == f"Plan(engine='openvino', precision='{expected}')"


def test_what_does_not_go_together_is_told() -> None:
    with pytest.raises(ExtractorError, match="int8 needs the engine openvino"):
        plan_engine("keras", "int8")
    with pytest.raises(ExtractorError, match="got engine 'torch'"):
        plan_engine("torch", "fp32")
    assert plan_engine("keras", "bf16") == Plan("keras", "bf16")
    with pytest.raises(ExtractorError, match="tf32 is a number format of GPUs, and openvino runs"):
        plan_engine("openvino", "tf32")


@pytest.mark.skipif(Path("/dev/nvidiactl").exists(), reason="there may be a GPU")
@pytest.mark.parametrize("engine", ["auto", "keras"])
def test_tf32_is_refused_where_there_is_no_gpu(engine: str) -> None:
    with pytest.raises(ExtractorError, match="Keras sees none here: use --precision fp32"):
        plan_engine(engine, "tf32")


def test_layers_above_those_that_are_read_are_not_computed(tmp_path: Path) -> None:
    from features.networks.keras import build_network

    base = next(each for each in build_network(SOURCE, 75).layers if hasattr(each, "layers"))
    lower = replace(SOURCE, layers=("mixed3", "mixed8"))
    model = build_network(lower, 75)
    read = next(each for each in model.layers if hasattr(each, "layers"))
    names = {layer.name for layer in read.layers}
    assert "mixed8" in names
    assert not names & {"mixed9", "mixed10", "mixed9_0"}
    assert len(names) < len(base.layers) - 60
    path = tmp_path / "network.xml"
    model.export(str(path), format="openvino", verbose=False)
    graph = import_openvino().Core().read_model(path)
    convolutions = [op for op in graph.get_ops() if op.get_type_name() == "Convolution"]
    # 94 in all; the two blocks above mixed8 have nine each.
    assert len(convolutions) == 76


@pytest.mark.slow
@pytest.mark.real_data
def test_real_lesions_come_out_alike_in_every_precision(
    real_data: Path, real_weights: Path
) -> None:
    folder = real_data / "data" / "isic2017_256" / "valid" / "melanoma"
    pixels = np.stack([load_pixels(path, 299) for path in sorted(folder.iterdir())[::3]])
    embeddings = {
        precision: load_extractor("inception_v3", real_weights, precision=precision).embed(pixels)
        for precision in ("fp32", *(["bf16"] if computes_bf16() else []))
    }
    keras = load_extractor("inception_v3", real_weights, engine="keras", precision="fp32")
    assert distance(embeddings["fp32"], keras.embed(pixels)) < 1e-4
    if "bf16" in embeddings:
        found = cosine(embeddings["bf16"], embeddings["fp32"])
        assert found.mean() > 0.999
        assert found.min() > 0.997


def computes_bf16() -> bool:
    return "BF16" in import_openvino().Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
