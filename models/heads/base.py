"""The heads: what sits on the embeddings, as estimators that can be saved and served.

A fitted head is a plain scikit-learn pipeline or an `xgboost.XGBClassifier`. How candidates are
searched quickly is the business of `models.training.tuning`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from scipy.special import logit
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC
from xgboost import XGBClassifier

from features.cache.rows import Rows
from models.heads.boosting import ColumnParts, Parts, boost

__all__ = ["BINS", "HEADS", "Head", "Settings", "fit", "fit_trees", "score", "worthwhile_threads"]

Settings = dict[str, Any]
Floats = npt.NDArray[np.float64]

# Of each column, for boosted trees.
BINS: Final = 64
# Probabilities come as float32; nearer to 0 or 1 than this their logit is rounding.
_FLOAT32_EDGE = 1e-7

# With less to do, threads mostly wait for each other, and on a busy machine for long.
_ENTRIES_PER_THREAD = 10_000_000


@dataclass(frozen=True)
class Head:
    """A kind of classifier and the settings worth trying.

    Parameters
    ----------
    name : str
        Key in `HEADS`.
    title : str
        The name that a person reads.
    candidates : callable
        Gives the settings to try for embeddings of a length, simplest first.
    make : callable
        Makes an estimator that is not fitted, from settings and a seed.
    storable : bool
        Whether a bundle can hold it.
    reusable : bool
        Whether the same settings and versions will always mean the same estimator.
    """

    name: str
    title: str
    candidates: Callable[[int], list[Settings]]
    make: Callable[[Settings, int], Any]
    storable: bool = True
    reusable: bool = True


def fit(
    head: Head,
    settings: Settings,
    X: npt.NDArray[Any],
    y: npt.NDArray[Any],
    *,
    seed: int,
    jobs: int,
) -> Any:
    """Fit a head with known settings.

    Parameters
    ----------
    head : Head
    settings : dict
        As one of ``head.candidates(d)``.
    X : ndarray, shape (n, d)
        Embeddings.
    y : ndarray, shape (n,)
        1 for the positive class, 0 for the rest.
    seed : int
    jobs : int
        Threads at most, where the estimator has them.

    Returns
    -------
    estimator
        Fitted; see `score`.

    Examples
    --------
    >>> import numpy as np
    >>> X, y = np.array([[0.0], [1.0], [2.0], [3.0]]), np.array([0, 0, 1, 1])
    >>> estimator = fit(HEADS["logistic_regression"], {"C": 1.0}, X, y, seed=0, jobs=1)
    >>> score(estimator, X).round(2)
    array([-1.27, -0.42,  0.42,  1.27])
    """
    if head.make is _xgboost:
        jobs = min(jobs, worthwhile_threads(X))
        parts = ColumnParts(X, settings["colsample_bytree"], bins=BINS, seed=seed, jobs=jobs)
        return fit_trees(head, settings, parts, y, seed=seed, jobs=jobs)
    return head.make(settings, seed).fit(np.asarray(X, np.float64), y)


def fit_trees(
    head: Head, settings: Settings, parts: Parts, y: npt.NDArray[Any], *, seed: int, jobs: int
) -> XGBClassifier:
    """Fit XGBoost as `fit` does, on embeddings that are binned already."""
    estimator: XGBClassifier = head.make(settings, seed)
    parameters, trees = estimator.get_xgb_params(), settings["n_estimators"]
    booster = boost(parts, y, parameters, trees, jobs=jobs)
    estimator.load_model(booster.save_raw("json"))
    return estimator


def worthwhile_threads(X: npt.NDArray[Any]) -> int:
    """Give how many threads a single fit can keep busy with embeddings of that size."""
    return 1 + X.size // _ENTRIES_PER_THREAD


def score(estimator: Any, X: npt.ArrayLike | Rows) -> Floats:
    """Give the head's scores.

    Parameters
    ----------
    estimator : object
        Fitted on labels 0 and 1; has ``decision_function`` or ``predict_proba``.
    X : array-like or Rows, shape (n, d)
        Embeddings.

    Returns
    -------
    ndarray of float, shape (n,)
        Higher means more likely positive: the decision function, or else the logit of the
        probability. Not calibrated.
    """
    if isinstance(X, Rows):
        return np.concatenate([np.empty(0), *(score(estimator, block) for block in X.blocks())])
    embeddings = np.asarray(X, np.float64)
    if hasattr(estimator, "decision_function"):
        return np.asarray(estimator.decision_function(embeddings), np.float64)
    return to_logit(estimator.predict_proba(embeddings)[:, 1])


def to_logit(probabilities: npt.ArrayLike) -> Floats:
    """Turn probabilities into log odds, finite also at 0 and 1."""
    inside = np.clip(np.asarray(probabilities, np.float64), _FLOAT32_EDGE, 1 - _FLOAT32_EDGE)
    return np.asarray(logit(inside), np.float64)


def _logistic_regression(settings: Settings, seed: int) -> Pipeline:
    model = LogisticRegression(C=settings["C"], max_iter=5000, random_state=seed)
    return Pipeline([("scale", StandardScaler()), ("classify", model)])


def _svm(settings: Settings, seed: int) -> Pipeline:
    model = SVC(
        C=settings["C"],
        gamma=settings["gamma"],
        class_weight="balanced",
        cache_size=500,
        random_state=seed,
    )
    return Pipeline([("scale", StandardScaler()), ("classify", model)])


def _xgboost(settings: Settings, seed: int) -> XGBClassifier:
    return XGBClassifier(
        objective="binary:logistic",
        tree_method="hist",
        max_bin=BINS,
        n_estimators=settings["n_estimators"],
        learning_rate=settings["learning_rate"],
        max_depth=settings["max_depth"],
        colsample_bytree=settings["colsample_bytree"],
        random_state=seed,
    )


def _logistic_regression_candidates(_: int) -> list[Settings]:
    return [{"C": 10.0**power} for power in (-5, -4, -3.5, -3, -2, -1, 0)]


def _svm_candidates(d: int) -> list[Settings]:
    scales, strengths = (0.0625, 0.125, 0.25, 0.5), (0.3, 1.0, 3.0, 10.0)
    return [{"C": C, "gamma": scale / d} for scale in scales for C in strengths]


def _xgboost_candidates(d: int) -> list[Settings]:
    columns = max(0.01, min(1.0, 60 / d))
    return [
        {
            "max_depth": depth,
            "learning_rate": 0.05,
            "colsample_bytree": columns,
            "n_estimators": trees,
        }
        for depth in (2, 3)
        for trees in (100, 200)
    ]


HEADS: dict[str, Head] = {
    head.name: head
    for head in (
        Head(
            "logistic_regression",
            "Logistic regression",
            _logistic_regression_candidates,
            _logistic_regression,
        ),
        Head("svm", "SVM (RBF)", _svm_candidates, _svm),
        Head("xgboost", "XGBoost", _xgboost_candidates, _xgboost),
    )
}
