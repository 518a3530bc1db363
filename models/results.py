"""What a comparison of heads found: plain values, each of which turns into JSON as it is."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.special import expit
from sklearn.metrics import precision_recall_curve, roc_curve

__all__ = [
    "Calibration",
    "Candidate",
    "Comparison",
    "Evaluation",
    "HeadResult",
    "Interval",
    "OperatingPoint",
]

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
        return f"{self.value:.3f} ({self.low:.3f}-{self.high:.3f})"


@dataclass(frozen=True)
class OperatingPoint:
    """What the decision "suspicious if the probability is at least the threshold" does.

    Parameters
    ----------
    threshold : float
        On the calibrated probability.
    sensitivity, specificity : Interval or None
        Wilson intervals; None where the split has no image of that class.
    tp, fp, tn, fn : int
        Images, counted with the positive class as "positive".
    """

    threshold: float
    sensitivity: Interval | None
    specificity: Interval | None
    tp: int
    fp: int
    tn: int
    fn: int

    def as_dict(self) -> dict[str, Any]:
        """Give JSON-ready values."""
        return {
            "threshold": number(self.threshold),
            "sensitivity": _or_none(self.sensitivity),
            "specificity": _or_none(self.specificity),
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
    average_precision : float or None
    brier : float
        Mean squared error of the probabilities.
    operating_point : OperatingPoint
    labels : ndarray of int, shape (n,)
        1 for the positive class, 0 for the rest.
    scores : ndarray of float, shape (n,)
        What the head gave, before calibration; the ROC curve and its area are of these.
    probabilities : ndarray of float, shape (n,)
        The calibrated scores.
    """

    split: str
    n: int
    positives: int
    auc: Interval | None
    average_precision: float | None
    brier: float
    operating_point: OperatingPoint
    labels: Labels
    scores: Floats
    probabilities: Floats

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
            "auc": _or_none(self.auc),
            "average_precision": number(self.average_precision),
            "brier": number(self.brier),
            "operating_point": self.operating_point.as_dict(),
            "roc": {"fpr": fpr, "tpr": tpr},
        }


@dataclass(frozen=True)
class Calibration:
    """Turns scores into probabilities: ``1 / (1 + exp(-(slope * score + intercept)))``.

    The slope is never negative, so a higher score never means a lower probability.
    """

    slope: float
    intercept: float
    method: str = "platt"

    def apply(self, scores: npt.ArrayLike) -> Floats:
        """Give the probabilities of `scores`, of the same shape."""
        calibrated: Floats = expit(self.slope * np.asarray(scores, float) + self.intercept)
        return calibrated

    def as_dict(self) -> dict[str, Any]:
        """Give JSON-ready values."""
        return {"method": self.method, "slope": self.slope, "intercept": self.intercept}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Calibration:
        """Read what `as_dict` gave."""
        return cls(float(values["slope"]), float(values["intercept"]), str(values["method"]))


@dataclass(frozen=True)
class Candidate:
    """Settings that were tried, and the area under the ROC curve of their out-of-fold scores."""

    settings: dict[str, Any]
    auc: float

    def as_dict(self) -> dict[str, Any]:
        """Give JSON-ready values."""
        return {"settings": self.settings, "auc": number(self.auc)}


@dataclass(frozen=True)
class HeadResult:
    """One tuned, calibrated and refitted head.

    Parameters
    ----------
    name : str
        Key in `models.heads.HEADS`, e.g. ``"logistic_regression"``.
    title : str
        The name that a person reads.
    settings : dict
        Of the best candidate.
    candidates : tuple of Candidate
        In the order in which they were tried.
    evaluations : dict of str to Evaluation
        ``"cross-validation"`` always, ``"valid"`` and ``"test"`` where the data has them.
    calibration : Calibration
    threshold : float
        On the calibrated probability; at or above it an image is suspicious.
    threshold_rule : str
        How the threshold was chosen, for a person.
    seconds : float
        Time from the first candidate to the last evaluation.
    estimator : object
        Fitted on all training images; use `models.heads.score` on it.
    """

    name: str
    title: str
    settings: dict[str, Any]
    candidates: tuple[Candidate, ...]
    evaluations: dict[str, Evaluation]
    calibration: Calibration
    threshold: float
    threshold_rule: str
    seconds: float
    estimator: Any

    def as_dict(self) -> dict[str, Any]:
        """Give JSON-ready values: everything but the estimator."""
        return {
            "name": self.name,
            "title": self.title,
            "settings": self.settings,
            "candidates": [candidate.as_dict() for candidate in self.candidates],
            "evaluations": {name: found.as_dict() for name, found in self.evaluations.items()},
            "calibration": self.calibration.as_dict(),
            "threshold": number(self.threshold),
            "threshold_rule": self.threshold_rule,
            "seconds": round(self.seconds, 3),
        }


@dataclass(frozen=True)
class Comparison:
    """The heads side by side.

    Parameters
    ----------
    labels : tuple of str
        (negative, positive).
    heads : dict of str to HeadResult
        In the order in which they were asked for.
    chosen : str
        Key of the head to be served.
    chosen_by : str
        Why that one, for a person.
    folds, seed : int
        Of the cross-validation.
    counts : dict of str to dict of str to int
        Images by split (``"train"``, ``"valid"``, ``"test"``) and by the label in the data, after
        everything that the notes mention was left out.
    notes : tuple of str
        What a reader of the figures must know, one sentence each.
    marks : tuple of str
        ``"untrained"``, ``"synthetic"``: to be shown on every output.
    fingerprint : str
        Of the extractor that made the embeddings.
    """

    labels: tuple[str, str]
    heads: dict[str, HeadResult]
    chosen: str
    chosen_by: str
    folds: int
    seed: int
    counts: dict[str, dict[str, int]]
    notes: tuple[str, ...]
    marks: tuple[str, ...]
    fingerprint: str

    @property
    def best(self) -> HeadResult:
        """The chosen head."""
        return self.heads[self.chosen]

    def as_dict(self) -> dict[str, Any]:
        """Give JSON-ready values: everything but the estimators and the scores."""
        return {
            "labels": {"negative": self.labels[0], "positive": self.labels[1]},
            "heads": {name: head.as_dict() for name, head in self.heads.items()},
            "chosen": self.chosen,
            "chosen_by": self.chosen_by,
            "folds": self.folds,
            "seed": self.seed,
            "counts": self.counts,
            "notes": list(self.notes),
            "marks": list(self.marks),
            "fingerprint": self.fingerprint,
        }


def number(value: float | None) -> float | None:
    """Give a float that JSON knows: None for what is not finite."""
    return None if value is None or not math.isfinite(value) else float(value)


def _or_none(value: Interval | None) -> dict[str, float | None] | None:
    return None if value is None else value.as_dict()
