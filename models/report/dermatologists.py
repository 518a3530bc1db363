"""What dermatologists reached in published studies, to be shown beside the curves of heads.

They judged other images, with another share of melanoma. Their points say where people are on
such images; they are no comparison on the images of a report.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from features.cache.contents import Features
from features.datasets.vocabulary import same_class

__all__ = ["READERS", "ReaderPoint", "reader_points"]


@dataclass(frozen=True)
class ReaderPoint:
    """The mean of a group of readers.

    Parameters
    ----------
    letter : str
        Marks the point in a plot.
    readers, images : str
    sensitivity, specificity : float
    source : str
    """

    letter: str
    readers: str
    images: str
    sensitivity: float
    specificity: float
    source: str

    @property
    def sentence(self) -> str:
        """Say what the point is."""
        return (
            f"{self.letter}: {self.readers}, {self.images}, sensitivity "
            f"{100 * self.sensitivity:g} %, specificity {100 * self.specificity:g} % "
            f"({self.source})"
        )


READERS: Final = (
    ReaderPoint(
        "A",
        "mean of 8 dermatologists",
        "100 images of the ISIC 2016 test set, half of them melanomas",
        0.82,
        0.59,
        "Marchetti et al., J Am Acad Dermatol 2018;78:270-277",
    ),
    ReaderPoint(
        "B",
        "8 dermatologists together",
        "150 images of the ISIC 2017 test set, a third of them melanomas",
        0.76,
        0.726,
        "Marchetti et al., J Am Acad Dermatol 2020;82:622-627",
    ),
)


def reader_points(features: Features, positive: str) -> tuple[ReaderPoint, ...]:
    """Give the points that belong beside these curves.

    Parameters
    ----------
    features : Features
    positive : str

    Returns
    -------
    tuple of ReaderPoint
        None where another class than melanoma is to be found, or the images are drawn.
    """
    if features.synthetic or not same_class(positive, "melanoma"):
        return ()
    return READERS
