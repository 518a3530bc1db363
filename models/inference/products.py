"""Products with many vectors that are kept in half precision and never copied out of it."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterable, Iterator
from typing import Any, ClassVar, Final

import numpy as np
import numpy.typing as npt

from features.images.processes import usable_cores
from features.networks.libraries import import_openvino

__all__ = ["inner_products", "weighted_sums"]

Halves = npt.NDArray[np.float16]
Floats = npt.NDArray[np.float32]

# In single precision these take 6.5 MB for each core, for as long as they are needed. With half as
# many a product takes a fifth longer, since calls cost.
_NUMBERS: Final = 64 * 25_600
_MOST_AT_ONCE: Final = 4


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
    parts = _blocks(vectors)
    blocks = ((rows, np.ascontiguousarray(vectors[part])) for part in parts)
    for part, product in zip(parts, _multiply(blocks, turned=True), strict=True):
        found[:, part] = product
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
    blocks = (
        (np.ascontiguousarray(weights[:, part]), np.ascontiguousarray(vectors[part]))
        for part in _blocks(vectors)
    )
    for product in _multiply(blocks, turned=False):
        found += product
    return found


def _blocks(vectors: Halves) -> list[slice]:
    step = max(1, _NUMBERS // max(1, vectors.shape[1]))
    return [slice(start, start + step) for start in range(0, len(vectors), step)]


def _multiply(blocks: Iterable[tuple[Floats, Halves]], *, turned: bool) -> Iterator[Floats]:
    """Give the product of each pair, in order."""
    multiplier = _Multiplier.of_the_process(turned=turned)
    if multiplier is not None:
        yield from multiplier(blocks)
        return
    for rows, block in blocks:
        singles = block.astype(np.float32)
        yield rows @ (singles.T if turned else singles)


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
        count = min(usable_cores(), _MOST_AT_ONCE)
        options = {
            "INFERENCE_PRECISION_HINT": "f32",
            "NUM_STREAMS": count,
            "INFERENCE_NUM_THREADS": count,
            "ENABLE_CPU_PINNING": False,
        }
        model = openvino.Model([product], [rows, block])
        compiled = openvino.Core().compile_model(model, "CPU", options)
        self._tensor = openvino.Tensor
        self._requests = [compiled.create_infer_request() for _ in range(count)]
        self._running = threading.Lock()

    def __call__(self, blocks: Iterable[tuple[Floats, Halves]]) -> Iterator[Floats]:
        with self._running:
            # With what they are given, which must stay until they are done.
            begun: deque[tuple[Any, list[Any]]] = deque()
            try:
                for place, pair in enumerate(blocks):
                    if len(begun) == len(self._requests):
                        yield self._finished(begun)
                    request = self._requests[place % len(self._requests)]
                    given = [self._tensor(each, shared_memory=True) for each in pair]
                    request.start_async(given)
                    begun.append((request, given))
                while begun:
                    yield self._finished(begun)
            finally:
                for request, _ in begun:
                    request.wait()

    @staticmethod
    def _finished(begun: deque[tuple[Any, list[Any]]]) -> Floats:
        request, _ = begun.popleft()
        request.wait()
        return np.array(request.get_output_tensor(0).data)
