"""Comparisons, bundles and evaluations as tables for the terminal."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from features.numbers import decimal, percent, setting
from features.presenting import MARKS, NOT_A_DIAGNOSIS, SPLIT_TITLES
from models.bundle.loading import Bundle
from models.decisions.thresholds import Zone
from models.evaluation.classes import ClassEvaluation
from models.evaluation.paired import PairedTest, as_rows
from models.evaluation.representations import Ranking
from models.evaluation.values import Evaluation, Interval
from models.inference.assessment import Assessment
from models.report.html import splits_of
from models.report.numbers import figures, interval_text, ranking
from models.training.results import Comparison, HeadResult

__all__ = [
    "aligned",
    "as_text",
    "as_values",
    "bundle_text",
    "classes_text",
    "comparison_text",
    "evaluation_text",
    "ranking_text",
    "zone_text",
]

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
        f"suspicious from a probability of {best.decision.threshold:.3f}: "
        f"{best.decision.threshold_rule}",
        f"uncertain {zone_text(best.decision.zone)}",
        *(f"note: {note}" for note in comparison.notes),
        *_marks(comparison.marks),
        NOT_A_DIAGNOSIS,
    ]
    return "\n".join(lines)


def ranking_text(ranking: Ranking) -> str:
    """Give representations, heads on them ranked by cross-validation, and how they differ."""
    best = ranking.rows[0].representation
    splits = list(ranking.rows[0].evaluations)
    described = [
        (one.name, one.network, f"{one.numbers:,}", one.trained_on)
        for one in ranking.representations
    ]
    rows = [
        (
            row.representation,
            row.head,
            *(interval_text(row.evaluations[split].auc) for split in splits),
            ranking.verdict(row, best),
        )
        for row in ranking.rows
    ]
    titles = (SPLIT_TITLES[split].lower() for split in splits)
    lines = [
        "Representations",
        aligned([("name", "network", "numbers", "trained on"), *described]),
        "",
        "ROC AUC (95 %), ranked by cross-validation; the other splits choose nothing",
        aligned([("representation", "head", *titles, f"to {best}, same head"), *rows]),
    ]
    tests = as_rows([test for test in ranking.tests if test.split == splits[0]])
    if len(tests) > 1:
        # The report has those of the other splits, too.
        kept = [(pair, difference, p, verdict) for pair, difference, p, *_, verdict in tests]
        lines += ["", f"{SPLIT_TITLES[splits[0]]}, pairs with the same head:", aligned(kept)]
    return "\n".join(lines)


def zone_text(zone: Zone | None) -> str:
    """Say where the probability doesn't tell, and what is promised."""
    if zone is None:
        return "unknown"
    return (
        f"from a probability of {decimal(zone.lower)} to {decimal(zone.upper)}: at most "
        f"{percent(zone.alpha, 0)} of each class lie beyond it on the wrong side"
    )


def bundle_text(bundle: Bundle) -> str:
    """Say what a bundle is and how well it did."""
    decision = bundle.decision
    facts = [
        ("bundle", str(bundle.folder)),
        ("made", bundle.created),
        ("classes", f"{bundle.labels[1]} (positive) against {bundle.labels[0]}"),
        *([("told apart", ", ".join(bundle.classes.labels))] if bundle.classes.several else []),
        ("head", f"{bundle.head_title} ({_settings(bundle.settings)})"),
        ("threshold", f"{decision.threshold:.3f}: {decision.threshold_rule}"),
        ("uncertain", zone_text(decision.zone)),
        ("calibration", decision.calibration.method),
        *_fused(bundle),
        *(
            (
                "extractor",
                f"{each.spec.network}, {each.spec.weights} weights, {each.spec.input_size} pixels, "
                f"{each.spec.head_dim} numbers{_trained_on(each.trained_on)}",
            )
            for each in bundle.networks
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


def _trained_on(told: str) -> str:
    """Say which images a network was trained on, after what else is said of it."""
    return f", trained on {told}" if told else ""


def _fused(bundle: Bundle) -> list[tuple[str, str]]:
    fused = bundle.fusion
    if fused is None:
        return []
    area = _interval(fused.metrics["cross-validation"]["auc"])
    return [
        ("takes besides", ", ".join(fused.fusion.kinds)),
        ("then", f"{fused.title}: cross-validated ROC AUC {area}"),
        ("threshold then", f"{fused.decision.threshold:.3f}: {fused.decision.threshold_rule}"),
        ("uncertain then", zone_text(fused.decision.zone)),
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
        decimal(found["average_precision"], "-"),
        _interval(point["sensitivity"]),
        _interval(point["specificity"]),
        decimal(found["brier"], "-"),
    )


def _interval(values: Mapping[str, float] | None) -> str:
    return interval_text(None if values is None else Interval(**values))


def _settings(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {setting(value)}" for name, value in values.items())


def _marks(marks: Iterable[str]) -> list[str]:
    return [f"{mark.upper()}: {MARKS[mark]}" for mark in marks]


_OVERALL: Final = (
    "macro AUC (95 %)",
    "balanced accuracy (95 %)",
    "if equally frequent (95 %)",
    "accuracy (95 %)",
)


_BY_CLASS: Final = (
    "class",
    "images",
    "ROC AUC (95 %)",
    "sensitivity (95 %)",
    "specificity (95 %)",
    "PPV (95 %)",
)


def classes_text(comparison: Comparison) -> str:
    """Give the heads side by side, and the chosen one by class; empty with two classes.

    Parameters
    ----------
    comparison : Comparison

    Returns
    -------
    str
        By class on the split that says most about new images: test, or else validation, or else
        cross-validation.
    """
    classes = comparison.classes
    if classes is None:
        return ""
    chosen = classes.evaluations[comparison.chosen]
    lines = [f"Which of {len(classes.labels)} classes (one against the rest)"]
    for split, found in chosen.items():
        rows = [
            (comparison.heads[name].title, *_overall(splits[split]))
            for name, splits in classes.evaluations.items()
        ]
        lines += [
            "",
            f"{SPLIT_TITLES[split]}: {found.n} images",
            aligned([("head", *_OVERALL), *rows]),
        ]
    last = next(split for split in reversed(SPLIT_TITLES) if split in chosen)
    lines += ["", f"{comparison.best.title}, {SPLIT_TITLES[last].lower()}:"]
    lines += [aligned(_by_class(chosen[last])), "", aligned(_confusion(chosen[last]))]
    return "\n".join(lines)


def evaluation_text(found: ClassEvaluation) -> list[str]:
    """Give one head on one split as lines."""
    rows = list(zip(_OVERALL, _overall(found), strict=True))
    return [
        f"which of {len(found.labels)} classes, {found.n} images:",
        aligned(rows),
        "",
        aligned(_by_class(found)),
        "",
        aligned(_confusion(found)),
    ]


def _overall(found: ClassEvaluation) -> tuple[str, ...]:
    return (
        interval_text(found.macro_auc),
        interval_text(found.balanced_accuracy),
        interval_text(found.balanced_accuracy_even),
        interval_text(found.accuracy),
    )


def _by_class(found: ClassEvaluation) -> list[tuple[str, ...]]:
    return [
        _BY_CLASS,
        *(
            (
                figures.label,
                str(figures.n),
                interval_text(figures.auc),
                interval_text(figures.sensitivity),
                interval_text(figures.specificity),
                interval_text(figures.ppv),
            )
            for figures in found.classes
        ),
    ]


def _confusion(found: ClassEvaluation) -> list[tuple[str, ...]]:
    rows = zip(found.labels, found.confusion.tolist(), strict=True)
    return [
        ("truth \\ most likely", *found.labels),
        *((label, *map(str, counts)) for label, counts in rows),
    ]


Rival = tuple[Evaluation, Evaluation, PairedTest, tuple[str, ...]]


_RANKED = ("n", "positives", "auc", "average_precision", "auc_sens_80", "pauc_above_80")


def as_text(
    bundle: Bundle, assessment: Assessment, rival: Rival | None, marks: Iterable[str]
) -> str:
    """Lay the figures out for a person."""
    found, decision = assessment.evaluation, bundle.decision
    lines = [
        f"{bundle.head_title} of {bundle.folder}, {found.split} split: {found.n} images, "
        f"{found.positives} {bundle.labels[1]}",
        "",
        aligned([("figure", "value (95 %)", "interval by"), *figures(found)]),
        "",
        f"suspicious from a probability of {decision.threshold:.3f}: {decision.threshold_rule}",
    ]
    if decision.zone is not None:
        uncertain = int(decision.doubts(found.probabilities).sum())
        lines.append(f"uncertain {zone_text(decision.zone)}; here {uncertain} of {found.n} images")
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
        "zone": bundle.decision.as_dict()["zone"],
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
