"""Whether probabilities are what they say, and what acting on them is worth."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.special import logit
from scipy.stats import norm

from models.decisions.newton import logistic_fit
from models.evaluation.intervals import wilson_interval
from models.evaluation.values import Interval

__all__ = ["Bin", "calibration_error", "calibration_line", "net_benefit", "tenths"]

Floats = npt.NDArray[np.float64]

_Z = float(norm.ppf(0.975))
# Log odds need probabilities short of 0 and 1.
_EDGE = 1e-12
_BINS = 10


@dataclass(frozen=True)
class Bin:
    """Images of like probability.

    Parameters
    ----------
    n, positives : int
    predicted : float
        Mean of the probabilities.
    observed : Interval
        Share of positives, with Wilson's interval.
    """

    n: int
    positives: int
    predicted: float
    observed: Interval


def calibration_line(
    labels: npt.NDArray[Any], probabilities: Floats
) -> tuple[Interval | None, Interval | None]:
    """Give Cox's calibration slope and the calibration intercept.

    Parameters
    ----------
    labels : ndarray of int, shape (n,)
    probabilities : ndarray, shape (n,)

    Returns
    -------
    slope : Interval or None
        ``b`` of ``logit P(y = 1) = a + b logit p``; 1 is right, less means that probabilities are
        too far apart. None where it can't be estimated: one class, one probability, or classes
        wholly apart.
    intercept : Interval or None
        ``a`` with ``b`` held at 1 (calibration in the large): 0 is right, less means that
        probabilities are too high. None if there is one class.

    References
    ----------
    Cox, Two further applications of a model for binary regression, Biometrika 1958; Van Calster
    et al., Calibration: the Achilles heel of predictive analytics, BMC Medicine 2019. Intervals
    are Wald's.
    """
    target = labels.astype(np.float64)
    odds = logit(np.clip(probabilities, _EDGE, 1 - _EDGE))
    ones = np.ones_like(odds)
    if not 0 < target.mean() < 1:
        return None, None
    large = logistic_fit(ones[:, None], target, odds)
    spread = None
    if odds.std() > 0:
        spread = logistic_fit(np.stack([ones, odds], axis=1), target)
    return (
        None if spread is None else _wald(spread.coefficients[1], spread.covariance[1, 1]),
        None if large is None else _wald(large.coefficients[0], large.covariance[0, 0]),
    )


def tenths(labels: npt.NDArray[Any], probabilities: Floats, bins: int = _BINS) -> list[Bin]:
    """Split images by probability into `bins` groups of (nearly) equal size.

    Images of equal probability may be in two groups.

    Parameters
    ----------
    labels : ndarray of int, shape (n,)
    probabilities : ndarray, shape (n,)
    bins : int

    Returns
    -------
    list of Bin
        Of ascending probability; fewer than `bins` if there are fewer images.
    """
    found = []
    order = np.argsort(probabilities, kind="stable")
    for rows in np.array_split(order, min(bins, len(order))):
        positives = int(labels[rows].sum())
        observed = wilson_interval(positives, len(rows))
        if observed is not None:
            found.append(Bin(len(rows), positives, float(probabilities[rows].mean()), observed))
    return found


def calibration_error(labels: npt.NDArray[Any], probabilities: Floats) -> tuple[float, float]:
    """Give the expected calibration error over ten groups of equal size, and what chance makes.

    Parameters
    ----------
    labels : ndarray of int, shape (n,)
    probabilities : ndarray, shape (n,)

    Returns
    -------
    error : float
        Mean distance between predicted and observed shares, weighted by the groups' sizes.
    chance : float
        About what the error would be if every probability were right: the figure is never
        negative, so it grows as images get fewer, and has no honest symmetric interval.

    References
    ----------
    Naeini et al., Obtaining well calibrated probabilities using Bayesian binning, AAAI 2015; the
    size of its bias, Bröcker and Smith, Increasing the reliability of reliability diagrams, 2007.
    """
    groups = tenths(labels, probabilities)
    n = len(labels)
    error = sum(group.n * abs(group.predicted - group.observed.value) for group in groups) / n
    # The mean distance of a normal deviate from its mean is sqrt(2 / pi) deviations.
    chance = sum(
        group.n * np.sqrt(2 * group.predicted * (1 - group.predicted) / (np.pi * group.n))
        for group in groups
    )
    return float(error), float(chance / n)


def net_benefit(labels: npt.NDArray[Any], probabilities: Floats, thresholds: Floats) -> Floats:
    """Give what calling images suspicious is worth, in true positives per image.

    Parameters
    ----------
    labels : ndarray of int, shape (n,)
    probabilities : ndarray, shape (n,)
    thresholds : ndarray, shape (k,)
        Probabilities from which one would act, each below 1: at 0.1, nine false alarms are worth
        one find.

    Returns
    -------
    ndarray, shape (k,)
        ``tp / n - fp / n * t / (1 - t)``. Calling nothing suspicious is worth 0; calling all,
        what probabilities that are all 1 give.

    References
    ----------
    Vickers and Elkin, Decision curve analysis, Medical Decision Making 2006.

    Examples
    --------
    >>> import numpy as np
    >>> net_benefit(np.array([1, 0]), np.array([0.8, 0.6]), np.array([0.5, 0.7]))
    array([0. , 0.5])
    """
    called = probabilities >= thresholds[:, None]
    true = (called & (labels == 1)).mean(axis=1)
    false = (called & (labels != 1)).mean(axis=1)
    worth: Floats = true - false * thresholds / (1 - thresholds)
    return worth


def _wald(value: float, variance: float) -> Interval:
    half = _Z * float(np.sqrt(variance))
    return Interval(float(value), float(value) - half, float(value) + half)
