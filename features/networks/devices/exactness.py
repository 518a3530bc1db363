"""What fp32 and TF32 mean: set for the backend, and proven by a product that tells them apart.

Recent GPUs round float32 factors to the ten bits of TF32 unless told not to, and call it float32
still. Whether they were told right is not believed but computed.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from features.errors import ExtractorError
from features.networks.keras import import_keras

__all__ = ["EXACT", "arithmetic", "deviation", "require_arithmetic"]

Floats = npt.NDArray[np.float32]

# Sums of 576 float32 products differ by 1e-6 with their order; factors of ten bits give 4.9e-4.
EXACT: Final = 2e-5
_ROUNDED: Final = 1e-4


@contextlib.contextmanager
def arithmetic(precision: str) -> Iterator[None]:
    """Have the backend of Keras multiply float32 numbers so, here and now.

    Parameters
    ----------
    precision : {"fp32", "tf32", "bf16"}
        ``"fp32"`` multiplies all 24 bits, ``"tf32"`` may round factors to 11. Of no account for
        products that are not of float32 numbers.
    """
    rounded = precision == "tf32"
    backend = import_keras().backend.backend()
    if backend == "jax":
        import jax

        with jax.default_matmul_precision("tensorfloat32" if rounded else "highest"):
            yield
        return
    if backend == "torch":
        _set_torch("tf32" if rounded else "ieee")
    elif backend == "tensorflow":
        import tensorflow

        tensorflow.config.experimental.enable_tensor_float_32_execution(rounded)
    yield


def require_arithmetic(precision: str, device: str) -> None:
    """Refuse a device that computes otherwise than its precision is called.

    Parameters
    ----------
    precision : {"fp32", "tf32", "bf16"}
        bf16 is a type of its own, in which nothing is rounded in secret.
    device : str
        What computes, for the message.

    Raises
    ------
    ExtractorError
        If fp32 comes out with rounded factors, or TF32 without.
    """
    if precision == "bf16":
        return
    ops = import_keras().ops

    def numbers(result: Any) -> Floats:
        return np.asarray(ops.convert_to_numpy(result), np.float32)

    with arithmetic(precision):
        matrices, kernels = deviation(
            lambda left, right: numbers(ops.matmul(left, right)),
            lambda maps, kernel: numbers(
                ops.conv(maps, kernel, 1, "valid", data_format="channels_last")
            ),
        )
    judge(precision, device, matrices, kernels)


def judge(precision: str, device: str, matrices: float, kernels: float) -> None:
    """Refuse what `deviation` found of a device if that is not its precision.

    Raises
    ------
    ExtractorError
        See `require_arithmetic`.
    """
    if precision == "tf32":
        # Networks are made of convolutions; matrix products decide nothing.
        if kernels < _ROUNDED:
            raise ExtractorError(
                f"{device} has no TF32: a convolution came out exact to {kernels:.0e}, where TF32 "
                "is 4.9e-04 off; use --precision fp32, which is what it computes"
            )
    elif max(matrices, kernels) > EXACT:
        raise ExtractorError(
            f"{device} does not compute in fp32: a product is {max(matrices, kernels):.0e} off and "
            f"a float32 one at most {EXACT:.0e}, so that its numbers would be taken for others; "
            "use --precision tf32 or bf16, or --engine openvino"
        )


def deviation(
    multiply: Callable[[Floats, Floats], Floats], convolve: Callable[[Floats, Floats], Floats]
) -> tuple[float, float]:
    """Compute a matrix product and a convolution, and say how far they are off.

    Every factor is a power of two times 1 + 2^-12: float32 holds it, TF32, bf16 and half precision
    round it down to the power of two, and all products then are off by 4.9e-4, in one direction.

    Parameters
    ----------
    multiply : callable
        (256, 512) and (512, 256) to their product.
    convolve : callable
        Maps (2, 35, 35, 64) and a kernel (3, 3, 64, 96) to maps (2, 33, 33, 96), without padding.

    Returns
    -------
    tuple of float
        The largest relative error of either.
    """
    rng = np.random.default_rng(0)

    def factors(*shape: int) -> Floats:
        return np.asarray(np.exp2(rng.integers(-2, 3, shape)) * (1 + 2.0**-12), np.float32)

    left, right = factors(256, 512), factors(512, 256)
    maps, kernel = factors(2, 35, 35, 64), factors(3, 3, 64, 96)
    exact = left.astype(np.float64) @ right
    sums = np.zeros((2, 33, 33, 96))
    for row in range(3):
        for column in range(3):
            part = maps[:, row : row + 33, column : column + 33].astype(np.float64)
            sums += part @ kernel[row, column]
    return (
        float(np.abs(multiply(left, right) / exact - 1).max()),
        float(np.abs(convolve(maps, kernel) / sums - 1).max()),
    )


def _set_torch(how: str) -> None:
    import torch

    if hasattr(torch.backends, "fp32_precision"):
        # Each of these has a value of its own once that was set, convolutions from the start.
        for place in (torch.backends, torch.backends.cuda.matmul, torch.backends.cudnn.conv):
            place.fp32_precision = how
    else:
        torch.backends.cuda.matmul.allow_tf32 = how == "tf32"
        torch.backends.cudnn.allow_tf32 = how == "tf32"
