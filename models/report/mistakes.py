"""The most confident mistakes of a head, with small pictures of them."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from features.cache.contents import Items
from features.datasets.splits import part_of
from features.errors import UnreadableImage
from features.images.sources.files import read_file
from features.images.thumbnails import thumbnail
from models.evaluation.values import Evaluation

__all__ = ["Mistake", "Mistakes", "find_mistakes"]

_SHOWN: Final = 6
_SIDE: Final = 160
_QUALITY: Final = 82


@dataclass(frozen=True)
class Mistake:
    """An image that was judged wrongly.

    Parameters
    ----------
    name, path : str
        Of the file: its own name, and its place within the image folder.
    probability : float
    picture : str or None
        A JPEG as a data URI, squashed to a square.
    proportions : str
        Width and height of the original, for the page to undo the squashing.
    missing : str
        Why there is no picture.
    """

    name: str
    path: str
    probability: float
    picture: str | None
    proportions: str
    missing: str


@dataclass(frozen=True)
class Mistakes:
    """Those of one kind on one split, the most confident first.

    Parameters
    ----------
    split : str
    missed : bool
        Positives that were passed; else others that were flagged.
    total : int
    threshold : float
    shown : tuple of Mistake
    """

    split: str
    missed: bool
    total: int
    threshold: float
    shown: tuple[Mistake, ...]


def find_mistakes(
    evaluations: Mapping[str, Evaluation],
    images: Mapping[str, Items],
    folder: str,
    *,
    thumbnails: bool = True,
) -> list[Mistakes]:
    """Find the positives of lowest probability that were missed, and the highest false alarms.

    Parameters
    ----------
    evaluations : mapping of str to Evaluation
        Of one head, by split.
    images : mapping of str to Items
        By part, in the order of the evaluations.
    folder : str
        Of the images.
    thumbnails : bool
        Whether pictures are made.

    Returns
    -------
    list of Mistakes
        Missed ones, then false alarms, for every split whose images are known.
    """
    found = []
    for split, evaluation in evaluations.items():
        items = images.get(part_of(split))
        if items is None:
            continue
        truth = evaluation.labels == 1
        for missed in (True, False):
            wrong = truth & ~evaluation.suspicious if missed else ~truth & evaluation.suspicious
            sign = 1 if missed else -1
            places = np.flatnonzero(wrong)
            order = places[np.argsort(sign * evaluation.probabilities[places], kind="stable")]
            shown = [
                _mistake(items, place, float(evaluation.probabilities[place]), folder, thumbnails)
                for place in order[:_SHOWN].tolist()
            ]
            threshold = evaluation.operating_point.threshold
            found.append(Mistakes(split, missed, len(places), threshold, tuple(shown)))
    return found


def _mistake(items: Items, place: int, probability: float, folder: str, wanted: bool) -> Mistake:
    path = str(items.path[place])
    picture, missing = None, ""
    if wanted:
        picture, missing = _thumbnail(Path(folder) / path, str(items.sha256[place]))
    width, height = max(int(items.width[place]), 1), max(int(items.height[place]), 1)
    name = path.rpartition("/")[2]
    return Mistake(name, path, probability, picture, f"{width} / {height}", missing)


def _thumbnail(path: Path, sha256: str) -> tuple[str | None, str]:
    try:
        data = read_file(path)
    except UnreadableImage:
        return None, "The file is not where it was at extraction."
    if hashlib.sha256(data).hexdigest() != sha256:
        return None, "The file has changed since its embedding was made."
    try:
        return thumbnail(data, _SIDE, quality=_QUALITY, square=True).uri, ""
    except UnreadableImage as error:
        return None, f"The file can't be read: {error}."
