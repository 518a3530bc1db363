"""Post-training quantisation: the network in 8-bit integers, several times as fast."""

from __future__ import annotations

import contextlib
import logging
import sys
from pathlib import Path
from typing import Final

import numpy as np

from features.errors import ExtractorError
from features.networks.libraries import import_openvino

__all__ = ["quantise"]

_CALIBRATION_IMAGES: Final = 240


def quantise(source: Path, target: Path, input_size: int) -> None:
    """Write a network in 8-bit integers.

    The ranges of the activations are measured on drawn lesions, the same for everybody, so that
    they don't depend on whose images come first.

    Parameters
    ----------
    source, target : Path
        Networks in OpenVINO's format.
    input_size : int
        Side of the square input in pixels.

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
    # Its progress bars are no results.
    with contextlib.redirect_stdout(sys.stderr):
        quantised = nncf.quantize(
            openvino.Core().read_model(source),
            nncf.Dataset(drawn),
            subset_size=len(drawn),
            preset=nncf.QuantizationPreset.MIXED,
        )
    openvino.save_model(quantised, target, compress_to_fp16=False)
