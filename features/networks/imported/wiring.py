"""A network of OpenVINO's with what comes before and after it: from uint8 pixels to embeddings."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from features.networks.imported.onnx_checks import Refused
from features.networks.libraries import import_openvino

__all__ = ["wired"]


def wired(model: Any, request: Mapping[str, Any]) -> Any:
    """Join preparation, network and pooling.

    Parameters
    ----------
    model : openvino.Model
        Its input has its final shape. Altered.
    request : mapping
        ``size``, ``input``, ``layout``, ``channels``, ``divisor``, ``mean``, ``deviation``;
        ``layers``, each an output and what of it is read (``"map"``, ``"vector"``, ``"class"``,
        ``"patches"``); ``prefix`` and ``pooling``.

    Returns
    -------
    openvino.Model
        From uint8 (1, size, size, 3) to embeddings (1, d), and maps (1, height, width, channels).
    """
    openvino = import_openvino()
    ops = openvino.opset13
    size = request["size"]
    pixels = ops.parameter([1, size, size, 3], np.uint8, name="pixels")
    parameter = model.input(request["input"]).get_node()
    prepared = _prepared(ops, pixels, request)
    if (kind := parameter.get_element_type()) != openvino.Type.f32:
        prepared = ops.convert(prepared, kind.get_type_name())
    for target in parameter.output(0).get_target_inputs():
        target.replace_source_output(prepared.output(0))
    maps = [
        _map(ops, model.output(name).get_node().input_value(0), what, request["prefix"])
        for name, what in request["layers"]
    ]
    axes = np.array([1, 2])
    pooled = []
    for each in maps:
        mean = ops.reduce_mean(each, axes, keep_dims=True)
        pooled.append(ops.squeeze(mean, axes))
        if request["pooling"] == "mean+std":
            away = ops.subtract(each, mean)
            variance = ops.reduce_mean(ops.multiply(away, away), axes, keep_dims=False)
            pooled.append(ops.sqrt(variance))
    embedding = ops.concat(pooled, 1) if len(pooled) > 1 else pooled[0]
    return openvino.Model([embedding, *maps], [pixels], "network")


def _prepared(ops: Any, pixels: Any, request: Mapping[str, Any]) -> Any:
    values = ops.convert(pixels, "f32")
    if request["channels"] == "BGR":
        values = ops.gather(values, np.array([2, 1, 0]), np.array(3))
    for step, numbers, idle in (
        (ops.divide, request["divisor"], 1.0),
        (ops.subtract, request["mean"], 0.0),
        (ops.divide, request["deviation"], 1.0),
    ):
        if numbers != idle:
            values = step(values, np.asarray(numbers, np.float32))
    return ops.transpose(values, np.array([0, 3, 1, 2])) if request["layout"] == "NCHW" else values


def _map(ops: Any, output: Any, what: str, prefix: int) -> Any:
    """Make what is read of an output a map (1, height, width, channels)."""
    values = ops.convert(output, "f32")
    shape = list(values.get_output_shape(0))
    if what == "map":
        return ops.transpose(values, np.array([0, 2, 3, 1]))
    if what == "vector":
        return ops.reshape(values, np.array([1, 1, 1, shape[1]]), special_zero=False)
    if what == "class":
        first = ops.gather(values, np.array([0]), np.array(1))
        return ops.reshape(first, np.array([1, 1, 1, shape[2]]), special_zero=False)
    side = math.isqrt(shape[1] - prefix)
    if side * side != shape[1] - prefix:
        raise Refused(f"{shape[1] - prefix} patches are no square")
    patches = ops.gather(values, np.arange(prefix, shape[1]), np.array(1))
    return ops.reshape(patches, np.array([1, side, side, shape[2]]), special_zero=False)
