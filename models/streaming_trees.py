"""Boosted trees on embeddings that come in blocks, by XGBoost's own iterators.

As in `models.boosting` the columns are dealt out into parts that the trees take in turn. Here a
part is binned to one byte a number as it streams by, and is no wider than its own columns; the
trees are put together afterwards into one ordinary model of all columns.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

import h5py
import numpy as np
import numpy.typing as npt
import xgboost
from scipy.special import expit, logit

from features.rows import Rows, StoredTable

__all__ = ["BinnedParts", "PartsOnDisk", "boost_binned"]

_LEAST_HESSIAN: Final = 1e-16  # XGBoost's own
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
        Of the dealing out, which is that of `models.boosting.ColumnParts`.
    """

    def __init__(self, rows: Rows, share: float, path: Path, *, seed: int) -> None:
        n, d = rows.shape
        self.n, self.d = n, d
        shuffled = np.random.default_rng(seed).permutation(d)
        self.columns = [np.sort(c) for c in np.array_split(shuffled, max(1, round(1 / share)))]
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
        self.columns, self.d, self.jobs, self.rows = parts.columns, parts.d, jobs, len(train)
        self.in_memory = _BYTES * len(train) * parts.d <= memory
        chosen = np.sort(np.random.default_rng(seed).permutation(train)[:_EDGES_FROM])
        self.parts: list[xgboost.DMatrix] = []
        for number, part in enumerate(parts.parts):
            edges = xgboost.QuantileDMatrix(part[chosen], max_bin=bins, nthread=jobs)
            rows, options = part.take(train), {"max_bin": bins, "ref": edges, "nthread": jobs}
            if self.in_memory:
                self.parts.append(xgboost.QuantileDMatrix(_Blocks(rows, None), **options))
            else:
                blocks = _Blocks(rows, folder / f"part-{number}")
                self.parts.append(xgboost.ExtMemQuantileDMatrix(blocks, **options))


def boost_binned(
    binned: BinnedParts, y: npt.NDArray[Any], parameters: dict[str, Any], trees: int
) -> xgboost.Booster:
    """Grow trees for log loss.

    Parameters
    ----------
    binned : BinnedParts
    y : ndarray of int, shape (rows of binned,)
        1 for the positive class, 0 for the rest; both occur.
    parameters : dict
        XGBoost's, of a binary model; the column sampling is that of the parts.
    trees : int

    Returns
    -------
    xgboost.Booster
        Takes all columns. Its first trees are what fewer trees would have been.
    """
    labels = np.asarray(y, np.float32)
    share = float(labels.mean())
    known = {name: value for name, value in parameters.items() if name != "colsample_bytree"}
    known |= {"base_score": share, "nthread": binned.jobs, "n_jobs": binned.jobs}
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
    return _joined(known, boosters, binned.columns, binned.d, trees)


def _joined(
    parameters: dict[str, Any],
    boosters: Sequence[xgboost.Booster],
    columns: Sequence[npt.NDArray[np.intp]],
    d: int,
    trees: int,
) -> xgboost.Booster:
    """Make one model of the parts' trees, in the order in which they grew."""
    models = [json.loads(booster.save_raw("json")) for booster in boosters]
    grown = [_inner(model)["trees"] for model in models]
    taken = []
    for number in range(trees):
        place, round_ = number % len(columns), number // len(columns)
        tree = grown[place][round_]
        tree["id"] = number
        tree["tree_param"]["num_feature"] = str(d)
        tree["split_indices"] = [
            int(columns[place][feature]) if left != -1 else 0
            for feature, left in zip(tree["split_indices"], tree["left_children"], strict=True)
        ]
        taken.append(tree)
    model, inner = models[0], _inner(models[0])
    model["learner"]["learner_model_param"]["num_feature"] = str(d)
    inner["trees"], inner["tree_info"] = taken, [0] * trees
    inner["iteration_indptr"] = list(range(trees + 1))
    inner["gbtree_model_param"]["num_trees"] = str(trees)
    joined = xgboost.Booster(parameters)
    joined.load_model(bytearray(json.dumps(model).encode()))
    return joined


def _inner(model: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = model["learner"]["gradient_booster"]["model"]
    return found
