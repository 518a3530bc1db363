"""Embeddings that come block by block, and what all fits to them share."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from threadpoolctl import threadpool_limits

from features.cache.rows import Rows
from models.machine import available

__all__ = ["Blocks", "in_blocks"]


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
