"""Post-training quantisation: the network in 8-bit integers, several times as fast."""

from __future__ import annotations

import contextlib
import logging
import sys
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np

from features.errors import ExtractorError
from features.networks.libraries import import_openvino

__all__ = ["EXACT", "quantise"]

# By network: which convolutions, counted from the input, stay in float32 where several layers are
# read. InceptionV3's second and fourth are a quarter of the error, and a seventh of the time.
EXACT: Final[Mapping[str, tuple[int, ...]]] = {"inception_v3": (1, 3)}

# Four times as many make the ranges wider, and nothing more exact.
_CALIBRATION_IMAGES: Final = 60


def quantise(source: Path, target: Path, input_size: int, *, exact: Collection[int] = ()) -> None:
    """Write a network in 8-bit integers, all but what sums its layers up.

    The ranges of the activations are measured on drawn lesions, the same for everybody, so that
    they don't depend on whose images come first. They are the widest of all images: what is cut off
    moves single embeddings further than coarser steps move all of them. Means and deviations over
    positions stay in float32, where they cost next to nothing and 8 bits would be most of the
    error.

    Parameters
    ----------
    source, target : Path
        Networks in OpenVINO's format.
    input_size : int
        Side of the square input in pixels.
    exact : collection of int, optional
        Which convolutions stay in float32, too, counted from the input; see `EXACT`.

    Raises
    ------
    ExtractorError
        If NNCF, which quantises, is not installed.

    References
    ----------
    Kozlov et al., Neural Network Compression Framework for fast model inference, 2020; with its
    mixed preset and fast bias correction.
    """
    openvino = import_openvino()
    try:
        import nncf
        from nncf.quantization.range_estimator import RangeEstimatorParametersSet
    except ImportError as error:
        raise ExtractorError(
            "int8 needs NNCF, which is not installed: run `pip install nncf`, "
            "or leave --precision out"
        ) from error
    from features.datasets.drawn import LABELS, sample_lesion
    from features.datasets.drawn_lesion import draw_lesion

    rng = np.random.default_rng(0)
    drawn = [
        draw_lesion(sample_lesion(rng, LABELS[number % len(LABELS)]), input_size)[np.newaxis]
        for number in range(_CALIBRATION_IMAGES)
    ]
    nncf.set_log_level(logging.ERROR)
    model = openvino.Core().read_model(source)
    # Its progress bars are no results.
    with contextlib.redirect_stdout(sys.stderr):
        quantised = nncf.quantize(
            model,
            nncf.Dataset(drawn),
            subset_size=len(drawn),
            preset=nncf.QuantizationPreset.MIXED,
            ignored_scope=nncf.IgnoredScope(names=[*_pooling(model), *_parts(model, exact)]),
            advanced_parameters=nncf.AdvancedQuantizationParameters(
                activations_range_estimator_params=RangeEstimatorParametersSet.MINMAX
            ),
        )
    openvino.save_model(quantised, target, compress_to_fp16=False)


def _parts(model: Any, wanted: Collection[int]) -> list[str]:
    """Name convolutions, and the operations that follow them up to the next."""
    found: list[str] = []
    number = -1
    for operation in model.get_ordered_ops():
        kind = operation.get_type_name()
        number += "Convolution" in kind
        if number in wanted and kind not in {"Constant", "Convert"}:
            found.append(operation.get_friendly_name())
    return found


def _pooling(model: Any) -> list[str]:
    """Name the operations that make the embeddings, which are (n, d), of the maps."""
    embeddings: dict[str, str] = {}
    maps: dict[str, str] = {}
    for result in model.get_results():
        vectors = len(result.input(0).get_partial_shape()) == 2
        (embeddings if vectors else maps).update(_beneath(result))
    return [
        name
        for name, kind in embeddings.items()
        if name not in maps and kind not in {"Constant", "Convert", "Result"}
    ]


def _beneath(result: Any) -> dict[str, str]:
    """Name the operations that something is computed by, and say of what kind they are."""
    found: dict[str, str] = {}
    waiting = [result]
    while waiting:
        operation = waiting.pop()
        if operation.get_friendly_name() not in found:
            found[operation.get_friendly_name()] = operation.get_type_name()
            waiting += [each.get_source_output().get_node() for each in operation.inputs()]
    return found
