"""From scores to decisions: calibration, and the threshold at which an image is suspicious."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
from scipy.special import betaincinv, logit
from sklearn.linear_model import LogisticRegression

from models.results import Calibration

__all__ = [
    "TargetSensitivity",
    "Threshold",
    "ThresholdRule",
    "calibrate",
    "cross_fitted",
    "sensitivity_bound",
]

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Threshold:
    """An image is suspicious if its probability is at least `value`.

    Parameters
    ----------
    value : float
    rule : str
        How it was chosen, for a person.
    """

    value: float
    rule: str


class ThresholdRule(Protocol):
    """A way to choose the threshold from labels and out-of-fold probabilities."""

    def __call__(self, labels: npt.NDArray[Any], probabilities: Floats) -> Threshold:
        """Choose."""


def calibrate(labels: npt.NDArray[Any], scores: Floats) -> Calibration:
    """Fit Platt's sigmoid.

    Parameters
    ----------
    labels : ndarray of int, shape (n,)
        1 for the positive class, 0 for the rest; both occur.
    scores : ndarray, shape (n,)
        Out-of-fold: scores of images that the head was fitted on would be overconfident.

    Returns
    -------
    Calibration
        If higher scores do not go with the positive class, the slope is 0 and every probability
        is the share of positives.

    References
    ----------
    Platt, Probabilistic outputs for support vector machines and comparisons to regularized
    likelihood methods, 1999, with his smoothed targets.
    """
    positives = int((labels == 1).sum())
    negatives = len(labels) - positives
    target = np.where(labels == 1, (positives + 1) / (positives + 2), 1 / (negatives + 2))
    centre, spread = float(scores.mean()), float(scores.std())
    slope = 0.0
    if spread > 0:
        # A soft target is a hard one of each kind, weighted.
        column = np.tile((scores - centre) / spread, 2)[:, None]
        hard = np.repeat([1, 0], len(scores))
        model = LogisticRegression(C=np.inf, tol=1e-8, max_iter=1000)
        model.fit(column, hard, sample_weight=np.concatenate([target, 1 - target]))
        slope = float(model.coef_[0, 0]) / spread
        intercept = float(model.intercept_[0]) - slope * centre
    if slope <= 0:
        return Calibration(slope=0.0, intercept=float(logit(positives / len(labels))))
    return Calibration(slope=slope, intercept=intercept)


def sensitivity_bound(found: npt.ArrayLike, positives: int, confidence: float) -> Floats:
    """Give the one-sided lower bound of Clopper and Pearson on a sensitivity.

    Parameters
    ----------
    found : array-like of int, shape (...)
        How many of the positives were called suspicious.
    positives : int
    confidence : float
        Chance that the bound holds, at least.

    Returns
    -------
    ndarray, shape (...)

    References
    ----------
    Clopper and Pearson, The use of confidence or fiducial limits illustrated in the case of the
    binomial, Biometrika 1934.

    Examples
    --------
    >>> sensitivity_bound([44, 45], 45, 0.9).round(3)
    array([0.916, 0.95 ])
    """
    counts = np.asarray(found)
    bound = betaincinv(np.maximum(counts, 1), positives - counts + 1, 1 - confidence)
    return np.where(counts == 0, 0.0, bound)


@dataclass(frozen=True)
class TargetSensitivity:
    """The highest threshold that keeps a sensitivity, with a stated confidence.

    Parameters
    ----------
    target : float
        Share of positives to be called suspicious, at least.
    confidence : float
        Chance, over the draw of the positives, that the target is kept.

    Notes
    -----
    Thresholds are tried from the lowest upwards until the lower bound of the sensitivity falls
    below the target. That is fixed-sequence testing, so the confidence needs no correction for
    having tried several (Angelopoulos et al., Learn then Test, 2021). With continuous scores it
    is the same as Wilks' one-sided tolerance limit (1941): the sensitivity above the (k+1)-th
    lowest of n positives is distributed as Beta(n - k, k + 1).

    The promise is about positives that are drawn like these, one by one, and judged like these:
    by heads that were fitted on the other folds. Several images of one lesion count as several.

    With too few positives (44 or fewer for 95 % at 90 %) no threshold can be promised; then the
    target is kept among these positives only, and the rule says so.

    Examples
    --------
    >>> import numpy as np
    >>> probabilities = np.linspace(0.01, 1, 100)
    >>> round(TargetSensitivity()(np.ones(100, int), probabilities).value, 2)
    0.02
    """

    target: float = 0.95
    confidence: float = 0.9

    def __call__(self, labels: npt.NDArray[Any], probabilities: Floats) -> Threshold:
        """Choose the threshold.

        Parameters
        ----------
        labels : ndarray of int, shape (n,)
            At least one is 1.
        probabilities : ndarray, shape (n,)
            Out-of-fold.

        Returns
        -------
        Threshold
        """
        positives = np.sort(probabilities[labels == 1])
        n = len(positives)
        # Ties count: all positives at the threshold are called suspicious.
        found = n - np.searchsorted(positives, positives, side="left")
        kept = sensitivity_bound(found, n, self.confidence) >= self.target
        promise = f"{self.target:.0%} sensitivity".replace("%", " %")
        surely = f"{self.confidence:.0%} confidence".replace("%", " %")
        if kept.any():
            rule = f"at least {promise} with {surely}, from {n} cross-validated positives"
            return Threshold(float(positives[kept][-1]), rule)
        needed = int(np.ceil(np.log(1 - self.confidence) / np.log(self.target)))
        rule = (
            f"{promise} among {n} cross-validated positives; "
            f"too few to promise it with {surely}, which takes {needed}"
        )
        return Threshold(float(positives[found / n >= self.target][-1]), rule)


def cross_fitted(
    labels: npt.NDArray[Any],
    scores: Floats,
    tests: Sequence[npt.NDArray[np.intp]],
    rule: ThresholdRule,
) -> tuple[Floats, npt.NDArray[np.bool_]]:
    """Calibrate and decide for each fold with what the other folds' scores say.

    Parameters
    ----------
    labels : ndarray of int, shape (n,)
    scores : ndarray, shape (n,)
        Out-of-fold.
    tests : sequence of ndarray of int
        The images of each fold.
    rule : callable

    Returns
    -------
    probabilities : ndarray of float, shape (n,)
    suspicious : ndarray of bool, shape (n,)
        Neither saw the label of the image it is for.
    """
    probabilities, suspicious = np.empty(len(scores)), np.empty(len(scores), bool)
    for test in tests:
        others = np.ones(len(scores), bool)
        others[test] = False
        calibration = calibrate(labels[others], scores[others])
        threshold = rule(labels[others], calibration.apply(scores[others]))
        probabilities[test] = calibration.apply(scores[test])
        suspicious[test] = probabilities[test] >= threshold.value
    return probabilities, suspicious
