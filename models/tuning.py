"""Cross-validated search that shares work between candidates.

Everything is fitted inside the fold. What several candidates need is computed once per fold: the
standardised embeddings and their inner products (logistic regression and SVM), the binned columns
and the first trees of longer runs (XGBoost).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import xgboost
from joblib import Parallel, delayed, effective_n_jobs
from scipy.linalg import eigh
from scipy.optimize import minimize
from scipy.special import expit
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits

from models.heads import Head, Settings, fit, score
from models.results import Candidate

__all__ = ["Fold", "Tuned", "make_folds", "threads", "tune"]

Floats = npt.NDArray[np.float64]
Labels = npt.NDArray[np.int8]
Search = Callable[["Fold", Head, list[Settings], int, int], Floats]

_KEEP_BYTES = 300 * 2**20
_FLAT = 1e-10  # relative to the largest eigenvalue: directions that hold rounding only
_GRADIENT = 1e-6


@dataclass(frozen=True)
class InnerProducts:
    """Of the standardised embeddings of a fold.

    Parameters
    ----------
    gram : ndarray, shape (n_train, n_train)
        Between the rows to fit on.
    cross : ndarray, shape (n_test, n_train)
        Between the rows to judge by and those to fit on.
    lengths : ndarray, shape (n_test,)
        Squared norms of the rows to judge by.
    """

    gram: Floats
    cross: Floats
    lengths: Floats


class Fold:
    """The training images split into a part to fit on and a part to judge by.

    Parameters
    ----------
    X : ndarray, shape (n, d)
        Embeddings of all training images.
    y : ndarray of int, shape (n,)
        1 for the positive class, 0 for the rest.
    train, test : ndarray of int
        Row numbers of the two parts.
    """

    def __init__(
        self,
        X: npt.NDArray[Any],
        y: Labels,
        train: npt.NDArray[np.intp],
        test: npt.NDArray[np.intp],
    ) -> None:
        self.X, self.y, self.train, self.test = X, y, train, test

    def standardised(self) -> tuple[Floats, Floats]:
        """Scale both parts by the mean and deviation of the part to fit on."""
        scaler = StandardScaler()
        train = scaler.fit_transform(self.X[self.train].astype(np.float64))
        return train, scaler.transform(self.X[self.test].astype(np.float64))

    def inner_products(self) -> InnerProducts:
        """Give the inner products, kept for the next head unless they are large."""
        if 8 * len(self.train) * len(self.y) > _KEEP_BYTES:
            return self._multiply()
        return self._kept

    @cached_property
    def _kept(self) -> InnerProducts:
        return self._multiply()

    def _multiply(self) -> InnerProducts:
        train, test = self.standardised()
        return InnerProducts(train @ train.T, test @ train.T, np.einsum("ij,ij->i", test, test))


@dataclass(frozen=True)
class Tuned:
    """What the search found.

    Parameters
    ----------
    candidates : tuple of Candidate
        All that were tried, with the area under the ROC curve of their out-of-fold scores.
    settings : dict
        Of the best.
    scores : ndarray of float, shape (n,)
        Of every training image, by the best candidate fitted on the folds without it.
    """

    candidates: tuple[Candidate, ...]
    settings: Settings
    scores: Floats


def make_folds(
    X: npt.NDArray[Any], y: Labels, groups: npt.NDArray[Any], *, folds: int, seed: int
) -> list[Fold]:
    """Split so that no group is in two folds and the classes are in proportion.

    Parameters
    ----------
    X : ndarray, shape (n, d)
    y : ndarray of int, shape (n,)
    groups : ndarray, shape (n,)
        Images of the same group stay together.
    folds : int
    seed : int
        Of the shuffling.

    Returns
    -------
    list of Fold
    """
    names, numbers = np.unique(groups, return_inverse=True)
    # With nothing to keep together the ungrouped splitter gives the same promise in linear time.
    if len(names) == len(groups):
        parts = StratifiedKFold(folds, shuffle=True, random_state=seed).split(X, y)
    else:
        # The splitter's own shuffling lost the proportions before scikit-learn 1.8; groups that
        # are numbered at random are shuffled as well.
        shuffled = np.random.default_rng(seed).permutation(len(names))[numbers]
        parts = StratifiedGroupKFold(folds).split(X, y, shuffled)
    return [Fold(X, y, train, test) for train, test in parts]


def threads(jobs: int) -> int:
    """Give how many threads ``jobs`` means here; -1 is one per core."""
    return int(effective_n_jobs(jobs))


def tune(
    head: Head,
    folds: Sequence[Fold],
    *,
    candidates: Sequence[Settings] | None = None,
    seed: int = 0,
    jobs: int = -1,
) -> Tuned:
    """Try the settings of a head on all folds.

    Parameters
    ----------
    head : Head
    folds : sequence of Fold
    candidates : sequence of dict, optional
        Instead of the head's own.
    seed : int
    jobs : int
        Threads in all; -1 is one per core.

    Returns
    -------
    Tuned
        The best has the highest area under the ROC curve; of equals, the first.

    Notes
    -----
    For logistic regression the embeddings are rotated to the eigenbasis of their Gram matrix,
    which changes neither the penalty nor the fit (Hastie and Tibshirani, Efficient quadratic
    regularization for expression arrays, Biostatistics 2004), and there a diagonal preconditioner
    and warm starts let one path over C cost little more than one fit.
    """
    tried = [dict(settings) for settings in candidates or head.candidates(folds[0].X.shape[1])]
    search = _SEARCHES.get(head.name, _search_one_by_one)
    workers = min(threads(jobs), len(folds))
    inner = max(1, threads(jobs) // workers)
    with threadpool_limits(limits=inner):
        # Threads, not processes: the work is in libraries that release the interpreter's lock,
        # and the embeddings need no copies.
        found = Parallel(n_jobs=workers, backend="threading")(
            delayed(search)(fold, head, tried, seed, inner) for fold in folds
        )
    out_of_fold = np.empty((len(tried), len(folds[0].y)))
    for fold, scores in zip(folds, found, strict=True):
        out_of_fold[:, fold.test] = scores
    # Over all folds at once: one calibration and one threshold serve them all, and an average of
    # the folds' areas is blind to scores that are shifted from one fold to the next.
    aucs = [float(roc_auc_score(folds[0].y, scores)) for scores in out_of_fold]
    best = int(np.argmax(aucs))
    return Tuned(
        tuple(Candidate(settings, auc) for settings, auc in zip(tried, aucs, strict=True)),
        tried[best],
        out_of_fold[best],
    )


def _search_one_by_one(
    fold: Fold, head: Head, candidates: list[Settings], seed: int, jobs: int
) -> Floats:
    X_train, y_train = fold.X[fold.train], fold.y[fold.train]
    return np.stack(
        [
            score(fit(head, settings, X_train, y_train, seed=seed, jobs=jobs), fold.X[fold.test])
            for settings in candidates
        ]
    )


def _search_logistic_regression(
    fold: Fold, head: Head, candidates: list[Settings], seed: int, jobs: int
) -> Floats:
    train, test, eigenvalues = _eigenbasis(fold)
    y = fold.y[fold.train].astype(np.float64)
    scores = np.empty((len(candidates), len(fold.test)))
    weights, intercept = np.zeros(train.shape[1]), 0.0
    for place in np.argsort([settings["C"] for settings in candidates]):
        C = candidates[place]["C"]
        weights, intercept = _fit_logistic(train, y, eigenvalues, C, weights, intercept)
        scores[place] = test @ weights + intercept
    return scores


def _eigenbasis(fold: Fold) -> tuple[Floats, Floats, Floats]:
    """Rotate both parts to the principal axes of the part to fit on; give the axes' lengths², too.

    By the smaller of the two eigenproblems.
    """
    n, d = len(fold.train), fold.X.shape[1]
    if d < n:
        train, test = fold.standardised()
        eigenvalues, axes = _positive_eigenpairs(train.T @ train)
        return train @ axes, test @ axes, eigenvalues
    products = fold.inner_products()
    eigenvalues, axes = _positive_eigenpairs(products.gram)
    lengths = np.sqrt(eigenvalues)
    return axes * lengths, products.cross @ (axes / lengths), eigenvalues


def _positive_eigenpairs(matrix: Floats) -> tuple[Floats, Floats]:
    eigenvalues, axes = eigh(matrix, driver="evd", check_finite=False)
    kept = eigenvalues > _FLAT * eigenvalues[-1]
    return eigenvalues[kept], axes[:, kept]


def _fit_logistic(
    Z: Floats, y: Floats, eigenvalues: Floats, C: float, weights: Floats, intercept: float
) -> tuple[Floats, float]:
    """Minimise scikit-learn's objective ``C * sum(log loss) + |w|^2 / 2`` from a warm start.

    In the eigenbasis the Hessian is nearly diagonal; scaling by it makes all directions alike.
    """
    n = len(y)
    share = y.mean()
    scale = 1 / np.sqrt(1 + C * share * (1 - share) * eigenvalues)
    scale_intercept = 1 / np.sqrt(C * share * (1 - share) * n)
    signs = 2 * y - 1

    def loss(point: Floats) -> tuple[float, Floats]:
        w, b = point[:-1] * scale, point[-1] * scale_intercept
        margins = signs * (Z @ w + b)
        pull = -signs * expit(-margins)
        value = C * np.logaddexp(0, -margins).sum() + w @ w / 2
        slope = np.append((C * (pull @ Z) + w) * scale, C * pull.sum() * scale_intercept)
        return value / (C * n), slope / (C * n)

    start = np.append(weights / scale, intercept / scale_intercept)
    found = minimize(
        loss,
        start,
        jac=True,
        method="L-BFGS-B",
        options={"gtol": _GRADIENT, "ftol": 1e-12, "maxiter": 1000, "maxcor": 20},
    ).x
    return found[:-1] * scale, float(found[-1] * scale_intercept)


def _search_svm(fold: Fold, head: Head, candidates: list[Settings], seed: int, jobs: int) -> Floats:
    products = fold.inner_products()
    diagonal = np.diag(products.gram)
    within = np.maximum(diagonal[:, None] + diagonal - 2 * products.gram, 0)
    across = np.maximum(products.lengths[:, None] + diagonal - 2 * products.cross, 0)
    scores = np.empty((len(candidates), len(fold.test)))
    for gamma in sorted({settings["gamma"] for settings in candidates}):
        kernel, kernel_test = np.exp(-gamma * within), np.exp(-gamma * across)
        for place, settings in enumerate(candidates):
            if settings["gamma"] == gamma:
                model = head.make(settings, seed)["classify"].set_params(kernel="precomputed")
                model.fit(kernel, fold.y[fold.train])
                scores[place] = model.decision_function(kernel_test)
    return scores


def _search_xgboost(
    fold: Fold, head: Head, candidates: list[Settings], seed: int, jobs: int
) -> Floats:
    """Bin the columns once, and read fewer trees off the longest run with the same settings."""
    runs: dict[str, list[int]] = {}
    for place, settings in enumerate(candidates):
        others = {name: value for name, value in settings.items() if name != "n_estimators"}
        runs.setdefault(repr(sorted(others.items())), []).append(place)
    binned = xgboost.QuantileDMatrix(
        fold.X[fold.train],
        fold.y[fold.train],
        max_bin=head.make(candidates[0], seed).max_bin,
        nthread=jobs,
    )
    scores = np.empty((len(candidates), len(fold.test)))
    for places in runs.values():
        longest = max(candidates[place]["n_estimators"] for place in places)
        parameters = head.make(candidates[places[0]], seed).get_xgb_params() | {"n_jobs": jobs}
        booster = xgboost.train(parameters, binned, num_boost_round=longest)
        for place in places:
            scores[place] = booster.inplace_predict(
                fold.X[fold.test],
                iteration_range=(0, candidates[place]["n_estimators"]),
                predict_type="margin",
            )
    return scores


_SEARCHES: dict[str, Search] = {
    "logistic_regression": _search_logistic_regression,
    "svm": _search_svm,
    "xgboost": _search_xgboost,
}
