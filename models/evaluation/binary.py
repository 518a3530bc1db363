"""How good a head is on one split: every figure with its interval."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import numpy.typing as npt

from models.evaluation.curves import Curve
from models.evaluation.intervals import (
    Resampling,
    drawn_interval,
    specificity_interval,
    wilson_interval,
)
from models.evaluation.reliability import calibration_error, calibration_line
from models.evaluation.roc import AucDifference, auc_interval, compare_auc, delong_covariance
from models.evaluation.values import Evaluation, Interval, OperatingPoint

__all__ = [
    "SENSITIVITIES",
    "AucDifference",
    "auc_interval",
    "compare_auc",
    "delong_covariance",
    "evaluate",
    "operating_point",
    "wilson_interval",
]

Floats = npt.NDArray[np.float64]

# Those of the ISIC 2017 scorer. 82 % is what dermatologists reached in the ISIC 2016 reader study.
SENSITIVITIES: Final = (0.82, 0.89, 0.95)

_PARTIAL: Final = 0.8


def operating_point(
    labels: npt.ArrayLike, suspicious: npt.ArrayLike, threshold: float
) -> OperatingPoint:
    """Count what a decision gets right and wrong.

    Parameters
    ----------
    labels : array-like of int, shape (n,)
    suspicious : array-like of bool, shape (n,)
        The decision on each image.
    threshold : float
        To be named in the result; on the probability.

    Returns
    -------
    OperatingPoint
    """
    truth, called = np.asarray(labels) == 1, np.asarray(suspicious, bool)
    tp, fn = int((called & truth).sum()), int((~called & truth).sum())
    fp, tn = int((called & ~truth).sum()), int((~called & ~truth).sum())
    return OperatingPoint(
        threshold=threshold,
        sensitivity=wilson_interval(tp, tp + fn),
        specificity=wilson_interval(tn, tn + fp),
        ppv=wilson_interval(tp, tp + fp),
        npv=wilson_interval(tn, tn + fn),
        tp=tp,
        fp=fp,
        tn=tn,
        fn=fn,
    )


def evaluate(
    split: str,
    labels: npt.NDArray[Any],
    scores: Floats,
    probabilities: Floats,
    threshold: float,
    *,
    suspicious: npt.NDArray[np.bool_] | None = None,
    seed: int = 0,
) -> Evaluation:
    """Judge one head on one split.

    Parameters
    ----------
    split : str
    labels : ndarray of int, shape (n,)
        1 for the positive class, 0 for the rest; n is at least 1.
    scores, probabilities : ndarray, shape (n,)
        Before and after calibration.
    threshold : float
        On the probability.
    suspicious : ndarray of bool, shape (n,), optional
        The decisions, where they were not all made with `threshold`.
    seed : int
        Of the bootstrap.

    Returns
    -------
    Evaluation
    """
    decisions = probabilities >= threshold if suspicious is None else suspicious
    errors = (probabilities - labels) ** 2
    found = _drawn(labels, scores, errors, seed)
    slope, intercept = calibration_line(labels, probabilities)
    ece, by_chance = calibration_error(labels, probabilities)
    return Evaluation(
        split=split,
        n=len(labels),
        positives=int(labels.sum()),
        auc=auc_interval(labels, scores),
        average_precision=found.get("average_precision"),
        auc_sens_80=found.get("auc_sens_80"),
        pauc=found.get("pauc"),
        specificity_at={
            target: interval
            for target in SENSITIVITIES
            if (interval := specificity_interval(labels, scores, target)) is not None
        },
        brier=found["brier"],
        slope=slope,
        intercept=intercept,
        ece=ece,
        ece_by_chance=by_chance,
        operating_point=operating_point(labels, decisions, threshold),
        labels=labels,
        scores=scores,
        probabilities=probabilities,
        suspicious=np.asarray(decisions, bool),
    )


def _drawn(
    labels: npt.NDArray[Any], scores: Floats, errors: Floats, seed: int
) -> dict[str, Interval]:
    """Give the figures whose intervals are bootstrapped, all from the same draws."""
    n, m = len(labels), int(labels.sum())
    tops = {"brier": 1.0}
    edges = {"brier": 1 / n}
    if 0 < m < n:
        tops |= {"average_precision": 1.0, "auc_sens_80": 1.0, "pauc": 1 - _PARTIAL}
        edges |= {name: 1 / m if name == "average_precision" else 1 / (n - m) for name in tops}

    def figures(weights: Floats) -> Floats:
        columns = [weights @ errors / n]
        if len(tops) > 1:
            curve = Curve(labels, scores, weights)
            columns += [
                curve.average_precision(),
                curve.auc_above_sensitivity(_PARTIAL),
                curve.partial_auc(_PARTIAL),
            ]
        return np.stack(columns, axis=1)

    values = figures(np.ones((1, n)))[0]
    drawn = Resampling(labels, seed).of(figures)
    return {
        name: drawn_interval(float(value), column, top=top, edge=edges[name])
        for (name, top), value, column in zip(tops.items(), values, drawn.T, strict=True)
    }
