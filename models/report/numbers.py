"""The figures of an evaluation as a person reads them: in rows, in the report and on the card."""

from __future__ import annotations

import re
from collections.abc import Callable
from types import MappingProxyType
from typing import Final

from features.numbers import DASH, decimal, interval, p_value, percent, setting, signed, spread
from models.evaluation.values import Evaluation, Interval

__all__ = ["FILTERS", "figures", "interval_text", "ranking", "typeset"]

_MINUS: Final = "\N{MINUS SIGN}"
_INTERVAL: Final = re.compile(r"\((-?[\d.]+)-(-?[\d.]+)\)")
_NEGATIVE: Final = re.compile(r"(?<![\w.])-(?=\d)")


def figures(found: Evaluation) -> list[tuple[str, str, str]]:
    """Give name, value with interval, and the interval's method of every figure."""
    point = found.operating_point
    rows = [
        *ranking(found),
        ("sensitivity", point.sensitivity, "Wilson"),
        ("specificity", point.specificity, "Wilson"),
        ("positive predictive value, here", point.ppv, "Wilson"),
        ("negative predictive value, here", point.npv, "Wilson"),
        ("Brier score", found.brier, "bootstrap"),
        ("calibration slope", found.slope, "Wald"),
        ("calibration intercept", found.intercept, "Wald"),
    ]
    return [
        *((name, interval_text(value), method) for name, value, method in rows),
        (
            f"ECE, {min(10, found.n)} equal groups",
            f"{decimal(found.ece)} (about {decimal(found.ece_by_chance)} if all were right)",
            "",
        ),
        (
            "tp, fn, fp, tn",
            f"{point.tp}, {point.fn}, {point.fp}, {point.tn}",
            "",
        ),
    ]


def ranking(found: Evaluation) -> list[tuple[str, Interval | None, str]]:
    """Give the figures that depend on the order of the scores alone."""
    return [
        ("ROC AUC", found.auc, "DeLong, score"),
        ("average precision", found.average_precision, "bootstrap"),
        ("auc_sens_80 (ISIC scorer)", found.auc_sens_80, "bootstrap"),
        ("pAUC above 80 % TPR (ISIC 2024)", found.pauc, "bootstrap"),
        *(
            (
                f"specificity at {percent(target, 0)} sensitivity",
                value,
                "order statistics",
            )
            for target, value in found.specificity_at.items()
        ),
    ]


def interval_text(value: Interval | None) -> str:
    """Write a figure with its interval."""
    return "-" if value is None else str(value)


def typeset(text: str) -> str:
    """Write an interval so that its dash is no minus, and a minus as one."""
    return _NEGATIVE.sub(_MINUS, _INTERVAL.sub(r"(\1 to \2)", text))


def _figure(value: float | Interval | None) -> str:
    return decimal(value.value if isinstance(value, Interval) else value)


def _interval(value: Interval | None) -> str:
    return DASH if value is None else interval(value.value, value.low, value.high, " to ")


def _spread(value: Interval | None) -> str:
    return "" if value is None else spread(value.low, value.high)


def _percent(value: Interval | None) -> str:
    return DASH if value is None else percent(value.value)


# What the templates of report and card write figures with.
FILTERS: Final = MappingProxyType[str, Callable[..., str]](
    {
        "figure": _figure,
        "interval": _interval,
        "p_value": p_value,
        "percent": _percent,
        "setting": setting,
        "share": lambda found: percent(found.positives / found.n),
        "signed": lambda value: signed(value).replace("-", _MINUS),
        "spread": _spread,
    }
)
