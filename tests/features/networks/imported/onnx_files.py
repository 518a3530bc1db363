"""Small ONNX files, sound and otherwise."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

SIDE = 32
CHANNELS = 5
DESCRIPTION = """
name = "tiny"
licence = "MIT"
trained_on = "nothing"

[input]
size = 32
range = [0, 1]
mean = [0.5, 0.4, 0.3]
deviation = [0.2, 0.25, 0.5]
"""


def kernel(channels: int = CHANNELS) -> np.ndarray:
    drawn = np.random.RandomState(3).uniform(-1, 1, (channels, 3, 4, 4))
    return drawn.astype(np.float32)


def tiny(
    nodes: Sequence[Any] = (),
    outputs: Sequence[tuple[str, Sequence[int | str]]] = (("map", ("n", CHANNELS, 8, 8)),),
    initializers: Sequence[Any] = (),
    *,
    shape: Sequence[int | str] = ("n", 3, SIDE, SIDE),
    domains: Sequence[str] = ("",),
    input_type: int = TensorProto.FLOAT,
) -> onnx.ModelProto:
    """Make a convolution of 4 x 4 pixels, and further nodes after it."""
    weights = numpy_helper.from_array(kernel(), "kernel")
    first = helper.make_node("Conv", ["image", "kernel"], ["map"], strides=[4, 4])
    graph = helper.make_graph(
        [first, *nodes],
        "tiny",
        [helper.make_tensor_value_info("image", input_type, shape)],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, each) for name, each in outputs],
        [weights, *initializers],
    )
    opsets = [helper.make_opsetid(domain, 17) for domain in domains]
    return helper.make_model(graph, opset_imports=opsets, ir_version=8)


def tokens(prefix: int = 1) -> onnx.ModelProto:
    """Make a network whose output is a row of tokens: so many numbers, and 64 patches."""
    shape = numpy_helper.from_array(np.array([1, CHANNELS, 64]), "shape")
    first = np.arange(prefix * CHANNELS, dtype=np.float32).reshape(1, prefix, CHANNELS)
    nodes = [
        helper.make_node("Reshape", ["map", "shape"], ["flat"]),
        helper.make_node("Transpose", ["flat"], ["patches"], perm=[0, 2, 1]),
        helper.make_node("Concat", ["first", "patches"], ["tokens"], axis=1),
    ]
    extra = [shape, numpy_helper.from_array(first, "first")]
    return tiny(nodes, [("tokens", (1, 64 + prefix, CHANNELS))], extra, shape=(1, 3, SIDE, SIDE))


def save(model: onnx.ModelProto | bytes, path: Path, description: str | None = DESCRIPTION) -> Path:
    content = model if isinstance(model, bytes) else model.SerializeToString()
    path.write_bytes(content)
    if description is not None:
        path.with_suffix(".toml").write_text(description, encoding="utf-8")
    return path


def expected_map(pixels: np.ndarray) -> np.ndarray:
    """Compute what `tiny` gives for uint8 pixels as `DESCRIPTION` says, (n, 8, 8, channels)."""
    scaled = (pixels / 255.0 - [0.5, 0.4, 0.3]) / [0.2, 0.25, 0.5]
    blocks = scaled.reshape(len(pixels), 8, 4, 8, 4, 3)
    return np.einsum("nyaxbc,ocab->nyxo", blocks, kernel())
