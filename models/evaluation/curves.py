"""Figures along the ROC and the precision-recall curve, on all bootstrap draws at once."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["Curve"]

Floats = npt.NDArray[np.float64]


class Curve:
    """The curve that a threshold runs along, from the highest score down.

    Every figure takes weights of the images, shape (k, n), and gives one value per row: a row of
    ones is the data as it is, other rows are bootstrap draws.

    Parameters
    ----------
    labels : ndarray of int, shape (n,)
        1 for the positive class, 0 for the rest.
    scores : ndarray, shape (n,)
        Images of equal scores are called together.
    weights : ndarray, shape (k, n), optional
        One row of ones by default.
    """

    def __init__(
        self, labels: npt.NDArray[Any], scores: Floats, weights: Floats | None = None
    ) -> None:
        rows = np.ones((1, len(labels))) if weights is None else weights
        order = np.argsort(-scores, kind="stable")
        ends = np.append(np.flatnonzero(np.diff(scores[order])), len(scores) - 1)
        positive = labels[order] == 1
        ordered = rows[:, order]
        tp = np.cumsum(np.where(positive, ordered, 0), axis=1)[:, ends]
        fp = np.cumsum(np.where(positive, 0, ordered), axis=1)[:, ends]
        start = np.zeros((len(rows), 1))
        self._tp, self._fp = np.hstack([start, tp]), np.hstack([start, fp])
        self._tpr = self._tp / self._tp[:, -1:]
        self._fpr = self._fp / self._fp[:, -1:]

    def average_precision(self) -> Floats:
        """Give the precision at every threshold, weighted by the recall that it adds."""
        called = self._tp[:, 1:] + self._fp[:, 1:]
        precision = self._tp[:, 1:] / np.maximum(called, 1)
        summed: Floats = np.sum(precision * np.diff(self._tpr, axis=1), axis=1)
        return summed

    def partial_auc(self, sensitivity: float) -> Floats:
        """Give the area between the ROC curve and the line of a sensitivity.

        With 0.8 it is the ``pAUC`` of the ISIC 2024 challenge: 0.2 at best, 0.02 by chance.
        """
        low, high = self._tpr[:, :-1], self._tpr[:, 1:]
        left, right = self._fpr[:, :-1], self._fpr[:, 1:]
        start = np.clip(sensitivity, low, high)
        climb = np.where(high > low, high - low, 1.0)
        at_start = left + (right - left) * (start - low) / climb
        summed: Floats = np.sum((high - start) * (1 - (at_start + right) / 2), axis=1)
        return summed

    def auc_above_sensitivity(self, sensitivity: float) -> Floats:
        """Give the area under the part of the ROC curve that lies above a sensitivity.

        With 0.8 it is the ``auc_sens_80`` of isic-challenge-scoring: 1 at best, and 0.18 by chance.
        It is the area above the sensitivity and the rectangle below that.
        """
        return self.partial_auc(sensitivity) + sensitivity * (1 - self._reached(sensitivity))

    def specificity_at(self, sensitivity: float) -> Floats:
        """Give the best specificity of a threshold that has the sensitivity, without interpolating.

        The threshold is chosen on the very images that it is judged by.
        """
        place = self._first(sensitivity)
        chosen: Floats = 1 - np.take_along_axis(self._fpr, place[:, None], axis=1)[:, 0]
        return chosen

    def _first(self, sensitivity: float) -> npt.NDArray[np.intp]:
        # Rounding must not turn 19 of 20 into less than 95 %.
        first: npt.NDArray[np.intp] = np.argmax(self._tpr >= sensitivity - 1e-12, axis=1)
        return first

    def _reached(self, sensitivity: float) -> Floats:
        """Give the false positive rate where the curve, as drawn, meets the sensitivity."""
        place = self._first(sensitivity)
        rows = np.arange(len(place))
        low, high = self._tpr[rows, place - 1], self._tpr[rows, place]
        left, right = self._fpr[rows, place - 1], self._fpr[rows, place]
        met: Floats = left + (right - left) * np.clip((sensitivity - low) / (high - low), 0, 1)
        return met
