"""Boosted trees on many columns, each tree grown on a part of them.

XGBoost samples columns for a tree only after it has counted them all, which on thousands of columns
is nearly all of its work. Here the columns are dealt out into parts, once, and the trees take the
parts in turn: the same column sampling, but without replacement, and with a part's work for a
tree. It is XGBoost that bins, grows and predicts, and the result is an ordinary model of it.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import xgboost
from scipy.sparse import csr_array
from scipy.special import expit, logit

__all__ = ["ColumnParts", "boost"]

_LEAST_HESSIAN = 1e-16  # XGBoost's own


class ColumnParts:
    """Embeddings by parts of their columns, as XGBoost takes them; binned once, at first use.

    Parameters
    ----------
    X : ndarray, shape (n, d)
    share : float
        Of the columns in each part, above 0 and at most 1.
    seed : int
        Of the dealing out.
    jobs : int
        Threads.
    """

    def __init__(self, X: npt.NDArray[Any], share: float, *, seed: int, jobs: int) -> None:
        n, d = X.shape
        self.rows, self.jobs = n, jobs
        shuffled = np.random.default_rng(seed).permutation(d)
        self.parts = []
        for part in np.array_split(shuffled, max(1, round(1 / share))):
            columns = np.sort(part).astype(np.int32)
            # What a sparse matrix doesn't hold is missing to XGBoost, and costs it nothing.
            values = np.ascontiguousarray(X[:, columns], np.float32).ravel()
            ends = np.arange(n + 1, dtype=np.int64) * len(columns)
            sparse = csr_array((values, np.tile(columns, n), ends), shape=(n, d))
            self.parts.append(xgboost.DMatrix(sparse, nthread=jobs))


def boost(
    parts: ColumnParts, y: npt.NDArray[Any], parameters: dict[str, Any], trees: int
) -> xgboost.Booster:
    """Grow trees for log loss.

    Parameters
    ----------
    parts : ColumnParts
    y : ndarray of int, shape (n,)
        1 for the positive class, 0 for the rest; both occur.
    parameters : dict
        XGBoost's, of a binary model; the column sampling is that of `parts`.
    trees : int

    Returns
    -------
    xgboost.Booster
        Takes all columns. Its first trees are what fewer trees would have been.
    """
    labels = np.asarray(y, np.float32)
    share = float(labels.mean())
    known = {name: value for name, value in parameters.items() if name != "colsample_bytree"}
    booster = xgboost.Booster(
        known | {"base_score": share, "nthread": parts.jobs, "n_jobs": parts.jobs}, parts.parts[:1]
    )
    start = np.float32(logit(share))
    margins = np.full(parts.rows, start)
    for tree in range(trees):
        part = parts.parts[tree % len(parts.parts)]
        predicted = expit(margins)
        booster.boost(
            part,
            tree,
            grad=predicted - labels,
            hess=np.maximum(predicted * (1 - predicted), _LEAST_HESSIAN),
        )
        grown = booster.predict(part, output_margin=True, iteration_range=(tree, tree + 1))
        margins += grown - start
    return booster
