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
        Fitted.
    calibration : Calibration
    """

    label: str
    estimator: Any
    calibration: Calibration

    def score(self, X: npt.ArrayLike) -> Floats:
        """Give the scores of embeddings (n, d), shape (n,); higher is more likely of the class."""
        return score(self.estimator, np.asarray(X, np.float32))


@dataclass(frozen=True)
class ClassHeads:
    """A head for each class that is told from the rest; with two classes, for the positive alone.

    Parameters
    ----------
    heads : tuple of ClassHead
        That of the positive class first.
    shares : tuple of float
        Of the classes among the training images, in the same order; they sum to 1. Empty with two
        classes.

    Raises
    ------
    ValueError
        If they don't belong together.
    """

    heads: tuple[ClassHead, ...]
    shares: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        count = len(self.heads)
        if not all(type(label) is str and label for label in self.labels):
            raise ValueError(f"got classes {self.labels!r}, expected names")
        if len(set(self.labels)) < count or count == 2:
            raise ValueError(
                f"got classes {self.labels!r}, expected one, or three and more that differ"
            )
        if len(self.shares) != (count if count > 1 else 0):
            raise ValueError(f"got {len(self.shares)} shares of {count} classes")
        sound = all(0 < share < 1 for share in self.shares) and abs(sum(self.shares) - 1) < 1e-6
        if self.shares and not sound:
            raise ValueError("the shares of the classes don't sum to 1")

    @property
    def labels(self) -> tuple[str, ...]:
        """Names of the classes, the positive one first."""
        return tuple(head.label for head in self.heads)

    @property
    def several(self) -> bool:
        """Whether they tell which class, not only whether it is the positive one."""
        return len(self.heads) > 1

    def probabilities(self, X: npt.ArrayLike, positive: npt.ArrayLike) -> Floats:
        """Give the probabilities of the classes.

        Parameters
        ----------
        X : array-like, shape (n, d)
            Embeddings.
        positive : array-like, shape (n,)
            Probability of the positive class.

        Returns
        -------
        ndarray, shape (n, k)
            In the order of `labels`; every row sums to 1 where there are several.
        """
        columns = [head.calibration.apply(head.score(X)) for head in self.heads[1:]]
        none = np.empty((len(np.asarray(positive)), 0))
        return share_out(positive, np.column_stack([none, *columns]))

    def ranked(self, X: npt.ArrayLike, positive: npt.ArrayLike) -> list[dict[str, float] | None]:
        """Give the same by name, the most likely class of each image first; None with two classes.

        As `probabilities` takes them.
        """
        if not self.several:
            return [None] * len(np.asarray(positive))
        return [
            {self.labels[place]: float(row[place]) for place in np.argsort(-row, kind="stable")}
            for row in self.probabilities(X, positive)
        ]
