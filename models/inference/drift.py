"""Whether a bundle's probabilities hold on other images than it was fitted on."""

from __future__ import annotations

from scipy.special import logit

from features.numbers import percent, signed, spread
from models.evaluation.values import Evaluation, Interval

__all__ = ["calibration_drift"]


def calibration_drift(found: Evaluation, positive: str, n: int, positives: int) -> str | None:
    """Say whether the probabilities hold, and if not, how they err.

    Parameters
    ----------
    found : Evaluation
        On these images.
    positive : str
        Name of the positive class.
    n, positives : int
        Images that the bundle was calibrated on, and those of them that are positive.

    Returns
    -------
    str or None
        A sentence; None where slope or intercept can't be estimated.

    References
    ----------
    Van Calster et al., A calibration hierarchy for risk models was defined, Journal of Clinical
    Epidemiology 2016. Another share of positives alone moves the intercept by the difference of the
    shares' log-odds (Saerens et al., Neural Computation 2002).
    """
    slope, intercept = found.slope, found.intercept
    if slope is None or intercept is None:
        return None
    figures = (
        f"calibration slope {slope.value:.2f} ({spread(slope.low, slope.high, ' to ', 2)}), "
        f"intercept {_signed(intercept)}"
    )
    wrong = []
    if not _holds(intercept, 0):
        wrong.append(f"too {'high' if intercept.value < 0 else 'low'} on average")
    if not _holds(slope, 1):
        wrong.append("too far apart" if slope.value < 1 else "too close together")
    if not wrong:
        return f"Probabilities agree with these images as far as {found.n} of them tell: {figures}."
    text = (
        f"ATTENTION: calibration has drifted: probabilities are {' and '.join(wrong)} ({figures})"
    )
    if not _holds(intercept, 0) and 0 < positives < n:
        text += f"; {_share(found, positive, n, positives, intercept)}"
    return f"{text}. The order of images is not touched by that, but what the threshold does is."


def _share(found: Evaluation, positive: str, n: int, positives: int, intercept: Interval) -> str:
    here, there = found.positives / found.n, positives / n
    moved = float(logit(here) - logit(there))
    alone = "alone explains" if _holds(intercept, moved) else "does not explain"
    return (
        f"{percent(here)} of these images are {positive}, of those it was calibrated on "
        f"{percent(there)}, which {alone} the intercept"
    )


def _holds(interval: Interval, value: float) -> bool:
    return interval.low <= value <= interval.high


def _signed(interval: Interval) -> str:
    return f"{signed(interval.value)} ({signed(interval.low)} to {signed(interval.high)})"
