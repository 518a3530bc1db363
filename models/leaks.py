"""What images that belong together do to the figures: how many there are, and without them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from features.cache import Features, Items
from models.evaluation import auc_interval, operating_point
from models.figures import or_none
from models.results import Evaluation, Interval
from models.selection import Part, belonging_together

__all__ = ["DataAudit", "LeakRow", "audit_leaks"]

Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class LeakRow:
    """The chosen head on all images of a split, or on those without a relative in training.

    Parameters
    ----------
    split : str
    leaks : bool
        Whether images that belong together with a training image are among them.
    n, positives : int
    auc, sensitivity, specificity : Interval or None
        None where the class they need is missing.
    """

    split: str
    leaks: bool
    n: int
    positives: int
    auc: Interval | None
    sensitivity: Interval | None
    specificity: Interval | None

    def as_dict(self) -> dict[str, Any]:
        """Give JSON-ready values."""
        intervals = ("auc", "sensitivity", "specificity")
        return {**vars(self), **{name: or_none(getattr(self, name)) for name in intervals}}


@dataclass(frozen=True)
class DataAudit:
    """Which images belong together, and what that does to the figures.

    Parameters
    ----------
    searched : bool
        Whether somebody looked for copies; if not, only files that are equal byte for byte are
        known, and what the data itself says of patients or lesions.
    groups, images : int
        Groups of copies, and the image files in them.
    contradicting : int
        Groups of copies whose labels differ.
    crossing : int
        Groups, of copies or by patient or lesion, that are in several splits.
    trained : int
        Images of such groups that were trained on all the same.
    rows : tuple of LeakRow
        With and without, for every judged split that has such images.
    leaking : dict of str to ndarray of bool
        By part, in the order of its images: which belong together with one of another split.
    """

    searched: bool
    groups: int
    images: int
    contradicting: int
    crossing: int
    trained: int
    rows: tuple[LeakRow, ...]
    leaking: dict[str, Mask]

    def as_dict(self) -> dict[str, Any]:
        """Give JSON-ready values."""
        names = ("searched", "groups", "images", "contradicting", "crossing", "trained")
        return {
            **{name: getattr(self, name) for name in names},
            "figures": [row.as_dict() for row in self.rows],
        }


def audit_leaks(
    features: Features,
    parts: Mapping[str, Part],
    groups: npt.NDArray[np.str_] | None,
    evaluations: Mapping[str, Evaluation],
) -> DataAudit:
    """Count groups of images, and judge the chosen head with and without those that leak.

    Parameters
    ----------
    features : Features
    parts : mapping of str to Part
        What was trained on and judged by.
    groups : ndarray of str, shape (items,), optional
        Copies as the audit found them; empty where alone. None if nobody looked.
    evaluations : mapping of str to Evaluation
        Of the chosen head.

    Returns
    -------
    DataAudit
    """
    there = features.items.path != ""
    present = features.items.take(there)
    rows = len(features.embeddings)
    found = [] if groups is None else [groups[there]]
    alone = np.full(len(present), "", np.str_)
    copies = belonging_together(present.row, found or [alone], rows)[present.row]
    related = belonging_together(present.row, [present.group, *found], rows)
    split = np.where(present.split == "", "train", present.split)
    several = _of_several(related[present.row], split)
    _, place, sizes = np.unique(copies, return_inverse=True, return_counts=True)
    labelled = present.label != ""
    leaking = {name: np.isin(related[part.items.row], several) for name, part in parts.items()}
    return DataAudit(
        searched=groups is not None,
        groups=int((sizes > 1).sum()),
        images=int((sizes[place] > 1).sum()),
        contradicting=len(_of_several(copies[labelled], present.label[labelled])),
        crossing=len(several),
        trained=int(leaking["train"].sum()),
        rows=tuple(
            row
            for name, evaluation in evaluations.items()
            if name in leaking and name != "train"
            for row in _rows(evaluation, _seen(related, parts[name].items, present, split))
        ),
        leaking=leaking,
    )


def _of_several(numbers: npt.NDArray[np.int64], kinds: npt.NDArray[np.str_]) -> npt.NDArray[Any]:
    """Give the groups whose members are of several kinds."""
    pairs = np.unique(np.stack([numbers, np.unique(kinds, return_inverse=True)[1]]), axis=1)
    groups, times = np.unique(pairs[0], return_counts=True)
    several: npt.NDArray[Any] = groups[times > 1]
    return several


def _seen(
    related: npt.NDArray[np.int64], judged: Items, present: Items, split: npt.NDArray[np.str_]
) -> Mask:
    mask: Mask = np.isin(related[judged.row], related[present.row[split == "train"]])
    return mask


def _rows(found: Evaluation, seen: Mask) -> list[LeakRow]:
    if not seen.any() or seen.all():
        return []
    return [_row(found, np.ones(found.n, bool), leaks=True), _row(found, ~seen, leaks=False)]


def _row(found: Evaluation, kept: Mask, *, leaks: bool) -> LeakRow:
    labels = found.labels[kept]
    point = operating_point(labels, found.suspicious[kept], found.operating_point.threshold)
    return LeakRow(
        found.split,
        leaks,
        len(labels),
        int(labels.sum()),
        auc_interval(labels, found.scores[kept]),
        point.sensitivity,
        point.specificity,
    )
