"""The chosen head on images of one kind: by age, sex and site."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from features.datasets.splits import part_of
from features.presenting import SPLIT_TITLES
from models.evaluation.binary import operating_point
from models.evaluation.roc import auc_interval
from models.evaluation.values import Evaluation
from models.patients.tables import BANDS, Metadata
from models.training.results import Subgroup
from models.training.selection import Part

__all__ = ["subgroups"]

UNKNOWN: Final = "unknown"


_FEW: Final = 10


def subgroups(
    metadata: Metadata, parts: Mapping[str, Part], evaluations: Mapping[str, Evaluation]
) -> tuple[Subgroup, ...]:
    """Judge one head by age, sex and site.

    Parameters
    ----------
    metadata : Metadata
    parts : mapping of str to Part
    evaluations : mapping of str to Evaluation
        Of the same images, by split.

    Returns
    -------
    tuple of Subgroup
    """
    return tuple(
        _subgroup(evaluations[split], name, value, np.array(kinds) == value)
        for split in SPLIT_TITLES
        if split in evaluations
        for name in metadata.columns
        for kinds in [
            [_kind(name, row.get(name)) for row in metadata.of(parts[part_of(split)].items)]
        ]
        for value in sorted(set(kinds), key=_place)
    )


def _subgroup(judged: Evaluation, name: str, value: str, chosen: npt.NDArray[np.bool_]) -> Subgroup:
    labels = judged.labels[chosen]
    point = operating_point(labels, judged.suspicious[chosen], judged.operating_point.threshold)
    positives = int(labels.sum())
    return Subgroup(
        split=judged.split,
        variable=name,
        value=value,
        n=len(labels),
        positives=positives,
        auc=auc_interval(labels, judged.scores[chosen]),
        sensitivity=point.sensitivity,
        specificity=point.specificity,
        few=min(positives, len(labels) - positives) < _FEW,
    )


def _kind(name: str, value: Any) -> str:
    if value is None:
        return UNKNOWN
    if name != "age":
        return str(value)
    low, high = next(band for band in BANDS if value < band[1])
    if low == 0:
        return f"under {high}"
    return f"{low} and over" if high == BANDS[-1][1] else f"{low} to {high - 1}"


def _place(kind: str) -> tuple[bool, bool, str]:
    # Ages from young to old, and what is not known at the end.
    return kind == UNKNOWN, not kind.startswith("under "), kind
