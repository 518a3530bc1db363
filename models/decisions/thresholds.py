"""From probabilities to decisions: the threshold, and the zone in which nothing is certain."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
from scipy.special import betaincinv

from features.errors import LesionError

__all__ = [
    "LeastCost",
    "Probability",
    "TargetSensitivity",
    "Threshold",
    "ThresholdRule",
    "Youden",
    "Zone",
    "read_rule",
    "sensitivity_bound",
    "uncertain_zone",
]


@dataclass(frozen=True)
class Zone:
    """Where the probability doesn't tell: see `models.decisions.thresholds.uncertain_zone`.

    Parameters
    ----------
    lower, upper : float
        The zone holds both.
    alpha : float
        Share of each class that is on the wrong side of the zone, at most.
    """

    lower: float
    upper: float
    alpha: float

    def __post_init__(self) -> None:
        if not (0 <= self.lower <= self.upper <= 1 and 0 < self.alpha < 1):
            raise ValueError(f"{self} is no zone of probabilities")

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Zone:
        """Read what `as_dict` gave.

        Raises
        ------
        ValueError, TypeError, LookupError
            If these are not the values of a zone.
        """
        return cls(*(float(values[name]) for name in ("lower", "upper", "alpha")))

    def holds(self, probability: npt.ArrayLike) -> npt.NDArray[np.bool_]:
        """Say of each probability whether it is in the zone."""
        given = np.asarray(probability)
        inside: npt.NDArray[np.bool_] = (given >= self.lower) & (given <= self.upper)
        return inside

    def as_dict(self) -> dict[str, float]:
        """Give JSON-ready values."""
        return dict(vars(self))


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


@dataclass(frozen=True)
class Youden:
    """The threshold with the highest sum of sensitivity and specificity.

    References
    ----------
    Youden, Index for rating diagnostic tests, Cancer 1950.
    """

    def __call__(self, labels: npt.NDArray[Any], probabilities: Floats) -> Threshold:
        """Choose; of equally good thresholds, the lowest."""
        order = np.argsort(-probabilities, kind="stable")
        ranked = probabilities[order]
        last = np.append(np.diff(ranked) != 0, True)
        positive = labels[order] == 1
        found = np.cumsum(positive) / max(int(positive.sum()), 1)
        alarms = np.cumsum(~positive) / max(int((~positive).sum()), 1)
        index = np.round((found - alarms)[last], 12)
        best = len(index) - 1 - int(np.argmax(index[::-1]))
        return Threshold(
            float(ranked[last][best]),
            f"highest Youden index ({index[best]:.3f}) among {len(labels)} cross-validated images; "
            "no sensitivity is promised",
        )


@dataclass(frozen=True)
class Probability:
    """A threshold that is given."""

    value: float

    def __call__(self, labels: npt.NDArray[Any], probabilities: Floats) -> Threshold:
        """Give it; nothing is looked at."""
        return Threshold(self.value, f"a probability of {self.value:g}, as asked")


@dataclass(frozen=True)
class LeastCost:
    """The threshold of least expected cost, if probabilities are right.

    Parameters
    ----------
    miss, alarm : float
        What a missed positive and a false alarm cost, in the same unit.

    References
    ----------
    Elkan, The foundations of cost-sensitive learning, IJCAI 2001.
    """

    miss: float
    alarm: float

    def __call__(self, labels: npt.NDArray[Any], probabilities: Floats) -> Threshold:
        """Give ``alarm / (alarm + miss)``; nothing is looked at."""
        return Threshold(
            self.alarm / (self.alarm + self.miss),
            f"least expected cost where a miss costs {self.miss:g} and a false alarm "
            f"{self.alarm:g}, at the training images' share of positives",
        )


def read_rule(text: str) -> ThresholdRule:
    """Read how a threshold is to be chosen.

    Parameters
    ----------
    text : str
        ``sensitivity:TARGET@CONFIDENCE``, ``youden``, ``cost:MISS/ALARM``, or a probability.

    Returns
    -------
    callable

    Raises
    ------
    LesionError
        If it is none of these.

    Examples
    --------
    >>> read_rule("cost:10/1")
    LeastCost(miss=10.0, alarm=1.0)
    """
    kind, _, rest = text.strip().lower().partition(":")
    try:
        if kind == "youden" and not rest:
            return Youden()
        if kind == "sensitivity":
            target, _, confidence = rest.partition("@")
            shares = float(target), float(confidence or 0.9)
            if all(0 < share < 1 for share in shares):
                return TargetSensitivity(*shares)
        elif kind == "cost":
            miss, alarm = (float(part) for part in rest.split("/"))
            if all(0 < cost < np.inf for cost in (miss, alarm)):
                return LeastCost(miss, alarm)
        elif not rest and 0 < (value := float(kind)) < 1:
            return Probability(value)
    except ValueError:
        pass
    raise LesionError(
        f"got --threshold {text!r}, expected sensitivity:0.95@0.9 (both between 0 and 1), youden, "
        "cost:MISS/ALARM such as cost:10/1, or a probability between 0 and 1"
    )


def uncertain_zone(
    labels: npt.NDArray[Any], probabilities: Floats, threshold: float, alpha: float
) -> Zone:
    """Give the zone of probabilities in which nothing is certain.

    Parameters
    ----------
    labels : ndarray of int, shape (n,)
    probabilities : ndarray, shape (n,)
        Out-of-fold.
    threshold : float
    alpha : float
        Share of each class that may lie on the wrong side of the zone.

    Returns
    -------
    Zone

    Notes
    -----
    Split conformal prediction by class: a class is ruled out for an image whose probability is
    more extreme than all but a share `alpha` of that class (counting the image itself). The zone
    holds the probabilities for which both classes or none is left, and is widened to hold the
    threshold: so below the zone the decision is always "not suspicious", above it always
    "suspicious", and inside it the decision stands but is not certain. Widening keeps the promise:
    of either class at most `alpha`, on average over draws of the images that it was made from,
    lies on the wrong side. It holds for images drawn like these and judged by a head like those
    of the folds, and whatever the share of positives is.

    References
    ----------
    Vovk, Gammerman and Shafer, Algorithmic Learning in a Random World, 2005, section 4.5
    (label-conditional); Vovk, Conditional validity of inductive conformal predictors, 2012.
    """
    positives = np.sort(probabilities[labels == 1])
    negatives = np.sort(probabilities[labels != 1])
    # An image of this rank among n others leaves a share of at most alpha beyond it. Rounding must
    # not turn 0.1 * 30 into less than 3.
    low, high = (int(alpha * (len(found) + 1) + 1e-9) for found in (positives, negatives))
    # Without enough images a class is never ruled out.
    edges = [
        float(positives[low - 1]) if low else 0.0,
        float(negatives[-high]) if high else 1.0,
        threshold,
    ]
    return Zone(min(edges), max(edges), alpha)
