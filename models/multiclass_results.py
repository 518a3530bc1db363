"""Which class, besides the one question: the figures of the heads as plain values."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from models.figures import Interval, or_none

if TYPE_CHECKING:
    from models.multiclass_heads import ClassHeads

__all__ = ["ClassEvaluation", "ClassFigures", "Classes"]

Floats = npt.NDArray[np.float64]
Codes = npt.NDArray[np.int64]


@dataclass(frozen=True)
class ClassFigures:
    """One class against all the others on one split.

    Parameters
    ----------
    label : str
    n : int
        Images of the class.
    auc : Interval or None
        Area under the ROC curve of its probability; None where all images are of the class or
        none is. The next three are None where there is nothing to take the share of.
    sensitivity : Interval or None
        Of its images, the share for which it is the most likely class.
    specificity : Interval or None
        Of the other images, the share for which it is not.
    ppv : Interval or None
        Of the images for which it is the most likely class, the share that is of it.
    """

    label: str
    n: int
    auc: Interval | None
    sensitivity: Interval | None
    specificity: Interval | None
    ppv: Interval | None

    def as_dict(self) -> dict[str, Any]:
        """Give JSON-ready values."""
        names = ("auc", "sensitivity", "specificity", "ppv")
        return {
            "label": self.label,
            "n": self.n,
            **{name: or_none(getattr(self, name)) for name in names},
        }


@dataclass(frozen=True)
class ClassEvaluation:
    """One head on one split, as to which class.

    Parameters
    ----------
    split : str
    n : int
        Images of the classes that are told apart.
    classes : tuple of ClassFigures
        In the order of the columns of `probabilities`.
    macro_auc : Interval or None
        Mean of the areas of all classes that occur; None where fewer than two do.
    balanced_accuracy : Interval
        Mean of the sensitivities of all classes that occur: the figure of ISIC 2018 and 2019.
    balanced_accuracy_even : Interval
        The same, deciding as if all classes were equally frequent.
    accuracy : Interval
    confusion : ndarray of int, shape (k, k)
        Images by true class (row) and most likely class (column).
    truth : ndarray of int, shape (n,)
        Places of the true classes in `classes`.
    probabilities : ndarray, shape (n, k)
        Every row sums to 1.
    """

    split: str
    n: int
    classes: tuple[ClassFigures, ...]
    macro_auc: Interval | None
    balanced_accuracy: Interval
    balanced_accuracy_even: Interval
    accuracy: Interval
    confusion: Codes
    truth: Codes
    probabilities: Floats

    @property
    def labels(self) -> tuple[str, ...]:
        """Names of the classes."""
        return tuple(figures.label for figures in self.classes)

    def as_dict(self) -> dict[str, Any]:
        """Give JSON-ready values: the figures, not the probabilities."""
        return {
            "split": self.split,
            "n": self.n,
            "macro_auc": or_none(self.macro_auc),
            "balanced_accuracy": self.balanced_accuracy.as_dict(),
            "balanced_accuracy_even": self.balanced_accuracy_even.as_dict(),
            "accuracy": self.accuracy.as_dict(),
            "classes": [figures.as_dict() for figures in self.classes],
            "confusion": self.confusion.tolist(),
        }


@dataclass(frozen=True)
class Classes:
    """What the heads make of more than two classes.

    Parameters
    ----------
    labels : tuple of str
        The classes that are told apart, the positive one first.
    evaluations : dict of str to dict of str to ClassEvaluation
        By head and split.
    served : ClassHeads
        Of the chosen head, fitted on all training images.
    """

    labels: tuple[str, ...]
    evaluations: dict[str, dict[str, ClassEvaluation]]
    served: ClassHeads

    def as_dict(self) -> dict[str, Any]:
        """Give JSON-ready values: everything but the estimators and the probabilities."""
        return {
            "labels": list(self.labels),
            "shares": list(self.served.shares),
            "heads": {
                name: {split: found.as_dict() for split, found in splits.items()}
                for name, splits in self.evaluations.items()
            },
        }
