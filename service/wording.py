"""Numbers and messages in the words and signs of the pages."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

__all__ = ["Figure", "Flagging", "figures", "in_people", "percent", "position", "sentence"]

# The split that says most about images the classifier has not seen, first.
SPLITS: Final = {
    "test": "test images",
    "valid": "validation images",
    "cross-validation": "training images, cross-validated",
}
NARROW_SPACE: Final = "\N{NARROW NO-BREAK SPACE}"


@dataclass(frozen=True)
class Flagging:
    """What the threshold does to a hundred people with and a hundred without.

    Parameters
    ----------
    split : str
        On which images it was counted.
    flagged_positive, flagged_negative : int
        How many of a hundred are called suspicious.
    """

    split: str
    flagged_positive: int
    flagged_negative: int


@dataclass(frozen=True)
class Figure:
    """One row of the table of figures: a split and what was measured on it."""

    split: str
    images: int
    positives: int
    auc: str
    sensitivity: str
    specificity: str
    brier: str


def percent(probability: float, other: float | None = None) -> str:
    """Write a probability so that it is neither rounded to certainty nor to another one.

    Parameters
    ----------
    probability : float
    other : float, optional
        Digits are added until the two look different, if they are.

    Examples
    --------
    >>> percent(0.1234).replace(NARROW_SPACE, " ")
    '12.3 %'
    >>> percent(0.99999).replace(NARROW_SPACE, " ")
    '> 99.9 %'
    >>> percent(0.12345, 0.12349).replace(NARROW_SPACE, " ")
    '12.345 %'
    """
    if 0 < probability < 0.001:
        return f"<{NARROW_SPACE}0.1{NARROW_SPACE}%"
    if 0.999 < probability < 1:
        return f">{NARROW_SPACE}99.9{NARROW_SPACE}%"
    digits = 1
    while (
        other is not None
        and other != probability
        and digits < 6
        and f"{probability:.{digits}%}" == f"{other:.{digits}%}"
    ):
        digits += 1
    return f"{probability * 100:.{digits}f}{NARROW_SPACE}%"


def position(probability: float) -> str:
    """Give the place of a probability on a drawn scale, as a share of its width."""
    return f"{min(max(probability, 0.0), 1.0) * 100:.2f}%"


def sentence(message: str) -> str:
    """Make a sentence of an error's message: a capital first, a full stop last."""
    message = message.strip()
    return message[:1].upper() + message[1:] + ("" if message.endswith((".", "!", "?")) else ".")


def in_people(metrics: Mapping[str, Any]) -> Flagging | None:
    """Say what the threshold does, from the most telling split that has both classes."""
    for split, name in SPLITS.items():
        point = metrics.get(split, {}).get("operating_point") or {}
        sensitivity, specificity = point.get("sensitivity"), point.get("specificity")
        if sensitivity and specificity:
            return Flagging(
                split=f"the {name}",
                flagged_positive=round(100 * sensitivity["value"]),
                flagged_negative=round(100 * (1 - specificity["value"])),
            )
    return None


def figures(metrics: Mapping[str, Any]) -> list[Figure]:
    """Give the rows of the table of figures."""
    return [
        Figure(
            split=name.capitalize(),
            images=metrics[split]["n"],
            positives=metrics[split]["positives"],
            auc=_interval(metrics[split]["auc"]),
            sensitivity=_interval(metrics[split]["operating_point"]["sensitivity"], share=True),
            specificity=_interval(metrics[split]["operating_point"]["specificity"], share=True),
            brier=f"{metrics[split]['brier']:.3f}",
        )
        for split, name in SPLITS.items()
        if split in metrics
    ]


def _interval(found: Mapping[str, float | None] | None, *, share: bool = False) -> str:
    if found is None or found["value"] is None:
        return "not measurable"
    unit = f"{NARROW_SPACE}%" if share else ""
    value, low, high = (_written(found[name], share=share) for name in ("value", "low", "high"))
    return f"{value}{unit} ({low}\N{EN DASH}{high})"


def _written(value: float | None, *, share: bool) -> str:
    if value is None:
        return "?"
    return f"{value * 100:.0f}" if share else f"{value:.3f}"
