"""Judge what is read off a network by repeated cross-validation, hundreds of fits at a time.

A trial is a matrix of inner products between all training images. Adding the matrices of two
layers is putting their columns side by side; multiplying one is weighing it. All folds, repeats and
strengths of the ridge are fitted at once, in the matrix' eigenbasis.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from scipy.linalg import solve
from scipy.special import expit, logit
from scipy.stats import norm, rankdata
from scipy.stats import t as student
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from models.evaluation.roc import placements
from models.evaluation.values import Interval
from models.training.folds import make_folds

__all__ = [
    "Judged",
    "Study",
    "corrected_difference",
    "delong_difference",
    "fit_together",
    "gram",
    "inner_parts",
    "judge",
    "nested",
    "ridge",
    "signed",
    "stacked",
]

Singles = npt.NDArray[np.float32]
Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]

# Of a matrix with ones on its diagonal, on average: the program's C times the number of columns.
STRENGTHS: Final = (1.5, 5.0, 15.0, 45.0)
RIDGES: Final = (0.03, 0.1, 0.3, 1.0, 3.0)
_INNER: Final = 4
_STEPS: Final = 400
_CLOSE: Final = 5e-4


@dataclass(frozen=True)
class Study:
    """The images to judge by, and how they are split.

    Parameters
    ----------
    y : ndarray of int, shape (n,)
    held : ndarray of bool, shape (repeats, folds, n)
        The part to judge by.
    """

    y: npt.NDArray[Any]
    held: Bools

    @classmethod
    def of(
        cls, y: npt.NDArray[Any], groups: npt.NDArray[Any], repeats: int, folds: int = 5
    ) -> Study:
        """Split as the program does, with as many seeds as repeats."""
        held = np.zeros((repeats, folds, len(y)), bool)
        for repeat in range(repeats):
            parts = make_folds(np.empty((len(y), 0)), y, groups, folds=folds, seed=repeat)
            for fold, part in enumerate(parts):
                held[repeat, fold, part.test] = True
        return cls(y, held)


@dataclass(frozen=True)
class Judged:
    """What a trial reached.

    Parameters
    ----------
    scores : ndarray, shape (repeats, n)
        Out of fold, with the best strength of each repeat.
    areas : ndarray, shape (repeats, folds)
        Under the ROC curve, of each part that was held out.
    """

    scores: Floats
    areas: Floats

    @classmethod
    def of(cls, study: Study, scores: Floats) -> Judged:
        """Judge out-of-fold scores, shape (repeats, n)."""
        areas = [
            [area(study.y[part], row[part]) for part in parts]
            for parts, row in zip(study.held, scores, strict=True)
        ]
        return cls(scores, np.array(areas))


def gram(X: npt.NDArray[np.floating]) -> Singles:
    """Give the inner products of standardised columns, with ones on the diagonal on average."""
    Z = np.asarray(X, np.float32) - X.mean(axis=0, dtype=np.float64).astype(np.float32)
    width = np.sqrt(np.einsum("ij,ij->j", Z, Z) / len(Z))
    Z /= np.where(width > 0, width, 1)
    return (Z @ Z.T) / np.float32(Z.shape[1])


def judge(study: Study, matrix: Singles, *, strengths: Sequence[float] = STRENGTHS) -> Judged:
    """Fit logistic regressions to all parts with every strength; keep each repeat's best."""
    repeats, folds, n = study.held.shape
    fitted = fit_together(
        matrix,
        study.y.astype(np.float32)[:, None],
        ~study.held.reshape(-1, n).T,
        strengths,
    ).reshape(len(strengths), n, repeats, folds)
    # Of every image the score by the fit that did not see it.
    own = np.einsum("snrf,rfn->srn", fitted, study.held)
    return Judged.of(study, best_of(study, own))


def ridge(study: Study, matrix: Singles, *, strengths: Sequence[float] = RIDGES) -> Judged:
    """Regress the labels on the columns, with a ridge; keep each repeat's best.

    With two classes that is linear discriminant analysis whose covariance is shrunk towards a
    multiple of the identity (Hastie, Buja and Tibshirani, Penalized discriminant analysis, 1995).
    """
    found = np.zeros((len(strengths), *study.held.shape[::2]))
    for repeat, parts in enumerate(study.held):
        for held in parts:
            middle = matrix[:, ~held].mean(axis=1)
            centred = matrix - middle[:, None] - middle + middle[~held].mean()
            targets = study.y[~held] - study.y[~held].mean()
            for row, strength in zip(found, strengths, strict=True):
                within = centred[np.ix_(~held, ~held)].copy()
                within[np.diag_indices_from(within)] += strength
                row[repeat, held] = centred[np.ix_(held, ~held)] @ solve(
                    within, targets, assume_a="pos", check_finite=False
                )
    return Judged.of(study, best_of(study, found))


def stacked(study: Study, matrices: Sequence[Singles], groups: npt.NDArray[Any]) -> Judged:
    """Fit a head to each matrix, and a logistic regression to what they say of unseen images."""
    repeats, folds, n = study.held.shape
    kept = ~study.held.reshape(-1, n)
    inner, outer = nested(study, matrices, groups, STRENGTHS[1:2])
    found = np.zeros((len(kept), n))
    for number, rows in enumerate(kept):
        unseen = np.array([each[number, rows] for each in inner]).T
        scaler = StandardScaler().fit(unseen)
        model = LogisticRegression(C=0.01).fit(scaler.transform(unseen), study.y[rows])
        held = np.array([each[number, ~rows] for each in outer]).T
        found[number, ~rows] = model.decision_function(scaler.transform(held))
    return Judged.of(study, found.reshape(repeats, folds, n).sum(axis=1))


def inner_parts(
    study: Study, kept: Bools, groups: npt.NDArray[Any], seed: int
) -> npt.NDArray[np.bool_]:
    """Split a training part again, (parts, n)."""
    rows = np.flatnonzero(kept)
    parts = np.zeros((_INNER, len(kept)), bool)
    empty = np.empty((len(rows), 0))
    split = make_folds(empty, study.y[rows], groups[rows], folds=_INNER, seed=seed)
    for place, part in enumerate(split):
        parts[place, rows[part.test]] = True
    return parts


def nested(
    study: Study,
    matrices: Iterable[Singles],
    groups: npt.NDArray[Any],
    strengths: Sequence[float],
) -> tuple[list[Floats], list[Floats]]:
    """Score each fold's training part by fits that did not see it; and all rows by the fold's fit.

    For each matrix and strength, (repeats * folds, n).
    """
    n = len(study.y)
    kept = ~study.held.reshape(-1, n)
    within = np.array(
        [inner_parts(study, rows, groups, number) for number, rows in enumerate(kept)]
    )
    weights = np.concatenate([kept, (kept[:, None] & ~within).reshape(-1, n)]).T
    inner, outer = [], []
    for matrix in matrices:
        fitted = fit_together(matrix, study.y.astype(np.float32)[:, None], weights, strengths)
        for scores in fitted:
            outer.append(scores[:, : len(kept)].T)
            by_part = scores[:, len(kept) :].reshape(n, len(kept), _INNER)
            inner.append(np.einsum("nfk,fkn->fn", by_part, within))
    return inner, outer


def best_of(study: Study, found: Floats) -> Floats:
    """Keep of scores (strengths, repeats, n) each repeat's with the largest area."""
    best = [
        max(range(len(found)), key=lambda at: area(study.y, found[at, repeat]))
        for repeat in range(found.shape[1])
    ]
    return found[best, np.arange(found.shape[1])]


def fit_together(
    matrix: Singles, targets: Singles, weights: npt.NDArray[Any], strengths: Sequence[float]
) -> Singles:
    """Fit ridge logistic regressions that share their inner products.

    Parameters
    ----------
    matrix : ndarray, shape (n, n)
        Inner products.
    targets : ndarray, shape (n, 1) or (n, m)
        Between 0 and 1.
    weights : ndarray, shape (n, m)
        Of every row in each of m fits, at most 1; with 0 it is not fitted to.
    strengths : sequence of float
        ``C``, as scikit-learn's.

    Returns
    -------
    ndarray, shape (strengths, n, m)
        Scores of all rows.

    Notes
    -----
    Steps by a bound of the Hessian that is diagonal in the eigenbasis of the centred matrix and
    holds for every part of the rows (Böhning and Lindsay, Monotonicity of quadratic-approximation
    algorithms, 1988), hastened by Nesterov's momentum, which is dropped where it leads uphill
    (O'Donoghue and Candès, Adaptive restart for accelerated gradient schemes, 2015).
    """
    n, fits = len(matrix), weights.shape[1]
    centred = matrix - matrix.mean(axis=0) - matrix.mean(axis=1)[:, None] + matrix.mean()
    values, axes = np.linalg.eigh(centred.astype(np.float32))
    kept = values > 1e-6 * values[-1]
    Z = np.column_stack([axes[:, kept] * np.sqrt(values[kept]), np.ones(n, np.float32)])
    penalty = np.append(np.ones(kept.sum(), np.float32), 0)[:, None].astype(np.float32)
    curve = np.append(values[kept], n).astype(np.float32)[:, None]
    S = np.tile(np.asarray(weights, np.float32), len(strengths))
    T = np.tile(np.broadcast_to(targets, weights.shape), len(strengths)).astype(np.float32)
    C = np.repeat(np.asarray(strengths, np.float32), fits)
    step = 1 / (C * curve / 4 + penalty)
    at = np.zeros((Z.shape[1], len(C)), np.float32)
    at[-1] = logit((S * T).sum(axis=0) / S.sum(axis=0))
    ahead, momentum = at, np.ones(len(C), np.float32)
    going = np.arange(len(C))
    for _ in range(_STEPS):
        pull = S[:, going] * (expit(Z @ ahead[:, going]) - T[:, going])
        slope = C[going] * (Z.T @ pull) + penalty * ahead[:, going]
        moved = ahead[:, going] - step[:, going] * slope
        change = moved - at[:, going]
        uphill = np.einsum("ij,ij->j", slope, change) > 0
        m = np.where(uphill, 1, momentum[going])
        longer = (1 + np.sqrt(1 + 4 * m**2)) / 2
        ahead[:, going] = moved + (m - 1) / longer * change
        at[:, going] = moved
        momentum[going] = longer
        weight = np.sqrt(curve)
        size = np.linalg.norm(weight * moved, axis=0)
        going = going[np.linalg.norm(weight * change, axis=0) > _CLOSE * size]
        if not len(going):
            break
    return (Z @ at).reshape(n, len(strengths), fits).transpose(1, 0, 2)


def area(y: npt.NDArray[Any], scores: npt.NDArray[np.floating]) -> float:
    """Give the area under the ROC curve."""
    ahead = y == 1
    ones, zeros = int(ahead.sum()), int((~ahead).sum())
    return float((rankdata(scores)[ahead].sum() - ones * (ones + 1) / 2) / (ones * zeros))


def corrected_difference(one: Judged, other: Judged) -> tuple[Interval, float]:
    """Give the mean difference of the folds' areas, with its 95 % interval and p value.

    References
    ----------
    Nadeau and Bengio, Inference for the generalization error, Machine Learning 2003; for repeated
    cross-validation: Bouckaert and Frank, Evaluating the replicability of significance tests for
    comparing learning algorithms, 2004.
    """
    changes = (one.areas - other.areas).ravel()
    folds = one.areas.shape[1]
    spread = np.sqrt(changes.var(ddof=1) * (1 / len(changes) + 1 / (folds - 1)))
    value = float(changes.mean())
    if spread == 0:
        return Interval(value, value, value), 1.0
    half = float(student.ppf(0.975, len(changes) - 1) * spread)
    p = float(2 * student.sf(abs(value) / spread, len(changes) - 1))
    return Interval(value, value - half, value + half), p


def delong_difference(y: npt.NDArray[Any], one: Judged, other: Judged | None = None) -> Interval:
    """Give an area of pooled scores, or the difference of two, by DeLong's averaged placements."""
    ahead, behind = (part.mean(axis=0) for part in placements(y, one.scores))
    if other is not None:
        theirs = placements(y, other.scores)
        ahead, behind = ahead - theirs[0].mean(axis=0), behind - theirs[1].mean(axis=0)
    value = float(ahead.mean())
    variance = ahead.var(ddof=1) / len(ahead) + behind.var(ddof=1) / len(behind)
    half = float(norm.ppf(0.975) * np.sqrt(variance))
    return Interval(value, value - half, value + half)


def signed(change: Interval) -> str:
    """Write a difference with its interval."""
    return f"{change.value:+.3f} ({change.low:+.3f} to {change.high:+.3f})"
