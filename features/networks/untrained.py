"""Random weights that are the same on every machine, for trials where no trained ones are at hand.

Kernels are drawn uniformly (He et al. 2015, *Delving Deep into Rectifiers*) from a generator
whose stream numpy has frozen. Batch-norm statistics of InceptionV3 were set once, from drawn
lesions, and are kept beside this module (scripts/untrained.py): computed anew they would differ in
their last digits between machines. Other networks have means of 0 and variances of 1.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from features.networks.registry import KerasApplication

__all__ = ["DATA", "set_untrained_weights", "untrained_sha256"]

_SEED = 2017
DATA = Path(__file__).parent / "data"

Array = npt.NDArray[np.float32]


def set_untrained_weights(base: Any, origin: KerasApplication) -> None:
    """Give a Keras network without its top the untrained weights."""
    file = origin.untrained_statistics
    statistics = dict(np.load(DATA / file)) if file else {}
    for weight, value in zip(base.weights, _values(base, statistics), strict=True):
        weight.assign(value)
    for layer in base.layers:
        # Of networks that scale their pixels themselves, by what was just assigned.
        if hasattr(layer, "finalize_state"):
            layer.finalize_state()


def untrained_sha256(base: Any) -> str:
    """Hash a network's weights, in the order of Keras."""
    digest = hashlib.sha256()
    for value in base.get_weights():
        digest.update(np.ascontiguousarray(value, "<f4").tobytes())
    return digest.hexdigest()


def _values(base: Any, statistics: dict[str, Array]) -> Iterator[Array]:
    stream = np.random.RandomState(_SEED)
    by_channel = {
        weight.path
        for layer in base.layers
        if type(layer).__name__ in {"DepthwiseConv2D", "SeparableConv2D"}
        for weight in layer.weights
        if not weight.path.endswith("pointwise_kernel")
    }
    taken = 0
    for weight in base.weights:
        kind, shape = weight.path.rsplit("/", 1)[-1], tuple(weight.shape)
        if kind.endswith("kernel"):
            inputs = shape[:2] if weight.path in by_channel else shape[:-1]
            limit = np.sqrt(6.0 / np.prod(inputs))
            yield (stream.uniform(-1.0, 1.0, shape) * limit).astype(np.float32)
        elif kind == "moving_mean":
            yield (
                statistics["mean"][taken : taken + shape[0]]
                if statistics
                else np.zeros(shape, "f4")
            )
        elif kind == "moving_variance":
            yield (
                statistics["variance"][taken : taken + shape[0]]
                if statistics
                else np.ones(shape, "f4")
            )
            taken += shape[0]
        elif kind in {"beta", "bias", "mean", "count"}:
            yield np.zeros(shape, np.float32)
        else:
            yield np.ones(shape, np.float32)
