"""Comparisons and bundles as plain text, for the terminal."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from features.marks import MARKS
from models.bundle import Bundle
from models.notices import NOT_A_DIAGNOSIS, SPLIT_TITLES
from models.paired import as_rows
from models.report import splits_of
from models.results import Comparison, HeadResult, Interval, Zone

__all__ = ["aligned", "bundle_text", "comparison_text", "zone_text"]

_COLUMNS = (
    "head",
    "ROC AUC (95 %)",
    "avg. precision",
    "sensitivity (95 %)",
    "specificity (95 %)",
    "Brier",
)


def aligned(rows: Sequence[Sequence[str]]) -> str:
    """Lay out rows in columns: the first to the left, the others to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if place == 0 else cell.rjust(width)
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    )


def comparison_text(comparison: Comparison) -> str:
    """Give the heads side by side, one block per split, with notes, marks and the choice."""
    lines: list[str] = []
    for split in splits_of(comparison):
        heads = [head for head in comparison.heads.values() if split in head.evaluations]
        some = heads[0].evaluations[split]
        lines += [
            "",
            f"{SPLIT_TITLES[split]}: {some.n} images, {some.positives} {comparison.labels[1]}",
            aligned(_table(heads, split, timed=split == "cross-validation")),
        ]
        pairs = [test for test in comparison.tests if test.split == split]
        if pairs:
            lines += ["", aligned(as_rows(pairs))]
    best = comparison.best
    lines += [
        "",
        f"chosen: {best.title} ({comparison.chosen_by})",
        f"suspicious from a probability of {best.threshold:.3f}: {best.threshold_rule}",
        f"uncertain {zone_text(best.zone)}",
        *(f"note: {note}" for note in comparison.notes),
        *_marks(comparison.marks),
        NOT_A_DIAGNOSIS,
    ]
    return "\n".join(lines)


def zone_text(zone: Zone) -> str:
    """Say where the probability doesn't tell, and what is promised."""
    return (
        f"from a probability of {zone.lower:.3f} to {zone.upper:.3f}: at most {zone.alpha:.0%} "
        "of each class lie beyond it on the wrong side"
    ).replace("%", " %")


def bundle_text(bundle: Bundle) -> str:
    """Say what a bundle is and how well it did."""
    spec = bundle.spec
    facts = [
        ("bundle", str(bundle.folder)),
        ("made", bundle.created),
        ("classes", f"{bundle.labels[1]} (positive) against {bundle.labels[0]}"),
        *([("told apart", ", ".join(bundle.classes.labels))] if bundle.classes else []),
        ("head", f"{bundle.head_title} ({_settings(bundle.settings)})"),
        ("threshold", f"{bundle.threshold:.3f}: {bundle.threshold_rule}"),
        ("uncertain", "unknown" if bundle.zone is None else zone_text(bundle.zone)),
        ("calibration", bundle.calibration.method),
        *_fused(bundle),
        (
            "extractor",
            f"{spec.network}, {spec.weights} weights, {spec.input_size} pixels, "
            f"{spec.head_dim} numbers",
        ),
        ("fingerprint", bundle.fingerprint),
        ("fitted", f"{bundle.folds} folds, seed {bundle.seed}"),
        *(
            (f"images, {split}", ", ".join(f"{count} {label}" for label, count in row.items()))
            for split, row in bundle.counts.items()
        ),
        *((f"software, {step}", _settings(known)) for step, known in bundle.versions.items()),
    ]
    width = max(len(name) for name, _ in facts)
    header = ("split", "images", *_COLUMNS[1:])
    rows = [
        (split, str(found["n"]), *_cells_of_dict(found)) for split, found in bundle.metrics.items()
    ]
    return "\n".join(
        [
            *(f"{name.ljust(width)}  {value}" for name, value in facts),
            "",
            aligned([header, *rows]),
            "",
            *(f"note: {note}" for note in bundle.notes),
            *_marks(bundle.marks),
            NOT_A_DIAGNOSIS,
        ]
    )


def _fused(bundle: Bundle) -> list[tuple[str, str]]:
    fused = bundle.fusion
    if fused is None:
        return []
    area = _interval(fused.metrics["cross-validation"]["auc"])
    return [
        ("takes besides", ", ".join(fused.fusion.kinds)),
        ("then", f"{fused.title}: cross-validated ROC AUC {area}"),
        ("threshold then", f"{fused.threshold:.3f}: {fused.threshold_rule}"),
        ("uncertain then", zone_text(fused.zone)),
    ]


def _table(heads: Sequence[HeadResult], split: str, *, timed: bool) -> list[tuple[str, ...]]:
    rows: list[tuple[str, ...]] = [(*_COLUMNS, "seconds") if timed else _COLUMNS]
    for head in heads:
        cells = _cells_of_dict(head.evaluations[split].as_dict())
        rows.append((head.title, *cells, *([f"{head.seconds:.1f}"] if timed else [])))
    return rows


def _cells_of_dict(found: Mapping[str, Any]) -> tuple[str, ...]:
    point = found["operating_point"]
    return (
        _interval(found["auc"]),
        _figure(found["average_precision"]),
        _interval(point["sensitivity"]),
        _interval(point["specificity"]),
        _figure(found["brier"]),
    )


def _interval(values: Mapping[str, float] | None) -> str:
    return "-" if values is None else str(Interval(**values))


def _figure(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _settings(values: Mapping[str, Any]) -> str:
    return ", ".join(
        f"{name} {value:.4g}" if isinstance(value, float) else f"{name} {value}"
        for name, value in values.items()
    )


def _marks(marks: Iterable[str]) -> list[str]:
    return [f"{mark.upper()}: {MARKS[mark]}" for mark in marks]
