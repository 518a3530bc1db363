"""Boosted trees on many columns, each tree grown on a part of them.

XGBoost samples columns for a tree only after it has counted them all, which on thousands of columns
is nearly all of its work. Here the columns are dealt out into parts, once, and the trees take the
parts in turn: the same column sampling, but without replacement, and with a part's work for a
tree. It is XGBoost that bins, grows and predicts; the parts' trees are put together afterwards into
one ordinary model of all columns. Embeddings that come by blocks are binned to one byte a number as
they stream by, through XGBoost's own iterators.

Rows to judge by are binned with the others but weigh nothing while trees grow, so that each tree's
share of their scores comes with it, and one binning serves several folds. Where bins begin is for
rows to say that all of them fit on.
"""

from __future__ import annotations

import json
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any, Final

import h5py
import numpy as np
import numpy.typing as npt
import xgboost
from scipy.special import expit, logit

from features.cache.rows import Rows, StoredTable

__all__ = [
    "BinnedParts",
    "Boosting",
    "ColumnParts",
    "Parts",
    "PartsOnDisk",
    "deal_out",
    "edges_of",
    "runs_of",
]

# The bins' edges are quantiles of so many rows: off by a third of a percent of the rows at most.
_EDGES_FROM: Final = 20_000
# What XGBoost holds for a number: its bin by rows, and by columns.
_BYTES: Final = 2
_LEAST_HESSIAN: Final = 1e-16  # XGBoost's own
_TREES: Final = "n_estimators"


class Parts(ABC):
    """Embeddings by parts of their columns, each binned when the first tree takes it.

    Parameters
    ----------
    rows : int
        Images.
    d : int
        Columns in all parts.
    columns : sequence of ndarray of int
        Which are in each part.
    """

    def __init__(self, rows: int, d: int, columns: Sequence[npt.NDArray[np.intp]]) -> None:
        self.rows, self.d, self.columns = rows, d, columns
        self._binned: dict[int, Future[xgboost.DMatrix]] = {}
        self._binning = threading.Lock()

    def __getitem__(self, number: int) -> xgboost.DMatrix:
        """Give a part's values."""
        self._bin_first(number)
        return self._binned[number].result()

    def bin_for(self, trees: int) -> None:
        """Bin what so many trees will take, but for what other threads are at already."""
        for number in range(min(trees, len(self.columns))):
            self._bin_first(number)

    def _bin_first(self, number: int) -> None:
        with self._binning:
            if number in self._binned:
                return
            binned = self._binned[number] = Future()
        try:
            binned.set_result(self._bin(number))
        except BaseException as error:
            binned.set_exception(error)
            raise

    @abstractmethod
    def _bin(self, number: int) -> xgboost.DMatrix:
        """Bin a part."""


def deal_out(d: int, share: float, seed: int) -> list[npt.NDArray[np.intp]]:
    """Deal columns out into parts.

    Parameters
    ----------
    d : int
        How many there are.
    share : float
        Of them in each part, above 0 and at most 1.
    seed : int

    Returns
    -------
    list of ndarray of int
        Numbers of the columns, rising in each part; every column is in one part.

    Examples
    --------
    >>> [part.tolist() for part in deal_out(6, 0.5, seed=0)]
    [[2, 3, 5], [0, 1, 4]]
    """
    shuffled = np.random.default_rng(seed).permutation(d)
    return [np.sort(part) for part in np.array_split(shuffled, max(1, round(1 / share)))]


def edges_of(values: npt.NDArray[np.float32], bins: int) -> xgboost.QuantileDMatrix:
    """Find where the bins of columns begin: at evenly spaced quantiles.

    Parameters
    ----------
    values : ndarray of float32, shape (n, k)
    bins : int

    Returns
    -------
    xgboost.QuantileDMatrix
        For others to be binned alike (``ref``). XGBoost finds nearly the same in thrice the time.
    """
    n = len(values)
    at = np.arange(bins) * n // bins
    return xgboost.QuantileDMatrix(np.sort(values, axis=0)[at], max_bin=bins, nthread=1)


def runs_of(candidates: Sequence[Mapping[str, Any]]) -> list[list[int]]:
    """Group settings that differ in the number of trees alone: one run serves them all.

    Parameters
    ----------
    candidates : sequence of mapping

    Returns
    -------
    list of list of int
        Places in `candidates`; in each list that of the most trees comes first.
    """
    runs: dict[str, list[int]] = {}
    for place, settings in enumerate(candidates):
        others = {name: value for name, value in settings.items() if name != _TREES}
        runs.setdefault(repr(sorted(others.items())), []).append(place)
    return [sorted(run, key=lambda place: -candidates[place][_TREES]) for run in runs.values()]


class ColumnParts(Parts):
    """Embeddings in memory by parts of their columns.

    Parameters
    ----------
    X : ndarray, shape (n, d)
    share : float
        Of the columns in each part, above 0 and at most 1.
    train : ndarray of int, optional
        The rows that say where bins begin; all by default.
    bins : int
        For each column, at most.
    seed : int
        Of the dealing out.
    jobs : int
        Threads.
    """

    def __init__(
        self,
        X: npt.NDArray[Any],
        share: float,
        train: npt.NDArray[np.intp] | None = None,
        *,
        bins: int,
        seed: int,
        jobs: int,
    ) -> None:
        n, d = X.shape
        super().__init__(n, d, deal_out(d, share, seed))
        self._X, self._train, self._bins, self._jobs = X, train, bins, jobs

    def _bin(self, number: int) -> xgboost.DMatrix:
        columns = self.columns[number]
        # It takes half as long as where NumPy looks for numbers that are too large.
        part = np.empty((self.rows, len(columns)), self._X.dtype)
        self._X.take(columns, axis=1, out=part, mode="clip")
        values = np.asarray(part, np.float32)
        edges = edges_of(values if self._train is None else values[self._train], self._bins)
        return xgboost.QuantileDMatrix(values, max_bin=self._bins, ref=edges, nthread=self._jobs)


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
        Of the dealing out, which is that of `ColumnParts`.
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
                # HDF5 and indexing would take ten times as long.
                stored = block.astype(dtype, copy=False)
                for table, columns in zip(tables, self.columns, strict=True):
                    table[start : start + len(block)] = stored.take(columns, axis=1, mode="clip")
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


class BinnedParts(Parts):
    """The parts, binned block by block.

    Parameters
    ----------
    parts : PartsOnDisk
    train : ndarray of int
        The rows that say where bins begin.
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
        super().__init__(parts.n, parts.d, parts.columns)
        self.in_memory = _BYTES * parts.n * parts.d <= memory
        self._parts, self._folder, self._bins, self._jobs = parts.parts, folder, bins, jobs
        self._sample = np.sort(np.random.default_rng(seed).permutation(train)[:_EDGES_FROM])

    def _bin(self, number: int) -> xgboost.DMatrix:
        part = self._parts[number]
        edges = edges_of(np.asarray(part[self._sample], np.float32), self._bins)
        options = {"max_bin": self._bins, "ref": edges, "nthread": self._jobs}
        if self.in_memory:
            return xgboost.QuantileDMatrix(_Blocks(part, None), **options)
        blocks = _Blocks(part, self._folder / f"part-{number}")
        return xgboost.ExtMemQuantileDMatrix(blocks, **options)


class Boosting:
    """Trees for log loss, grown one after the other.

    Parameters
    ----------
    binned : Parts
    y : ndarray of int, shape (rows,)
        1 for the positive class, 0 for the rest; both occur.
    parameters : dict
        XGBoost's, of a binary model; the column sampling is that of the parts.
    train : ndarray of int, optional
        The rows to fit on: the others weigh nothing. All by default.
    jobs : int
        Threads.
    """

    def __init__(
        self,
        binned: Parts,
        y: npt.NDArray[Any],
        parameters: dict[str, Any],
        train: npt.NDArray[np.intp] | None = None,
        *,
        jobs: int,
    ) -> None:
        self._binned, self._labels = binned, np.asarray(y, np.float32)
        self._weights = np.full(binned.rows, train is None, np.float32)
        if train is not None:
            self._weights[train] = 1
        share = float(self._labels[self._weights > 0].mean())
        known = {name: value for name, value in parameters.items() if name != "colsample_bytree"}
        self._known = known | {"base_score": share, "nthread": jobs, "n_jobs": jobs}
        self._start = np.full(binned.rows, logit(share), np.float32)
        self.margins: npt.NDArray[np.float32] = self._start.copy()
        self.trees = 0
        self._boosters: list[xgboost.Booster] = []
        self._totals: list[npt.NDArray[np.float32]] = []

    def grow(self, trees: int) -> npt.NDArray[np.float32]:
        """Go on until there are so many trees.

        Returns
        -------
        ndarray of float32, shape (rows,)
            The margins of all rows, also of those that weigh nothing.
        """
        self._binned.bin_for(trees)
        while self.trees < trees:
            round_, number = divmod(self.trees, len(self._binned.columns))
            part = self._binned[number]
            if not round_:
                self._boosters.append(xgboost.Booster(self._known, [part]))
                self._totals.append(self._start)
            predicted = expit(self.margins)
            self._boosters[number].boost(
                part,
                round_,
                grad=(predicted - self._labels) * self._weights,
                hess=np.maximum(predicted * (1 - predicted), _LEAST_HESSIAN) * self._weights,
            )
            # XGBoost keeps the sum of a part's trees up to date while it grows them.
            total = self._boosters[number].predict(part, output_margin=True)
            self.margins = np.asarray(self.margins + (total - self._totals[number]), np.float32)
            self._totals[number] = total
            self.trees += 1
        return self.margins

    def joined(self) -> xgboost.Booster:
        """Give one model of all columns; its first trees are what fewer would have been."""
        return _joined(self._known, self._boosters, self._binned, self.trees)


def _joined(
    parameters: dict[str, Any], boosters: Sequence[xgboost.Booster], binned: Parts, trees: int
) -> xgboost.Booster:
    """Make one model of the parts' trees, in the order in which they grew."""
    models = [json.loads(booster.save_raw("json")) for booster in boosters]
    grown = [_inner(model)["trees"] for model in models]
    taken = []
    for number in range(trees):
        place, round_ = number % len(binned.columns), number // len(binned.columns)
        tree = grown[place][round_]
        tree["id"] = number
        tree["tree_param"]["num_feature"] = str(binned.d)
        tree["split_indices"] = [
            int(binned.columns[place][feature]) if left != -1 else 0
            for feature, left in zip(tree["split_indices"], tree["left_children"], strict=True)
        ]
        taken.append(tree)
    model, inner = models[0], _inner(models[0])
    model["learner"]["learner_model_param"]["num_feature"] = str(binned.d)
    inner["trees"], inner["tree_info"] = taken, [0] * trees
    inner["iteration_indptr"] = list(range(trees + 1))
    inner["gbtree_model_param"]["num_trees"] = str(trees)
    joined = xgboost.Booster(parameters)
    joined.load_model(bytearray(json.dumps(model).encode()))
    return joined


def _inner(model: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = model["learner"]["gradient_booster"]["model"]
    return found
