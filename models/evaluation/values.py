"""The figures of one head on one split, as plain values."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.metrics import precision_recall_curve, roc_curve

from features.numbers import interval

__all__ = ["Evaluation", "Interval", "OperatingPoint", "number", "or_none"]

Floats = npt.NDArray[np.float64]


Labels = npt.NDArray[np.int8]


_CURVE_DIGITS = 5


@dataclass(frozen=True)
class Interval:
    """An estimate with its two-sided 95 % confidence interval."""

    value: float
    low: float
    high: float

    def as_dict(self) -> dict[str, float | None]:
        """Give JSON-ready values."""
        return {name: number(value) for name, value in vars(self).items()}

    def __str__(self) -> str:
        return interval(self.value, self.low, self.high)


@dataclass(frozen=True)
class OperatingPoint:
    """What the decision "suspicious if the probability is at least the threshold" does.

    Parameters
    ----------
    threshold : float
        On the calibrated probability.
    sensitivity, specificity : Interval or None
        Wilson intervals; None where the split has no image of that class.
    ppv, npv : Interval or None
        Share of positives among the images called suspicious, and of the rest among the others;
        they hold at this split's share of positives. None where no image is called so.
    tp, fp, tn, fn : int
        Images, counted with the positive class as "positive".
    """

    threshold: float
    sensitivity: Interval | None
    specificity: Interval | None
    ppv: Interval | None
    npv: Interval | None
    tp: int
    fp: int
    tn: int
    fn: int

    def as_dict(self) -> dict[str, Any]:
        """Give JSON-ready values."""
        return {
            "threshold": number(self.threshold),
            "sensitivity": or_none(self.sensitivity),
            "specificity": or_none(self.specificity),
            "ppv": or_none(self.ppv),
            "npv": or_none(self.npv),
            **{name: getattr(self, name) for name in ("tp", "fp", "tn", "fn")},
        }


@dataclass(frozen=True)
class Evaluation:
    """One head on one split.

    Parameters
    ----------
    split : {"cross-validation", "valid", "test"}
        In ``"cross-validation"`` every image is judged by a head, a calibration and a threshold
        that were made without it; the settings of the head were chosen on the same folds.
    n, positives : int
        Images, and how many of them are of the positive class.
    auc : Interval or None
        Area under the ROC curve; None where the split has a single class.
    average_precision : Interval or None
        None where the split has no positive; so are the next three.
    auc_sens_80 : Interval or None
        Area under the ROC curve above 80 % sensitivity, as isic-challenge-scoring has it.
    pauc : Interval or None
        Area between the ROC curve and 80 % sensitivity, at most 0.2: the figure of ISIC 2024.
    specificity_at : dict of float to Interval
        Best specificity at a sensitivity, with the threshold chosen on this very split.
    brier : Interval
        Mean squared error of the probabilities.
    slope, intercept : Interval or None
        Of the calibration line; 1 and 0 are right. None where it can't be estimated.
    ece, ece_by_chance : float
        Calibration error over ten groups of equal size, and about what right probabilities give.
    operating_point : OperatingPoint
    labels : ndarray of int, shape (n,)
        1 for the positive class, 0 for the rest.
    scores : ndarray of float, shape (n,)
        What the head gave, before calibration; the ROC curve and its area are of these.
    probabilities : ndarray of float, shape (n,)
        The calibrated scores.
    suspicious : ndarray of bool, shape (n,)
        The decisions.
    """

    split: str
    n: int
    positives: int
    auc: Interval | None
    average_precision: Interval | None
    auc_sens_80: Interval | None
    pauc: Interval | None
    specificity_at: dict[float, Interval]
    brier: Interval
    slope: Interval | None
    intercept: Interval | None
    ece: float
    ece_by_chance: float
    operating_point: OperatingPoint
    labels: Labels
    scores: Floats
    probabilities: Floats
    suspicious: npt.NDArray[np.bool_]

    def roc(self) -> tuple[Floats, Floats]:
        """Give the corners of the ROC curve: false and true positive rates, both ascending.

        Both are empty where the split has a single class.
        """
        if self.auc is None:
            return np.empty(0), np.empty(0)
        fpr, tpr, _ = roc_curve(self.labels, self.scores)
        return fpr, tpr

    def precision_recall(self) -> tuple[Floats, Floats]:
        """Give the precision-recall curve as recall (ascending) and precision.

        Both are empty where the split has a single class.
        """
        if self.auc is None:
            return np.empty(0), np.empty(0)
        precision, recall, _ = precision_recall_curve(
            self.labels, self.scores, drop_intermediate=True
        )
        return recall[::-1], precision[::-1]

    def as_dict(self) -> dict[str, Any]:
        """Give JSON-ready values: the figures and the ROC curve, not the scores."""
        fpr, tpr = (np.round(rates, _CURVE_DIGITS).tolist() for rates in self.roc())
        return {
            "split": self.split,
            "n": self.n,
            "positives": self.positives,
            "auc": or_none(self.auc),
            "average_precision": _value(self.average_precision),
            "average_precision_interval": or_none(self.average_precision),
            "auc_sens_80": or_none(self.auc_sens_80),
            "pauc_above_80": or_none(self.pauc),
            "specificity_at": {
                f"{target:g}": found.as_dict() for target, found in self.specificity_at.items()
            },
            "brier": _value(self.brier),
            "brier_interval": or_none(self.brier),
            "calibration": {
                "slope": or_none(self.slope),
                "intercept": or_none(self.intercept),
                "ece": number(self.ece),
                "ece_by_chance": number(self.ece_by_chance),
                "ece_groups": min(10, self.n),
            },
            "operating_point": self.operating_point.as_dict(),
            "roc": {"fpr": fpr, "tpr": tpr},
        }


def number(value: float | None) -> float | None:
    """Give a float that JSON knows: None for what is not finite."""
    return None if value is None or not math.isfinite(value) else float(value)


def _value(value: Interval | None) -> float | None:
    return None if value is None else number(value.value)


def or_none(value: Interval | None) -> dict[str, float | None] | None:
    return None if value is None else value.as_dict()
