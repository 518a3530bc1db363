"""What `python -m models evaluate` prints: every figure, its interval, and what it is."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from features.marks import MARKS
from models.assessment import Assessment
from models.bundle import Bundle
from models.figure_rows import figures, interval_text, ranking
from models.multiclass_text import evaluation_text
from models.notices import NOT_A_DIAGNOSIS
from models.paired import as_rows
from models.results import Evaluation, PairedTest
from models.tables import aligned, zone_text

__all__ = ["as_text", "as_values"]

Rival = tuple[Evaluation, Evaluation, PairedTest, tuple[str, ...]]

_RANKED = ("n", "positives", "auc", "average_precision", "auc_sens_80", "pauc_above_80")


def as_text(
    bundle: Bundle, assessment: Assessment, rival: Rival | None, marks: Iterable[str]
) -> str:
    """Lay the figures out for a person."""
    found = assessment.evaluation
    uncertain = 0 if bundle.zone is None else int(bundle.zone.holds(found.probabilities).sum())
    lines = [
        f"{bundle.head_title} of {bundle.folder}, {found.split} split: {found.n} images, "
        f"{found.positives} {bundle.labels[1]}",
        "",
        aligned([("figure", "value (95 %)", "interval by"), *figures(found)]),
        "",
        f"suspicious from a probability of {bundle.threshold:.3f}: {bundle.threshold_rule}",
    ]
    if bundle.zone is not None:
        lines.append(f"uncertain {zone_text(bundle.zone)}; here {uncertain} of {found.n} images")
    if assessment.classes is not None:
        lines += ["", *evaluation_text(assessment.classes)]
    if rival is not None:
        mine, theirs, test, notes = rival
        table = [("ranking", test.first, test.second)]
        table += [
            (name, interval_text(one), interval_text(other))
            for (name, one, _), (_, other, _) in zip(ranking(mine), ranking(theirs), strict=True)
        ]
        lines += ["", f"against {test.second}, {mine.n} images:", aligned(table)]
        lines += ["", aligned(as_rows([test])), *(f"note: {note}" for note in notes)]
    lines += [f"note: {note}" for note in assessment.notes]
    lines += [f"{mark.upper()}: {MARKS[mark]}" for mark in marks]
    return "\n".join([*lines, NOT_A_DIAGNOSIS])


def as_values(
    bundle: Bundle, assessment: Assessment, rival: Rival | None, marks: Iterable[str]
) -> dict[str, Any]:
    """Give the same as JSON-ready values."""
    values: dict[str, Any] = {
        "bundle": str(bundle.folder),
        "head": bundle.head_name,
        "fingerprint": bundle.fingerprint,
        "labels": {"negative": bundle.labels[0], "positive": bundle.labels[1]},
        "zone": None if bundle.zone is None else bundle.zone.as_dict(),
        **assessment.evaluation.as_dict(),
        "notes": list(assessment.notes),
        "marks": list(marks),
    }
    if assessment.classes is not None:
        values["classes"] = assessment.classes.as_dict()
    if rival is not None:
        mine, theirs, test, notes = rival
        values["against"] = {
            "bundle": _ranked(mine),
            "other": _ranked(theirs),
            "test": test.as_dict(),
            "notes": list(notes),
        }
    return values


def _ranked(found: Evaluation) -> dict[str, Any]:
    values = found.as_dict()
    return {name: values[name] for name in _RANKED}
