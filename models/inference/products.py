"""Products with many vectors that are kept in half precision and never copied out of it."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any, ClassVar, Final

import numpy as np
import numpy.typing as npt

from features.networks.libraries import import_openvino

__all__ = ["inner_products", "weighted_sums"]

Halves = npt.NDArray[np.float16]
Floats = npt.NDArray[np.float32]

# In single precision these take 3 MB, for as long as they are needed. With half or twice as many a
# product takes a quarter longer: calls cost, and so does what the caches don't hold.
_NUMBERS: Final = 32 * 25_600


def inner_products(rows: Floats, vectors: Halves) -> Floats:
    """Multiply rows (n, d) by vectors (m, d), shape (n, m), in single precision.

    Parameters
    ----------
    rows : ndarray of float32, shape (n, d)
    vectors : ndarray of float16, shape (m, d)
        Turned into single precision a block at a time.

    Returns
    -------
    ndarray of float32, shape (n, m)

    Notes
    -----
    NumPy takes some 1.6 ns to turn a number of half precision into single, half as long as the
    network for an SVM's 33 million; the processor's own instruction, which OpenVINO uses, a tenth
    of that.

    Examples
    --------
    >>> inner_products(np.array([[1, 2]], np.float32), np.array([[3, 4], [5, 6]], np.float16))
    array([[11., 17.]], dtype=float32)
    """
    rows = np.ascontiguousarray(rows)
    found = np.empty((len(rows), len(vectors)), np.float32)
    for part in _blocks(vectors):
        found[:, part] = _multiply(rows, np.ascontiguousarray(vectors[part]), turned=True)
    return found


def weighted_sums(weights: Floats, vectors: Halves) -> Floats:
    """Multiply weights (n, m) by vectors (m, d), shape (n, d), in single precision.

    Parameters
    ----------
    weights : ndarray of float32, shape (n, m)
    vectors : ndarray of float16, shape (m, d)
        As for `inner_products`.

    Returns
    -------
    ndarray of float32, shape (n, d)

    Examples
    --------
    >>> weighted_sums(np.array([[1, 2]], np.float32), np.array([[3, 4], [5, 6]], np.float16))
    array([[13., 16.]], dtype=float32)
    """
    found = np.zeros((len(weights), vectors.shape[1]), np.float32)
    for part in _blocks(vectors):
        some = np.ascontiguousarray(weights[:, part])
        found += _multiply(some, np.ascontiguousarray(vectors[part]), turned=False)
    return found


def _blocks(vectors: Halves) -> Iterator[slice]:
    step = max(1, _NUMBERS // max(1, vectors.shape[1]))
    for start in range(0, len(vectors), step):
        yield slice(start, start + step)


def _multiply(rows: Floats, block: Halves, *, turned: bool) -> Floats:
    multiplier = _Multiplier.of_the_process(turned=turned)
    if multiplier is not None:
        return multiplier(rows, block)
    singles = block.astype(np.float32)
    return rows @ (singles.T if turned else singles)


class _Multiplier:
    _made: ClassVar[dict[bool, _Multiplier]] = {}
    _making = threading.Lock()

    @classmethod
    def of_the_process(cls, *, turned: bool) -> _Multiplier | None:
        """Give the one of the process; None where OpenVINO is not installed."""
        with cls._making:
            if turned not in cls._made:
                try:
                    cls._made[turned] = cls(import_openvino(), turned=turned)
                except ImportError:
                    return None
            return cls._made[turned]

    def __init__(self, openvino: Any, *, turned: bool) -> None:
        from openvino import opset13 as ops

        rows = ops.parameter([-1, -1], np.float32)
        block = ops.parameter([-1, -1], np.float16)
        product = ops.matmul(rows, ops.convert(block, np.float32), False, turned)
        options = {"INFERENCE_PRECISION_HINT": "f32", "NUM_STREAMS": 1, "ENABLE_CPU_PINNING": False}
        model = openvino.Model([product], [rows, block])
        self._tensor = openvino.Tensor
        self._request = openvino.Core().compile_model(model, "CPU", options).create_infer_request()
        self._running = threading.Lock()

    def __call__(self, rows: Floats, block: Halves) -> Floats:
        given = [self._tensor(each, shared_memory=True) for each in (rows, block)]
        with self._running:
            self._request.infer(given)
            return np.array(self._request.get_output_tensor(0).data)
