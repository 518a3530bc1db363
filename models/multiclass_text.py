"""Which class, as plain text for the terminal."""

from __future__ import annotations

from typing import Final

from models.multiclass_results import ClassEvaluation
from models.notices import SPLIT_TITLES
from models.results import Comparison, Interval
from models.tables import aligned

__all__ = ["classes_text", "evaluation_text"]

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
        _interval(found.macro_auc),
        _interval(found.balanced_accuracy),
        _interval(found.balanced_accuracy_even),
        _interval(found.accuracy),
    )


def _by_class(found: ClassEvaluation) -> list[tuple[str, ...]]:
    return [
        _BY_CLASS,
        *(
            (
                figures.label,
                str(figures.n),
                _interval(figures.auc),
                _interval(figures.sensitivity),
                _interval(figures.specificity),
                _interval(figures.ppv),
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


def _interval(value: Interval | None) -> str:
    return "-" if value is None else str(value)
