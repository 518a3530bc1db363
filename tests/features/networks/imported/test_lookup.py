"""Networks that are no part of this program: found, described, and read off right."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from features.embedding.extractor import converted_files, load_extractor, rebuild_extractor
from features.embedding.specification import ExtractorSpec
from features.errors import ExtractorError, WeightsError
from features.networks.imported.lookup import find_network, known_name
from features.networks.registry import NETWORKS
from tests.features.networks.imported.onnx_files import (
    CHANNELS,
    DESCRIPTION,
    SIDE,
    expected_map,
    save,
    tiny,
    tokens,
)


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LESION_CACHE", str(tmp_path / "cache"))


def noise(count: int = 3) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, SIDE, SIDE, 3), np.uint8)


def described(*lines: str) -> str:
    return DESCRIPTION + "\n[output]\n" + "\n".join(lines)


@pytest.mark.parametrize("pooling", ["mean", "mean+std"])
def test_a_map_is_pooled_over_its_positions_after_the_described_preparation(
    tmp_path: Path, pooling: str
) -> None:
    path = save(tiny(), tmp_path / "a.onnx", described(f'pooling = "{pooling}"'))
    network, weights = find_network(str(path))
    extractor = load_extractor(network, weights or "", recipe="fast", precision="fp32")
    maps = expected_map(noise())
    expected = [maps.mean(axis=(1, 2))]
    if pooling == "mean+std":
        expected.append(maps.std(axis=(1, 2)))
    embeddings = extractor.embed(noise())
    np.testing.assert_allclose(embeddings, np.concatenate(expected, axis=1), rtol=1e-4, atol=1e-4)
    look = extractor.look(noise())[0]
    np.testing.assert_allclose(look.maps["map"], maps, rtol=1e-4, atol=1e-4)
    assert extractor.spec.network == "tiny"
    assert extractor.spec.dim == embeddings.shape[1]


@pytest.mark.parametrize("prefix", [1, 5])
@pytest.mark.parametrize("what", ["class", "patches", "both"])
def test_tokens_of_the_class_and_of_the_patches_are_told_apart(
    tmp_path: Path, what: str, prefix: int
) -> None:
    text = described(f'tokens = "{what}"', f"prefix = {prefix}")
    path = save(tokens(prefix), tmp_path / "a.onnx", text)
    network, weights = find_network(str(path))
    extractor = load_extractor(network, weights or "", recipe="fast", precision="fp32")
    maps = expected_map(noise())
    of_class = np.tile(np.arange(CHANNELS, dtype=np.float32), (3, 1))
    parts = {"class": [of_class], "patches": [maps.mean(axis=(1, 2))]}
    parts["both"] = parts["class"] + parts["patches"]
    expected = np.concatenate(parts[what], axis=1)
    np.testing.assert_allclose(extractor.embed(noise()), expected, rtol=1e-4, atol=1e-4)
    looks = extractor.look(noise())[0].maps
    shapes = {name.rpartition(".")[2]: each.shape[1:3] for name, each in looks.items()}
    assert shapes == {
        name: size
        for name, size in {"class": (1, 1), "patches": (8, 8)}.items()
        if what in (name, "both")
    }


def test_a_vector_and_blue_green_red_and_axes_in_the_other_order(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Transpose", ["rows"], ["image"], perm=[0, 3, 1, 2]),
        *tiny().graph.node,
        helper.make_node("GlobalAveragePool", ["map"], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["vector"]),
    ]
    model = tiny()
    del model.graph.node[:], model.graph.input[:], model.graph.output[:]
    model.graph.node.extend(nodes)
    kind = onnx.TensorProto.FLOAT
    model.graph.input.append(helper.make_tensor_value_info("rows", kind, (1, SIDE, SIDE, 3)))
    model.graph.output.append(helper.make_tensor_value_info("vector", kind, (1, CHANNELS)))
    text = DESCRIPTION + 'layout = "NHWC"\nchannels = "BGR"\n'
    network, weights = find_network(str(save(model, tmp_path / "a.onnx", text)))
    extractor = load_extractor(network, weights or "", recipe="accurate", precision="fp32")
    assert extractor.spec.pooling == "mean"
    pixels = noise()
    found = extractor.embed(pixels, pixels)[:, :CHANNELS]
    # The numbers of the description are in the order of the channels.
    expected = expected_map(pixels[..., ::-1]).mean(axis=(1, 2))
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    "change",
    [
        ("mean = [0.5, 0.4, 0.3]", "mean = [0.5, 0.4, 0.31]"),
        ("deviation = [0.2, 0.25, 0.5]", "deviation = 0.25"),
        ("range = [0, 1]", "range = [0, 255]"),
        ("size = 32", 'size = 32\nchannels = "BGR"'),
        ("size = 32", 'size = 32\nfit = "crop"\ncrop = 0.875'),
        ("size = 32", 'size = 32\nresize = "bicubic"'),
    ],
)
def test_whatever_changes_a_number_changes_the_fingerprint(
    tmp_path: Path, change: tuple[str, str]
) -> None:
    prints = []
    for number, text in enumerate((DESCRIPTION, DESCRIPTION.replace(*change))):
        path = save(tiny(), tmp_path / f"{number}.onnx", text)
        network, weights = find_network(str(path))
        spec = load_extractor(network, weights or "", recipe="fast").spec
        assert ExtractorSpec.from_dict(spec.as_dict()) == spec
        prints.append(spec.fingerprint)
    assert prints[0] != prints[1]


def test_what_changes_no_number_does_not_change_the_fingerprint(tmp_path: Path) -> None:
    prints = set()
    for number, licence in enumerate(("MIT", "Apache-2.0")):
        path = save(tiny(), tmp_path / f"{number}.onnx", DESCRIPTION.replace("MIT", licence))
        network, weights = find_network(str(path))
        prints.add(load_extractor(network, weights or "", recipe="fast").spec.fingerprint)
    assert len(prints) == 1


def test_numbers_in_a_file_beside_it_belong_to_the_fingerprint(tmp_path: Path) -> None:
    prints = []
    for number in range(2):
        folder = tmp_path / str(number)
        folder.mkdir()
        model = tiny()
        tensor = model.graph.initializer[0]
        (folder / "more.bin").write_bytes(tensor.raw_data[:-4] + bytes([0, 0, number, 0]))
        onnx.external_data_helper.set_external_data(tensor, "more.bin")
        tensor.ClearField("raw_data")
        network, weights = find_network(str(save(model, folder / "a.onnx")))
        extractor = load_extractor(network, weights or "", recipe="fast", precision="fp32")
        assert np.isfinite(extractor.embed(noise())).all()
        prints.append(extractor.spec.fingerprint)
    assert prints[0] != prints[1]


WRONG = {
    "no description": (
        None,
        r"there is no description .*found in the file: takes image \(any x 3 x 32",
    ),
    "no TOML": ("name = ", "can't be read"),
    "an unknown key": (DESCRIPTION + "meen = 1", "got input.meen, expected name, layout"),
    "no mean": (DESCRIPTION.replace("mean =", "# "), "input.mean is missing"),
    "no range": (DESCRIPTION.replace("range =", "# "), "got nothing for input.range"),
    "no size": (DESCRIPTION.replace("size =", "# "), "got nothing for input.size"),
    "another size": (
        DESCRIPTION.replace("32", "48"),
        "size 48 .*can't take: found in the file: takes",
    ),
    "another layout": (DESCRIPTION + 'layout = "NHWC"', "says layout NHWC"),
    "a deviation of 0": (DESCRIPTION.replace("0.25", "0"), "expected numbers above 0"),
    "no such output": (described('names = ["features"]'), r"'features'; found .*gives map \(1 x 5"),
    "no tokens": (described('tokens = "class"'), "no output is a row of them"),
    "no such input": (DESCRIPTION + 'name = "picture"', "names the input 'picture'"),
    "a name that is taken": (DESCRIPTION.replace("tiny", "vgg16"), "another network is called"),
    "a crop of nothing": (DESCRIPTION + 'fit = "crop"', "got nothing for input.crop"),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_description_that_does_not_fit_is_refused_with_what_was_found(
    name: str, tmp_path: Path
) -> None:
    text, reason = WRONG[name]
    path = save(tiny(), tmp_path / "a.onnx", text)
    with pytest.raises(ExtractorError, match=reason) as refused:
        find_network(str(path))
    if "TOML" not in name and "taken" not in name:
        assert "found in the file: takes image" in str(refused.value)


def test_rows_of_tokens_need_to_be_described(tmp_path: Path) -> None:
    path = save(tokens(), tmp_path / "a.onnx")
    with pytest.raises(ExtractorError, match=r"output\.tokens what is read of the 65 tokens"):
        find_network(str(path))
    save(tokens(), path, described('tokens = "patches"', "prefix = 3"))
    with pytest.raises(ExtractorError, match=r"the other 62 tokens .* no square of patches"):
        find_network(str(path))
    save(tokens(), path, described('tokens = "class"', 'pooling = "mean+std"'))
    with pytest.raises(ExtractorError, match=r"tokens\.class is not spread over the image"):
        find_network(str(path))


def test_what_is_no_image_network_is_refused_with_what_it_takes(tmp_path: Path) -> None:
    path = save(tiny(shape=("n", 3, 4)), tmp_path / "sound.onnx")
    with pytest.raises(ExtractorError, match=r"refused|can't take"):
        find_network(str(path))
    second = tiny(
        [helper.make_node("Add", ["map", "more"], ["out"])], [("out", (1, CHANNELS, 8, 8))]
    )
    second.graph.input.append(helper.make_tensor_value_info("more", 1, (1, CHANNELS, 8, 8)))
    path = save(second, tmp_path / "two.onnx")
    with pytest.raises(ExtractorError, match="takes 2 inputs, expected the image alone"):
        find_network(str(path))


def test_names_in_a_file_do_nothing_to_a_terminal(tmp_path: Path) -> None:
    node = helper.make_node("Relu", ["map"], ["a\x1b[2Jb\n"])
    model = tiny([node], [("a\x1b[2Jb\n", (1, CHANNELS, 8, 8)), ("map", (1, CHANNELS, 8, 8))])
    path = save(model, tmp_path / "a.onnx")
    with pytest.raises(ExtractorError, match="which of 2 outputs") as refused:
        find_network(str(path))
    assert "\x1b" not in str(refused.value)
    assert "\n" not in str(refused.value)


def test_an_input_of_any_size_is_read_at_the_described_one(tmp_path: Path) -> None:
    model = tiny(shape=("n", 3, "h", "w"), outputs=[("map", ("n", CHANNELS, "y", "x"))])
    network, weights = find_network(str(save(model, tmp_path / "a.onnx")))
    extractor = load_extractor(network, weights or "", recipe="fast", precision="fp32")
    expected = expected_map(noise()).mean(axis=(1, 2))
    np.testing.assert_allclose(extractor.embed(noise()), expected, rtol=1e-4, atol=1e-4)
    with pytest.raises(ExtractorError, match="got an input of 64 pixels, tiny takes 32"):
        load_extractor(network, weights or "", recipe="fast", input_size=64)


def test_a_bundle_finds_the_converted_network_by_its_specification(tmp_path: Path) -> None:
    path = save(tokens(), tmp_path / "a.onnx", described('tokens = "both"'))
    network, weights = find_network(str(path))
    extractor = load_extractor(network, weights or "", recipe="fast", precision="fp32")
    before = extractor.embed(noise())
    files = converted_files(extractor.spec, path)
    assert files is not None
    assert all(each.is_file() for each in files)
    again = rebuilt_from(files[0], extractor.spec)
    np.testing.assert_allclose(again, before, rtol=1e-5, atol=1e-5)
    with pytest.raises(ExtractorError, match="only served as it was converted"):
        rebuild_extractor(extractor.spec, path)


def rebuilt_from(path: Path, spec: ExtractorSpec) -> np.ndarray:
    from features.embedding.extractor import converted_extractor

    return converted_extractor(spec, path).embed(noise())


def test_weights_are_in_the_file(tmp_path: Path) -> None:
    network, _ = find_network(str(save(tiny(), tmp_path / "a.onnx")))
    with pytest.raises(WeightsError, match="holds its own: leave --weights out"):
        load_extractor(network, "untrained", recipe="fast")
    with pytest.raises(WeightsError, match="holds its own: leave --weights out"):
        find_network(str(tmp_path / "a.onnx"), weights="untrained")


def test_names_are_found_however_they_are_written() -> None:
    assert known_name("inception_v3") == known_name("InceptionV3") == "inception_v3"
    assert all(known_name(name) == name for name in NETWORKS)
    assert known_name("alexnet") is None


@pytest.mark.parametrize("name", ["alexnet", "timm;vit_base", "facebook/dinov2-base"])
def test_a_name_that_is_not_known_is_refused_with_what_is(name: str) -> None:
    with pytest.raises(ExtractorError, match=r"FILE\.onnx"):
        find_network(name)


def test_a_known_network_needs_no_description(tmp_path: Path) -> None:
    with pytest.raises(ExtractorError, match="leave --describe out"):
        find_network("vgg16", tmp_path / "a.toml")


def test_numbers_of_half_precision_are_read(tmp_path: Path) -> None:
    model = tiny(input_type=onnx.TensorProto.FLOAT16)
    half = numpy_helper.from_array(
        numpy_helper.to_array(model.graph.initializer[0]).astype(np.float16), "kernel"
    )
    model.graph.initializer[0].CopyFrom(half)
    model.graph.output[0].type.tensor_type.elem_type = onnx.TensorProto.FLOAT16
    network, weights = find_network(str(save(model, tmp_path / "a.onnx")))
    extractor = load_extractor(network, weights or "", recipe="fast", precision="fp32")
    expected = expected_map(noise()).mean(axis=(1, 2))
    np.testing.assert_allclose(extractor.embed(noise()), expected, rtol=2e-2, atol=2e-2)
