"""Boosted trees on many columns, each tree grown on a part of them.

XGBoost samples columns for a tree only after it has counted them all, which on thousands of columns
is nearly all of its work. Here the columns are dealt out into parts, once, and the trees take the
parts in turn: the same column sampling, but without replacement, and with a part's work for a
tree. It is XGBoost that bins, grows and predicts; the parts' trees are put together afterwards into
one ordinary model of all columns. Embeddings that come by blocks are binned to one byte a number as
they stream by, through XGBoost's own iterators.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Protocol

import h5py
import numpy as np
import numpy.typing as npt
import xgboost
from scipy.special import expit, logit

from features.cache.rows import Rows, StoredTable

__all__ = [
    "BinnedParts",
    "ColumnParts",
    "Parts",
    "PartsOnDisk",
    "boost",
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


class Parts(Protocol):
    """Embeddings (rows, d) by parts of their columns, each binned as XGBoost takes it."""

    @property
    def rows(self) -> int:
        """How many images."""

    @property
    def d(self) -> int:
        """How many columns in all parts."""

    @property
    def columns(self) -> Sequence[npt.NDArray[np.intp]]:
        """Which columns are in each part."""

    @property
    def parts(self) -> Sequence[xgboost.DMatrix]:
        """Their values."""


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
        For others to be binned alike (``ref``). XGBoost's own search gives nearly the same edges
        in three times the time.
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


class ColumnParts:
    """Embeddings in memory by parts of their columns.

    Parameters
    ----------
    X : ndarray, shape (n, d)
    share : float
        Of the columns in each part, above 0 and at most 1.
    bins : int
        For each column, at most.
    seed : int
        Of the dealing out.
    jobs : int
        Threads.
    """

    def __init__(
        self, X: npt.NDArray[Any], share: float, *, bins: int, seed: int, jobs: int
    ) -> None:
        self.rows, self.d = X.shape
        self.columns = deal_out(self.d, share, seed)
        self.parts = []
        for columns in self.columns:
            values = np.ascontiguousarray(X[:, columns], np.float32)
            edges = edges_of(values, bins)
            self.parts.append(
                xgboost.QuantileDMatrix(values, max_bin=bins, ref=edges, nthread=jobs)
            )


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


def boost(
    binned: Parts, y: npt.NDArray[Any], parameters: dict[str, Any], trees: int, *, jobs: int
) -> xgboost.Booster:
    """Grow trees for log loss.

    Parameters
    ----------
    binned : Parts
    y : ndarray of int, shape (rows,)
        1 for the positive class, 0 for the rest; both occur.
    parameters : dict
        XGBoost's, of a binary model; the column sampling is that of the parts.
    trees : int
    jobs : int
        Threads.

    Returns
    -------
    xgboost.Booster
        Takes all columns. Its first trees are what fewer trees would have been.
    """
    labels = np.asarray(y, np.float32)
    share = float(labels.mean())
    known = {name: value for name, value in parameters.items() if name != "colsample_bytree"}
    known |= {"base_score": share, "nthread": jobs, "n_jobs": jobs}
    start = np.float32(logit(share))
    margins = np.full(binned.rows, start)
    count = min(trees, len(binned.parts))
    boosters = [xgboost.Booster(known, [part]) for part in binned.parts[:count]]
    for tree in range(trees):
        number, round_ = tree % len(binned.parts), tree // len(binned.parts)
        part, booster = binned.parts[number], boosters[number]
        predicted = expit(margins)
        booster.boost(
            part,
            round_,
            grad=predicted - labels,
            hess=np.maximum(predicted * (1 - predicted), _LEAST_HESSIAN),
        )
        grown = booster.predict(part, output_margin=True, iteration_range=(round_, round_ + 1))
        margins += grown - start
    return _joined(known, boosters, binned, trees)


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
