"""Intervals: Wilson's where the figure is a share, a stratified bootstrap where nothing is closed.

The bootstrap gives every image a weight (how often it was drawn), so that a figure is computed on
all draws at once and images are sorted once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.special import expit, logit
from scipy.stats import binomtest, norm

from models.results import Interval

__all__ = ["Resampling", "drawn_interval", "wilson_interval"]

Floats = npt.NDArray[np.float64]
Statistic = Callable[[Floats], Floats]

_Z = float(norm.ppf(0.975))
# Enough for a standard deviation, which then errs by some 3 %.
_DRAWS = 500
# So many weights are held at once: 64 MB.
_AT_ONCE = 8_000_000


def wilson_interval(successes: int, n: int) -> Interval | None:
    """Give a proportion with its 95 % Wilson score interval.

    Parameters
    ----------
    successes, n : int

    Returns
    -------
    Interval or None
        None if `n` is 0.

    References
    ----------
    Wilson, Probable inference, the law of succession, and statistical inference, JASA 1927.

    Examples
    --------
    >>> print(wilson_interval(95, 100))
    0.950 (0.888-0.978)
    """
    if n == 0:
        return None
    limits = binomtest(successes, n).proportion_ci(0.95, method="wilson")
    return Interval(successes / n, float(limits.low), float(limits.high))


@dataclass(frozen=True)
class Resampling:
    """Bootstrap draws that keep the number of images of each class.

    Parameters
    ----------
    labels : ndarray of int, shape (n,)
        1 for the positive class, 0 for the rest.
    seed : int
        The same labels and seed give the same draws.
    draws : int

    References
    ----------
    Efron and Tibshirani, An Introduction to the Bootstrap, 1993; by strata as in Robin et al.,
    pROC, BMC Bioinformatics 2011.
    """

    labels: npt.NDArray[Any]
    seed: int = 0
    draws: int = _DRAWS

    def weights(self) -> Iterator[Floats]:
        """Give how often each image was drawn, shape (some draws, n), part by part."""
        rng = np.random.default_rng(self.seed)
        n = len(self.labels)
        classes = [np.flatnonzero(self.labels == value) for value in (0, 1)]
        step = max(1, _AT_ONCE // max(n, 1))
        for start in range(0, self.draws, step):
            count = min(step, self.draws - start)
            drawn = np.zeros((count, n))
            for rows in classes:
                if len(rows):
                    drawn[:, rows] = _multiplicities(rng, count, len(rows))
            yield drawn

    def of(self, statistic: Statistic) -> Floats:
        """Give figures on every draw.

        Parameters
        ----------
        statistic : callable
            From weights, shape (k, n), to figures, shape (k, m).

        Returns
        -------
        ndarray, shape (draws, m)
        """
        return np.concatenate([statistic(weights) for weights in self.weights()])


def _multiplicities(rng: np.random.Generator, draws: int, n: int) -> npt.NDArray[np.intp]:
    chosen = rng.integers(0, n, size=(draws, n)) + n * np.arange(draws)[:, None]
    return np.bincount(chosen.ravel(), minlength=draws * n).reshape(draws, n)


def drawn_interval(value: float, drawn: Floats, *, top: float = 1.0, edge: float) -> Interval:
    """Give a figure with the 95 % interval that its bootstrap draws suggest.

    Parameters
    ----------
    value : float
        On the images as they are.
    drawn : ndarray, shape (draws,)
    top : float
        The figure lies between 0 and this.
    edge : float
        What one image more or less can change, as a share of `top`: nothing nearer to the ends
        than half of it is told from them.

    Returns
    -------
    Interval
        From the standard deviation of the draws on the logit scale, which keeps it within its
        bounds. In simulations it covers 93 to 97 % from about 60 positives on, and 92 to 98 % with
        30, where percentiles cover as little as 85 %; but for the specificity at 95 % sensitivity
        only from about 100 positives on, and 90 % with 60. Where classes are wholly apart all draws
        agree, and the interval has no width.
    """

    def odds(figure: npt.ArrayLike) -> Floats:
        scaled: Floats = logit(np.clip(np.asarray(figure) / top, edge / 2, 1 - edge / 2))
        return scaled

    half = _Z * odds(drawn).std()
    if half == 0:
        return Interval(value, value, value)
    low, high = top * expit(odds(value) + half * np.array([-1, 1]))
    return Interval(value, min(float(low), value), max(float(high), value))
