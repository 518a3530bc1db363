"""What images that belong together do to the figures: how many there are, and without them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from features.cache.contents import Features, Items
from models.evaluation.binary import operating_point
from models.evaluation.roc import auc_interval
from models.evaluation.values import Evaluation
from models.training.results import DataAudit, LeakRow, Mask
from models.training.selection import Part, belonging_together

__all__ = ["audit_leaks"]


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
