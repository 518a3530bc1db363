"""Boosted trees on embeddings that come in blocks, by XGBoost's own iterators.

The parts of columns that the trees of `models.heads.boosting` take in turn are binned to one byte a
number as they stream by.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Final

import h5py
import numpy as np
import numpy.typing as npt
import xgboost

from features.cache.rows import Rows, StoredTable
from models.heads.boosting import deal_out, edges_of

__all__ = ["BinnedParts", "PartsOnDisk"]

# The bins' edges are quantiles of so many rows: off by a third of a percent of the rows at most.
_EDGES_FROM: Final = 20_000
# What XGBoost holds for a number: its bin by rows, and by columns.
_BYTES: Final = 2


class PartsOnDisk:
    """Embeddings by parts of their columns, each part in one stretch of a file.

    Parameters
    ----------
    rows : Rows, shape (n, d)
    share : float
        Of the columns in each part, above 0 and at most 1.
    path : Path
        Of a file, which is overwritten.
    seed : int
        Of the dealing out, which is that of `models.heads.boosting.ColumnParts`.
    """

    def __init__(self, rows: Rows, share: float, path: Path, *, seed: int) -> None:
        n, d = rows.shape
        self.n, self.d = n, d
        self.columns = deal_out(d, share, seed)
        dtype = np.dtype(np.float16 if rows.stored_dtype == np.float16 else np.float32)
        with h5py.File(path, "w") as file:
            tables = [
                file.create_dataset(str(number), (n, len(columns)), dtype)
                for number, columns in enumerate(self.columns)
            ]
            start = 0
            for block in rows.blocks():
                for table, columns in zip(tables, self.columns, strict=True):
                    table[start : start + len(block)] = block[:, columns]
                start += len(block)
        self.parts = [
            Rows(StoredTable(path, str(number), (n, len(columns)), dtype))
            for number, columns in enumerate(self.columns)
        ]


class _Blocks(xgboost.DataIter):
    """Hands a part's rows to XGBoost, as often as it asks."""

    def __init__(self, rows: Rows, prefix: Path | None) -> None:
        super().__init__(cache_prefix=None if prefix is None else str(prefix))
        self._rows = rows
        self._blocks = rows.blocks()

    def reset(self) -> None:
        self._blocks = self._rows.blocks()

    def next(self, input_data: Callable[..., None]) -> bool:
        block = next(self._blocks, None)
        if block is None:
            return False
        input_data(data=block)
        return True


class BinnedParts:
    """The parts, binned for the rows to fit on.

    Parameters
    ----------
    parts : PartsOnDisk
    train : ndarray of int
    bins : int
        For each column.
    memory : int
        Bytes that may be taken; if the bins need more, XGBoost keeps them in files.
    folder : Path
        For those files.
    seed, jobs : int
    """

    def __init__(
        self,
        parts: PartsOnDisk,
        train: npt.NDArray[np.intp],
        *,
        bins: int,
        memory: int,
        folder: Path,
        seed: int,
        jobs: int,
    ) -> None:
        self.columns, self.d, self.rows = parts.columns, parts.d, len(train)
        self.in_memory = _BYTES * len(train) * parts.d <= memory
        chosen = np.sort(np.random.default_rng(seed).permutation(train)[:_EDGES_FROM])
        self.parts: list[xgboost.DMatrix] = []
        for number, part in enumerate(parts.parts):
            edges = edges_of(np.asarray(part[chosen], np.float32), bins)
            rows, options = part.take(train), {"max_bin": bins, "ref": edges, "nthread": jobs}
            if self.in_memory:
                self.parts.append(xgboost.QuantileDMatrix(_Blocks(rows, None), **options))
            else:
                blocks = _Blocks(rows, folder / f"part-{number}")
                self.parts.append(xgboost.ExtMemQuantileDMatrix(blocks, **options))
