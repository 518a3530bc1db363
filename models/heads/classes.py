"""Which of several classes: a head for each class against the rest."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from models.decisions.calibrators import Calibration
from models.heads.base import score

__all__ = ["ClassHead", "ClassHeads", "share_out"]

Floats = npt.NDArray[np.float64]


# Keeps the shares defined where every other class is all but impossible.
_LEAST = 1e-12


def share_out(positive: npt.ArrayLike, others: npt.ArrayLike) -> Floats:
    """Make the probabilities of all classes sum to 1.

    Parameters
    ----------
    positive : array-like, shape (n,)
        Probability of the positive class, which it keeps.
    others : array-like, shape (n, k - 1)
        Of each other class against all that are not of it.

    Returns
    -------
    ndarray, shape (n, k)
        The positive class first.

    Examples
    --------
    >>> share_out([0.2], [[0.3, 0.1]]).round(2)
    array([[0.2, 0.6, 0.2]])
    """
    kept = np.asarray(positive, np.float64)[:, None]
    claimed = np.maximum(np.asarray(others, np.float64), _LEAST)
    shares = claimed / claimed.sum(axis=1, keepdims=True)
    return np.hstack([kept, (1 - kept) * shares])


@dataclass(frozen=True)
class ClassHead:
    """One class against all the others.

    Parameters
    ----------
    label : str
    estimator : object
        Fitted; use `models.heads.base.score` on it.
    calibration : Calibration
    """

    label: str
    estimator: Any
    calibration: Calibration


@dataclass(frozen=True)
class ClassHeads:
    """What turns embeddings and the probability of the positive class into those of all classes.

    Parameters
    ----------
    labels : tuple of str
        The positive class first.
    shares : tuple of float
        Of the classes among the training images; they sum to 1.
    others : tuple of ClassHead
        Of all classes but the positive one, in the same order.
    """

    labels: tuple[str, ...]
    shares: tuple[float, ...]
    others: tuple[ClassHead, ...]

    def probabilities(self, X: npt.ArrayLike, positive: npt.ArrayLike) -> Floats:
        """Give the probabilities of all classes.

        Parameters
        ----------
        X : array-like, shape (n, d)
            Embeddings.
        positive : array-like, shape (n,)
            Probability of the positive class.

        Returns
        -------
        ndarray, shape (n, k)
            In the order of `labels`; every row sums to 1.
        """
        embeddings = np.asarray(X, np.float32)
        columns = [
            head.calibration.apply(score(head.estimator, embeddings)) for head in self.others
        ]
        return share_out(positive, np.stack(columns, axis=1))

    def ranked(self, X: npt.ArrayLike, positive: npt.ArrayLike) -> list[dict[str, float]]:
        """Give the same by name, the most likely class of each image first."""
        return [
            {self.labels[place]: float(row[place]) for place in np.argsort(-row, kind="stable")}
            for row in self.probabilities(X, positive)
        ]
