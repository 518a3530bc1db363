"""Mean and deviation of every column over some rows, for several choices of rows at once."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt

__all__ = ["Sums", "stretches"]

Floats = npt.NDArray[np.float64]

_ROUNDING: Final = 1e-6
# Of embeddings at once: enough for products at full speed, and to stay in the caches.
_STRETCH_BYTES: Final = 8 * 2**20


def stretches(n: int, d: int) -> list[slice]:
    """Give the columns of n rows in stretches that stay in the processor's caches."""
    step = max(64, _STRETCH_BYTES // (4 * max(n, 1)))
    return [slice(start, start + step) for start in range(0, d, step)]


class Sums:
    """Sums of the columns over parts of the rows, found when first asked for.

    Folds that each leave out one of the parts need one pass over the embeddings, not one each.

    Parameters
    ----------
    X : ndarray, shape (n, d)
    parts : sequence of ndarray of int
        Row numbers; none twice.
    """

    def __init__(self, X: npt.NDArray[Any], parts: Sequence[npt.NDArray[np.intp]]) -> None:
        self._X, self._parts = X, parts
        self._counts = np.array([len(part) for part in parts])
        self._summing = threading.Lock()
        self._found: tuple[Floats, Floats, Floats] | None = None

    def moments(self, parts: Sequence[int]) -> tuple[Floats, Floats]:
        """Give mean and deviation over these parts together, each of shape (d,).

        Summed in double precision. The deviation of a column without any spread but that of
        rounding is 1.
        """
        with self._summing:
            if self._found is None:
                self._found = self._sum()
        centre, first, second = self._found
        taken = list(parts)
        n = self._counts[taken].sum()
        beside = first[taken].sum(axis=0) / n
        mean = centre + beside
        square = second[taken].sum(axis=0) / n - beside**2
        deviation = np.sqrt(np.maximum(square, 0))
        deviation[deviation <= _ROUNDING * np.abs(mean)] = 1
        return mean, deviation

    def _sum(self) -> tuple[Floats, Floats, Floats]:
        """Sum what the columns and their squares have beyond a centre, which takes no digits."""
        rows = np.concatenate(self._parts)
        ends = np.cumsum(self._counts[:-1])
        d = self._X.shape[1]
        centre, shape = np.empty(d), (len(self._parts), d)
        first, second = np.empty(shape), np.empty(shape)
        for columns in stretches(len(rows), d):
            values = np.asarray(self._X[rows, columns], np.float32)
            middle = values.mean(axis=0, dtype=np.float64).astype(np.float32)
            centre[columns] = middle
            values -= middle
            for found in (first, second):
                for place, part in enumerate(np.split(values, ends)):
                    found[place, columns] = part.sum(axis=0, dtype=np.float64)
                np.square(values, out=values)
        return centre, first, second
