"""ONNX files from anywhere: broken and malicious ones are refused, with nothing run or written."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from features.embedding.extractor import load_extractor
from features.errors import ExtractorError
from features.networks.imported.lookup import find_network
from features.networks.imported.onnx_file import inspect_onnx
from tests.features.networks.imported.onnx_files import CHANNELS, save, tiny, tokens

Made = onnx.ModelProto | bytes


def truncated() -> Made:
    return tiny().SerializeToString()[:-200]


def another_operator() -> Made:
    node = helper.make_node("Shell", ["map"], ["out"], domain="com.evil", command="touch /tmp/x")
    return tiny([node], [("out", ("n", CHANNELS, 8, 8))], domains=("", "com.evil"))


def operator_in_a_function() -> Made:
    model = tiny()
    body = [helper.make_node("Relu", ["x"], ["y"])]
    opset = [helper.make_opsetid("", 17)]
    model.functions.append(helper.make_function("com.evil", "F", ["x"], ["y"], body, opset))
    return model


def operator_in_a_branch() -> Made:
    inner = helper.make_graph(
        [helper.make_node("Shell", ["map"], ["inner"], domain="com.evil")],
        "branch",
        [],
        [helper.make_tensor_value_info("inner", TensorProto.FLOAT, None)],
    )
    node = helper.make_node("If", ["yes"], ["out"], then_branch=inner, else_branch=inner)
    yes = numpy_helper.from_array(np.array(True), "yes")
    return tiny([node], [("out", ("n", CHANNELS, 8, 8))], [yes], domains=("", "com.evil"))


def elsewhere(location: str) -> Callable[[], Made]:
    def make() -> Made:
        tensor = TensorProto(name="far", data_type=TensorProto.FLOAT, dims=[4])
        tensor.data_location = TensorProto.EXTERNAL
        tensor.external_data.add(key="location", value=location)
        node = helper.make_node("Add", ["map", "far"], ["out"])
        return tiny([node], [("out", ("n", CHANNELS, 8, 8))], [tensor])

    return make


def huge_shape() -> Made:
    tensor = TensorProto(
        name="huge", data_type=TensorProto.FLOAT, dims=[2**31, 2**31], raw_data=b"0"
    )
    return tiny(initializers=[tensor])


def too_few_numbers() -> Made:
    tensor = TensorProto(name="short", data_type=TensorProto.FLOAT, dims=[64, 64], raw_data=b"0123")
    return tiny(initializers=[tensor])


def negative_shape() -> Made:
    return tiny(initializers=[TensorProto(name="odd", data_type=TensorProto.FLOAT, dims=[-1])])


def cyclic() -> Made:
    nodes = [
        helper.make_node("Add", ["map", "second"], ["first"]),
        helper.make_node("Relu", ["first"], ["second"]),
    ]
    return tiny(nodes, [("second", ("n", CHANNELS, 8, 8))])


def grows_when_run() -> Made:
    shape = numpy_helper.from_array(np.array([2**14, 2**14, 2**10]), "shape")
    nodes = [
        helper.make_node("ConstantOfShape", ["shape"], ["filled"]),
        helper.make_node("ReduceSum", ["filled"], ["sum"], keepdims=0),
        helper.make_node("Add", ["map", "sum"], ["out"]),
    ]
    return tiny(nodes, [("out", ("n", CHANNELS, 8, 8))], [shape])


def loops() -> Made:
    body = helper.make_graph(
        [helper.make_node("Identity", ["on"], ["still"])],
        "body",
        [
            helper.make_tensor_value_info("turn", TensorProto.INT64, []),
            helper.make_tensor_value_info("on", TensorProto.BOOL, []),
        ],
        [helper.make_tensor_value_info("still", TensorProto.BOOL, [])],
    )
    return tiny([helper.make_node("Loop", ["", ""], [], body=body)])


def random() -> Made:
    node = helper.make_node("RandomNormalLike", ["map"], ["out"])
    return tiny([node], [("out", ("n", CHANNELS, 8, 8))])


REFUSED: dict[str, tuple[Callable[[], Made], str]] = {
    "truncated": (truncated, "no ONNX file, or is cut off or damaged"),
    "a picture": (lambda: b"\x89PNG\r\n\x1a\n" + bytes(900), "no ONNX file|holds no network"),
    "text": (lambda: b"#!/bin/sh\ntouch /tmp/x\n", "no ONNX file|holds no network"),
    "another operator": (another_operator, r"operators that are not ONNX's own \('com\.evil'\)"),
    "in a function": (operator_in_a_function, r"not ONNX's own \('com\.evil'\)"),
    "in a branch": (operator_in_a_branch, r"not ONNX's own \('com\.evil'\)"),
    "external above": (
        elsewhere("../../etc/passwd"),
        r"in '\.\./\.\./etc/passwd', outside its own",
    ),
    "external absolute": (elsewhere("/etc/passwd"), "in '/etc/passwd', outside its own folder"),
    "external on Windows": (elsewhere("C:\\secret"), "outside its own folder"),
    "external missing": (elsewhere("more.bin"), "'more.bin', which is not beside it"),
    "external nowhere": (elsewhere(""), "outside its own folder"),
    "external short": (elsewhere("short.bin"), "short.bin|holds other than the 16 bytes"),
    "huge shape": (huge_shape, r"'huge' claims to be of shape \[2147483648, 2147483648\]"),
    "too few numbers": (too_few_numbers, "holds other than the 16,384 bytes"),
    "negative shape": (negative_shape, r"'odd' claims to be of shape \[-1\]"),
    "cyclic": (cyclic, "not valid ONNX .*sorted"),
    "loops": (loops, r"has loops \(Loop\)"),
    "random": (random, r"draws random numbers \(RandomNormalLike\)"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_file_that_is_not_to_be_trusted_is_refused_with_a_sentence(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make, reason = REFUSED[name]
    monkeypatch.setenv("LESION_CACHE", str(tmp_path / "cache"))
    path = save(make(), tmp_path / "network.onnx")
    (tmp_path / "short.bin").write_bytes(b"12")
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(ExtractorError, match=f"network.onnx is refused: .*({reason})"):
        find_network(str(path))
    assert sorted(tmp_path.rglob("*")) == before


def test_what_would_fill_the_memory_is_stopped_and_nothing_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LESION_CACHE", str(tmp_path / "cache"))
    path = save(grows_when_run(), tmp_path / "network.onnx")

    def prepare() -> None:
        network, _ = find_network(str(path))
        load_extractor(network, recipe="fast", precision="fp32").prepare()

    with pytest.raises(ExtractorError, match=r"network.onnx is refused: "):
        prepare()
    assert not [each for each in (tmp_path / "cache").rglob("*") if each.is_file()]


def test_an_empty_file_and_a_folder_are_refused(tmp_path: Path) -> None:
    (tmp_path / "empty.onnx").touch()
    with pytest.raises(ExtractorError, match="has 0 bytes"):
        inspect_onnx(tmp_path / "empty.onnx")
    with pytest.raises(ExtractorError, match="there is no network"):
        inspect_onnx(tmp_path)


def test_a_link_out_of_the_folder_is_not_followed(tmp_path: Path) -> None:
    secret = tmp_path / "secret.bin"
    secret.write_bytes(bytes(16))
    (tmp_path / "inside").mkdir()
    (tmp_path / "inside" / "far.bin").symlink_to(secret)
    path = save(elsewhere("far.bin")(), tmp_path / "inside" / "network.onnx")
    with pytest.raises(ExtractorError, match="outside its own folder"):
        inspect_onnx(path)


@pytest.mark.parametrize(
    "seed", [1, 2, *(pytest.param(n, marks=pytest.mark.slow) for n in range(3, 40))]
)
def test_a_damaged_file_is_read_or_refused_but_never_anything_else(
    seed: int, tmp_path: Path
) -> None:
    rng = np.random.default_rng(seed)
    content = bytearray(tokens().SerializeToString())
    for at in rng.integers(0, len(content), rng.integers(1, 12)):
        content[at] = rng.integers(0, 256)
    path = save(bytes(content), tmp_path / "network.onnx")
    try:
        told = str(inspect_onnx(path, 32, "image"))
    except ExtractorError as error:
        told = str(error)
    assert re.search(r"is refused: |found in the file: takes ", told)
    assert "\n" not in told
