"""Inner products with many vectors that are kept in half precision and never copied out of it."""

from __future__ import annotations

import threading
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from features.networks.libraries import import_openvino

__all__ = ["inner_products"]

Halves = npt.NDArray[np.float16]
Floats = npt.NDArray[np.float32]

# So many vectors of 25,600 numbers take 7 MB in single precision, for as long as they are needed.
_NUMBERS: Final = 64 * 25_600


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
    step = max(1, _NUMBERS // max(1, vectors.shape[1]))
    rows = np.ascontiguousarray(rows)
    found = np.empty((len(rows), len(vectors)), np.float32)
    for start in range(0, len(vectors), step):
        block = np.ascontiguousarray(vectors[start : start + step])
        found[:, start : start + step] = _multiply(rows, block)
    return found


def _multiply(rows: Floats, block: Halves) -> Floats:
    multiplier = _Multiplier.of_the_process()
    return rows @ block.astype(np.float32).T if multiplier is None else multiplier(rows, block)


class _Multiplier:
    _one: _Multiplier | None = None
    _making = threading.Lock()

    @classmethod
    def of_the_process(cls) -> _Multiplier | None:
        """Give the one of the process; None where OpenVINO is not installed."""
        with cls._making:
            if cls._one is None:
                try:
                    cls._one = cls(import_openvino())
                except ImportError:
                    return None
        return cls._one

    def __init__(self, openvino: Any) -> None:
        from openvino import opset13 as ops

        rows = ops.parameter([-1, -1], np.float32)
        block = ops.parameter([-1, -1], np.float16)
        product = ops.matmul(rows, ops.convert(block, np.float32), False, True)
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
