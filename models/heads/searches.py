"""All candidates of a head on one fold, sharing what they have in common.

A search takes a fold, a head, sets of labels for the same rows, candidates, a seed and a number of
threads, and gives scores of the part to judge by, shape (sets of labels, candidates, n_test).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize
from scipy.special import expit, logit

from models.heads.base import BINS, HEADS, Head, Settings, fit, score
from models.heads.boosting import boost, runs_of
from models.heads.fold import Eigenbasis, Fold

__all__ = ["Search", "fit_logistic", "search_of", "search_one_by_one"]

Floats = npt.NDArray[np.float64]
Labels = npt.NDArray[Any]
Search = Callable[[Fold, Head, Sequence[Labels], list[Settings], int, int], Floats]

_GRADIENT = 1e-6
# Smaller gains are the rounding of single precision: the line search would look for them in vain.
_LOSS = 1e-8


def search_one_by_one(
    fold: Fold,
    head: Head,
    ys: Sequence[Labels],
    candidates: list[Settings],
    seed: int,
    jobs: int,
) -> Floats:
    """Fit every candidate for itself: for heads that nothing is known of."""
    train, test = fold.X[fold.train], fold.X[fold.test]
    return np.array(
        [
            [
                score(fit(head, settings, train, y[fold.train], seed=seed, jobs=jobs), test)
                for settings in candidates
            ]
            for y in ys
        ]
    )


def _search_logistic_regression(
    fold: Fold,
    head: Head,
    ys: Sequence[Labels],
    candidates: list[Settings],
    seed: int,
    jobs: int,
) -> Floats:
    basis = fold.eigenbasis()
    scores = np.empty((len(ys), len(candidates), len(fold.test)))
    for y, found in zip(ys, scores, strict=True):
        for place, settings in enumerate(candidates):
            weights, intercept = fit_logistic(basis, y[fold.train], settings["C"])
            found[place] = basis.test @ weights.astype(np.float32) + intercept
    return scores


def fit_logistic(basis: Eigenbasis, y: Labels, C: float) -> tuple[Floats, float]:
    """Fit logistic regression with a ridge penalty.

    Parameters
    ----------
    basis : Eigenbasis
    y : ndarray of int, shape (n_train,)
    C : float
        scikit-learn's.

    Returns
    -------
    weights : ndarray, shape (r,)
        In the eigenbasis.
    intercept : float

    Notes
    -----
    The objective is scikit-learn's, ``C * sum(log loss) + |w|^2 / 2``. Rotating to the eigenbasis
    of the Gram matrix changes neither the penalty nor the fit (Hastie and Tibshirani, Efficient
    quadratic regularization for expression arrays, Biostatistics 2004); there the Hessian is
    nearly diagonal, and scaling by its diagonal makes all directions alike. A warm start from
    another C would save little more, and what is found would depend on what else is tried.
    """
    Z, n = basis.train, len(y)
    share = float(np.mean(y))
    signs = 2.0 * np.asarray(y, np.float64) - 1
    scale = 1 / np.sqrt(1 + C * share * (1 - share) * basis.eigenvalues)
    scale_intercept = 1 / np.sqrt(C * share * (1 - share) * n)

    def loss(point: Floats) -> tuple[float, Floats]:
        w, b = point[:-1] * scale, point[-1] * scale_intercept
        margins = signs * (Z @ w.astype(np.float32) + b)
        pull = -signs * expit(-margins)
        value = C * np.logaddexp(0, -margins).sum() + w @ w / 2
        along = C * (pull.astype(np.float32) @ Z) + w
        slope = np.append(along * scale, C * pull.sum() * scale_intercept)
        return value / (C * n), slope / (C * n)

    found = minimize(
        loss,
        np.append(np.zeros(Z.shape[1]), logit(share) / scale_intercept),
        jac=True,
        method="L-BFGS-B",
        options={"gtol": _GRADIENT, "ftol": _LOSS, "maxiter": 1000, "maxcor": 20},
    ).x
    return found[:-1] * scale, float(found[-1] * scale_intercept)


def _search_svm(
    fold: Fold,
    head: Head,
    ys: Sequence[Labels],
    candidates: list[Settings],
    seed: int,
    jobs: int,
) -> Floats:
    within, across = fold.inner_products().squared_distances()
    scores = np.empty((len(ys), len(candidates), len(fold.test)))
    # libsvm computes in double precision; fresh memory for every gamma would take most of the time.
    kernel, kernel_test = np.empty(within.shape), np.empty(across.shape)
    for gamma in sorted({settings["gamma"] for settings in candidates}):
        for distances, values in ((within, kernel), (across, kernel_test)):
            np.exp(np.multiply(distances, -gamma, out=values), out=values)
        for place, settings in enumerate(candidates):
            if settings["gamma"] != gamma:
                continue
            for y, found in zip(ys, scores, strict=True):
                model = head.make(settings, seed)["classify"].set_params(kernel="precomputed")
                model.fit(kernel, y[fold.train])
                found[place] = model.decision_function(kernel_test)
    return scores


def _search_xgboost(
    fold: Fold,
    head: Head,
    ys: Sequence[Labels],
    candidates: list[Settings],
    seed: int,
    jobs: int,
) -> Floats:
    """Bin the columns once, and read fewer trees off the longest run with the same settings."""
    test = np.asarray(fold.X[fold.test], np.float32)
    scores = np.empty((len(ys), len(candidates), len(fold.test)))
    for run in runs_of(candidates):
        longest = candidates[run[0]]
        parameters = head.make(longest, seed).get_xgb_params()
        binned = fold.column_parts(longest["colsample_bytree"], bins=BINS, seed=seed, jobs=jobs)
        for y, found in zip(ys, scores, strict=True):
            booster = boost(binned, y[fold.train], parameters, longest["n_estimators"], jobs=jobs)
            for place in run:
                found[place] = booster.inplace_predict(
                    test,
                    iteration_range=(0, candidates[place]["n_estimators"]),
                    predict_type="margin",
                )
    return scores


_SEARCHES: Final[dict[str, Search]] = {
    "logistic_regression": _search_logistic_regression,
    "svm": _search_svm,
    "xgboost": _search_xgboost,
}


def search_of(head: Head) -> Search:
    """Give the quickest search that there is for a head; `search_one_by_one` takes any."""
    for name, search in _SEARCHES.items():
        if head.make is HEADS[name].make:
            return search
    return search_one_by_one
