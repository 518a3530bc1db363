from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from features.networks.converted import converted_network
from features.networks.devices import backends
from features.networks.engines import load_converted
from tests.conftest import ROOT
from tests.features.networks.devices.embed_on import SIZES, WITH_MAPS, pictures, source

MULTIPLIES = {
    "jax": ("Precision.HIGHEST)", "Precision.HIGH)"),
    "torch": ("ieee ieee", "tf32 tf32"),
    "tensorflow": ("False", "True"),
}


@pytest.fixture(scope="module")
def exact() -> dict[str, np.ndarray]:
    """The embeddings as OpenVINO computes them in fp32."""
    found = {}
    for name, (size, _) in SIZES.items():
        path = converted_network(source(name), "fp32").path
        found[name] = load_converted(path, "fp32", size).run(pictures(name))
    return found


@pytest.mark.slow
@pytest.mark.parametrize("backend", backends.BACKENDS)
def test_every_backend_agrees_within_the_bound_of_its_precision(
    backend: str, exact: dict[str, np.ndarray], tmp_path: Path
) -> None:
    if importlib.util.find_spec(backend) is None:
        pytest.skip(f"{backend} is not installed")
    command = [sys.executable, "-m", "tests.features.networks.devices.embed_on"]
    done = subprocess.run(
        [*command, str(tmp_path / "found.npz")],
        cwd=ROOT,
        env={**os.environ, "KERAS_BACKEND": backend, "LESION_CACHE": str(tmp_path / "cache")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    if backend == "jax":
        assert any((tmp_path / "cache" / "compiled" / "jax").iterdir())
    with np.load(tmp_path / "found.npz") as found:
        for name, truth in exact.items():
            lengths = np.linalg.norm(truth, axis=1)
            kinds = [("", slice(None))] + [("-maps", slice(9))] * (name in WITH_MAPS)
            for suffix, rows in kinds:
                fp32, bf16 = (found[f"{name}-{each}{suffix}"] for each in ("fp32", "bf16"))
                off = np.linalg.norm(fp32 - truth[rows], axis=1) / lengths[rows]
                assert off.max() < 1e-4, name
                along = (bf16 * truth[rows]).sum(axis=1) / lengths[rows]
                assert (along / np.linalg.norm(bf16, axis=1)).min() >= 0.999, name
    told = json.loads(done.stdout.splitlines()[-1])
    for precision, words in zip(("fp32", "tf32"), MULTIPLIES[backend], strict=True):
        assert words in told[precision], told


@pytest.mark.slow
@pytest.mark.parametrize("compiler", ["", "/no/compiler"])
def test_torch_compiles_the_network_where_it_can(compiler: str, tmp_path: Path) -> None:
    if importlib.util.find_spec("torch") is None:
        pytest.skip("torch is not installed")
    if not compiler and shutil.which("g++") is None:
        pytest.skip("there is no C++ compiler")
    script = (
        "import numpy as np\n"
        "from features.networks.devices.forward import begin\n"
        "from features.networks.keras import import_keras\n"
        "keras = import_keras()\n"
        "pixels = keras.Input((8, 8, 3), dtype='uint8')\n"
        "maps = keras.layers.Conv2D(4, 3)(keras.ops.cast(pixels, 'float32') / 127.5)\n"
        "model = keras.Model(pixels, [keras.layers.GlobalAveragePooling2D()(maps), maps])\n"
        "images = np.random.default_rng(0).integers(0, 256, (4, 8, 8, 3), dtype=np.uint8)\n"
        "plain = begin(model, compiled=False)(images)()\n"
        "quick = begin(model, compiled=True)\n"
        "for _ in range(2):\n"
        "    for one, other in zip(plain, quick(images)(), strict=True):\n"
        "        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)\n"
    )
    environment = {**os.environ, "KERAS_BACKEND": "torch", "LESION_CACHE": str(tmp_path)}
    environment.pop("TORCHINDUCTOR_CACHE_DIR", None)
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=ROOT,
        env=environment | ({"CXX": compiler} if compiler else {}),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    if compiler:
        assert "note: torch runs the network uncompiled" in done.stderr
    else:
        assert "uncompiled" not in done.stderr
        assert any((tmp_path / "compiled" / "torch").iterdir())


def test_a_backend_that_is_built_for_a_gpu_is_chosen_unless_somebody_chose(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("sys.modules", {k: v for k, v in sys.modules.items() if k != "keras"})
    find = importlib.util.find_spec
    known = {"jax": True, "jax_cuda12_plugin": True, "torch": False}
    monkeypatch.setattr(
        "importlib.util.find_spec",
        lambda name: find("json" if known[name] else "none") if name in known else find(name),
    )
    monkeypatch.setenv("KERAS_BACKEND", "torch")
    backends.choose_backend()
    assert os.environ["KERAS_BACKEND"] == "torch"
    monkeypatch.delenv("KERAS_BACKEND")
    backends.choose_backend()
    assert os.environ["KERAS_BACKEND"] == "jax"
    monkeypatch.delenv("KERAS_BACKEND")
    known["jax_cuda12_plugin"] = False
    backends.choose_backend()
    assert "KERAS_BACKEND" not in os.environ
