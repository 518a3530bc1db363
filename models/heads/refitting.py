"""Final fits on all training images, from what their fold already knows.

What comes out is what scikit-learn fits by itself, sooner: the logistic regression is fitted by
scikit-learn from a start next to the solution, the SVM by scikit-learn on inner products from one
matrix product.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.pipeline import Pipeline
from threadpoolctl import threadpool_limits

from models.heads.base import BINS, HEADS, Head, Settings, fit, fit_trees, worthwhile_threads
from models.heads.boosting import ColumnParts
from models.heads.fold import Fold
from models.heads.kernel_machine import KernelMachine
from models.heads.searches import fit_logistic
from models.heads.streaming import refit_in_blocks, streams

__all__ = ["prepare", "refit"]

Labels = npt.NDArray[Any]

# From here on the eigenproblem takes longer than scikit-learn's own way.
_EIGENBASIS_UNTIL = 4000


def prepare(
    head: Head, data: Fold, candidates: Sequence[Settings], *, seed: int, jobs: int
) -> None:
    """Do beforehand what `refit` needs whichever of the candidates will be chosen.

    Parameters
    ----------
    head : Head
    data : Fold
        Keeps it, unless it is large.
    candidates : sequence of dict
    seed : int
    jobs : int
        Threads.
    """
    if streams(head, data.X) or not data.small:
        return
    if _is(head, "logistic_regression") and _has_small_eigenproblem(data):
        data.eigenbasis()
        data.scaled()
    elif _is(head, "svm"):
        data.inner_products()
        data.scaled()
    elif _is(head, "xgboost") and len({one["colsample_bytree"] for one in candidates}) == 1:
        _column_parts(candidates[0], data, seed, jobs)


def refit(
    head: Head,
    settings: Settings,
    data: Fold,
    y: Labels,
    *,
    seed: int,
    jobs: int,
    limited: bool = False,
) -> Any:
    """Fit a head with known settings on all rows.

    Parameters
    ----------
    head : Head
    settings : dict
        As one of ``head.candidates(d)``.
    data : Fold
        All rows, as `models.heads.fold.whole` gives them; other labels and heads share it.
    y : ndarray of int, shape (n,)
        1 for the positive class, 0 for the rest.
    seed : int
    jobs : int
        Threads at most.
    limited : bool
        Whether the linear algebra keeps to them already, as it does in
        `models.training.tuning.workers`.

    Returns
    -------
    estimator
        It scores as what `models.heads.base.fit` gives.
    """
    if streams(head, data.X):
        return refit_in_blocks(head, settings, data.X, y, seed=seed, jobs=jobs)
    # Threads that wait for each other at every step cost more than they bring, unless it is much.
    jobs = min(jobs, worthwhile_threads(data.X))
    with contextlib.nullcontext() if limited else threadpool_limits(limits=jobs):
        if _is(head, "logistic_regression") and _has_small_eigenproblem(data):
            return _refit_logistic_regression(head, settings, data, y, seed)
        if _is(head, "svm") and data.small:
            return _refit_svm(head, settings, data, y, seed)
        if _is(head, "xgboost"):
            parts = _column_parts(settings, data, seed, jobs)
            return fit_trees(head, settings, parts, y, seed=seed, jobs=jobs)
        return fit(head, settings, data.X, y, seed=seed, jobs=jobs)


def _column_parts(settings: Settings, data: Fold, seed: int, jobs: int) -> ColumnParts:
    return data.column_parts(settings["colsample_bytree"], bins=BINS, seed=seed, jobs=jobs)


def _is(head: Head, name: str) -> bool:
    return head.make is HEADS[name].make


def _has_small_eigenproblem(data: Fold) -> bool:
    n, d = data.X.shape
    return bool(min(n, d) <= _EIGENBASIS_UNTIL)


def _refit_logistic_regression(
    head: Head, settings: Settings, data: Fold, y: Labels, seed: int
) -> Pipeline:
    basis = data.eigenbasis()
    weights, intercept = fit_logistic(basis, y, settings["C"])
    pipeline = head.make(settings, seed)
    scaler, scaled = data.scaled()
    pipeline.steps[0] = ("scale", scaler)
    model = pipeline["classify"].set_params(warm_start=True)
    model.coef_ = (basis.train @ (weights / basis.eigenvalues))[None, :] @ scaled
    model.intercept_ = np.array([intercept])
    model.fit(scaled, y).set_params(warm_start=False)
    return pipeline


def _refit_svm(head: Head, settings: Settings, data: Fold, y: Labels, seed: int) -> KernelMachine:
    kernel = np.exp(-settings["gamma"] * data.inner_products().squared_distances()[0])
    model = head.make(settings, seed)["classify"].set_params(kernel="precomputed")
    model.fit(kernel.astype(np.float64), y)
    return KernelMachine.of(*data.scaled(), model, settings["gamma"])
