from __future__ import annotations

import numpy as np
import pytest

from features.errors import ExtractorError
from features.networks.devices.exactness import (
    EXACT,
    arithmetic,
    deviation,
    judge,
    require_arithmetic,
)
from features.networks.keras import import_keras


def convolve(maps: np.ndarray, kernel: np.ndarray) -> np.ndarray:
    windows = np.lib.stride_tricks.sliding_window_view(maps, (3, 3), axis=(1, 2))
    return np.einsum("nhwcij,ijco->nhwo", windows, kernel, optimize=True)


def rounded(values: np.ndarray, kept: int) -> np.ndarray:
    """Keep so many bits after the leading one, to the nearest."""
    bits = values.view(np.uint32).astype(np.uint64)
    away = 23 - kept
    return ((bits + (1 << (away - 1))) >> away << away).astype(np.uint32).view(np.float32)


def found(kept: int) -> tuple[float, float]:
    return deviation(
        lambda a, b: rounded(a, kept) @ rounded(b, kept),
        lambda a, b: convolve(rounded(a, kept), rounded(b, kept)),
    )


@pytest.mark.parametrize("kept", [7, 10], ids=["bf16", "tf32"])
def test_rounded_factors_are_found_out(kept: int) -> None:
    expected = 1 - (1 + 2.0**-12) ** -2
    assert found(kept) == pytest.approx((expected, expected), rel=0.1)
    with pytest.raises(ExtractorError, match=r"an H100 does not compute in fp32.*--precision tf32"):
        judge("fp32", "an H100", *found(kept))


@pytest.mark.parametrize("place", [0, 1])
def test_a_single_kind_of_product_that_is_rounded_is_enough_to_refuse(place: int) -> None:
    off = [1e-7, 1e-7]
    off[place] = 4.9e-4
    with pytest.raises(ExtractorError, match="5e-04 off"):
        judge("fp32", "a device", *off)


def test_exact_products_are_fp32_and_no_tf32() -> None:
    exact = deviation(lambda a, b: a @ b, convolve)
    assert max(exact) < EXACT / 4
    judge("fp32", "a device", *exact)
    judge("tf32", "a device", *found(10))
    with pytest.raises(ExtractorError, match=r"a device has no TF32.*use --precision fp32"):
        judge("tf32", "a device", *exact)


def test_the_device_at_hand_computes_in_fp32_whatever_was_set_before() -> None:
    with arithmetic("tf32"):
        require_arithmetic("fp32", "this device")


def test_products_of_keras_in_bf16_are_found_out() -> None:
    ops = import_keras().ops

    def coarse(values: np.ndarray) -> object:
        return ops.cast(values, "bfloat16")

    off = deviation(
        lambda a, b: np.asarray(ops.cast(ops.matmul(coarse(a), coarse(b)), "float32")),
        lambda a, b: np.asarray(
            ops.cast(
                ops.conv(coarse(a), coarse(b), 1, "valid", data_format="channels_last"), "float32"
            )
        ),
    )
    assert min(off) > 10 * EXACT
