"""Logistic regression on a few columns without a penalty, by Newton's method, with its errors.

Calibration and its assessment need it: small, exact, and with the covariance that scikit-learn's
estimator doesn't give.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.special import expit

__all__ = ["LogisticFit", "logistic_fit"]

Floats = npt.NDArray[np.float64]

_STEPS = 100
# From here one full step more is exact to rounding, since the error is squared by each.
_GAIN = 1e-14
# Beyond these the likelihood still rises without end, or in no single direction.
_CONDITION = 1e11
_SURE = 1e-9


@dataclass(frozen=True)
class LogisticFit:
    """The maximum of the likelihood.

    Parameters
    ----------
    coefficients : ndarray, shape (k,)
    covariance : ndarray, shape (k, k)
        Inverse of the observed information.
    """

    coefficients: Floats
    covariance: Floats


def logistic_fit(
    columns: Floats, target: npt.NDArray[np.floating], offset: Floats | float = 0.0
) -> LogisticFit | None:
    """Fit ``P(y = 1) = sigmoid(columns @ coefficients + offset)``.

    Parameters
    ----------
    columns : ndarray, shape (n, k)
        With a column of ones where an intercept is wanted.
    target : ndarray, shape (n,)
        Labels 0 and 1, or shares between them.
    offset : ndarray, shape (n,) or float
        Added to the linear predictor as it is.

    Returns
    -------
    LogisticFit or None
        None where there is no finite maximum, or no single one.

    Examples
    --------
    >>> import numpy as np
    >>> fit = logistic_fit(np.ones((4, 1)), np.array([0.0, 0.0, 0.0, 1.0]))
    >>> fit.coefficients.round(4)
    array([-1.0986])
    """
    found = np.zeros(columns.shape[1])
    value = _log_likelihood(columns, target, offset, found)
    for _ in range(_STEPS):
        predicted = expit(columns @ found + offset)
        gradient = columns.T @ (target - predicted)
        information = _information(columns, predicted)
        if np.mean(predicted * (1 - predicted)) < _SURE:
            return None
        if np.linalg.cond(information) > _CONDITION:
            return None
        step = np.linalg.solve(information, gradient)
        # The decrement is twice the gain that is still to be had.
        if gradient @ step < _GAIN * len(target):
            best: Floats = found + step
            at_best = _information(columns, expit(columns @ best + offset))
            covariance: Floats = np.asarray(np.linalg.inv(at_best), np.float64)
            return LogisticFit(best, covariance)
        found, value = _ascend(columns, target, offset, found, step, value)
    return None


def _ascend(
    columns: Floats,
    target: npt.NDArray[np.floating],
    offset: Floats | float,
    found: Floats,
    step: Floats,
    value: float,
) -> tuple[Floats, float]:
    """Go along the step as far as the likelihood grows from `value`."""
    for _ in range(40):
        reached = _log_likelihood(columns, target, offset, found + step)
        if reached >= value:
            break
        step = step / 2
    return found + step, reached


def _information(columns: Floats, predicted: Floats) -> Floats:
    found: Floats = columns.T @ (columns * (predicted * (1 - predicted))[:, None])
    return found


def _log_likelihood(
    columns: Floats, target: npt.NDArray[np.floating], offset: Floats | float, found: Floats
) -> float:
    linear = columns @ found + offset
    return float(np.sum(target * linear - np.logaddexp(0, linear)))
