"""Embeddings that come block by block, and what all fits to them share."""

from __future__ import annotations

import contextlib
import tempfile
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeVar

import numpy as np
import numpy.typing as npt
from threadpoolctl import threadpool_limits

from features.cache.rows import Rows
from models.machine import available

__all__ = ["Blocks", "in_blocks", "over_blocks"]

Found = TypeVar("Found")

# Blocks that are worked on at the same time: reading them keeps no more threads busy.
_AT_ONCE: Final = 4


@dataclass(frozen=True)
class Blocks:
    """Embeddings that come block by block, and what all fits to them share.

    Parameters
    ----------
    rows : Rows, shape (n, d)
    seed, jobs : int
    aside : Path
        A folder for the time being.
    common : ndarray of int, optional
        Rows that all folds fit on, for a final fit; all rows by default.
    """

    rows: Rows
    seed: int
    jobs: int
    aside: Path
    common: npt.NDArray[np.intp] | None = None

    @property
    def memory(self) -> int:
        """Bytes that one head's preparations may take."""
        return self.rows.memory // 2 if self.rows.memory else available() // 2

    def mask(self, train: npt.NDArray[np.intp]) -> npt.NDArray[np.bool_]:
        """Mark the rows of these numbers."""
        found = np.zeros(len(self.rows), bool)
        found[train] = True
        return found


@contextlib.contextmanager
def in_blocks(X: npt.NDArray[Any] | Rows, seed: int, jobs: int) -> Iterator[Blocks]:
    """Hold back the linear algebra's threads and keep a folder as long as blocks are worked on."""
    with threadpool_limits(limits=jobs), tempfile.TemporaryDirectory(prefix="lesion-") as aside:
        yield Blocks(X if isinstance(X, Rows) else Rows(X), seed, jobs, Path(aside))


def over_blocks(
    rows: Rows, work: Callable[[slice, npt.NDArray[np.float32]], Found], jobs: int
) -> Iterator[Found]:
    """Do the same with every block, with some at the same time, while the next ones are read.

    Parameters
    ----------
    rows : Rows, shape (n, d)
    work : callable
        Is given the places of some rows, and the rows, which it may change.
    jobs : int
        Threads, besides that which reads.

    Yields
    ------
    object
        What came of each block, in their order, so that sums are always the same.
    """
    if jobs == 1:
        for place, block in _placed(rows):
            yield work(place, block)
        return
    count = min(jobs, _AT_ONCE)
    with threadpool_limits(limits=1), ThreadPoolExecutor(count) as pool:
        waiting = deque[Any]()
        for place, block in _placed(rows):
            waiting.append(pool.submit(work, place, block))
            if len(waiting) > count:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def _placed(rows: Rows) -> Iterator[tuple[slice, npt.NDArray[np.float32]]]:
    start = 0
    for block in rows.blocks():
        yield slice(start, start + len(block)), block
        start += len(block)
