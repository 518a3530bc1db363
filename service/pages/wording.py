"""Numbers and messages in the words and signs of the pages."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from features.numbers import decimal, spaced_interval
from features.presenting import SPLIT_IMAGES

__all__ = [
    "Figure",
    "Flagging",
    "Share",
    "figures",
    "in_people",
    "place",
    "position",
    "sentence",
]

_ROWS: Final = ("upper", "", "lower")
_COLUMNS: Final = ("left", "", "right")


@dataclass(frozen=True)
class Share:
    """How many of a hundred, and between which bounds with 95 % confidence.

    Parameters
    ----------
    of_100 : int
    low, high : int or None
        None where the interval is not known.
    """

    of_100: int
    low: int | None
    high: int | None

    def __str__(self) -> str:
        return f"{self.of_100} of 100"


@dataclass(frozen=True)
class Flagging:
    """What the threshold does to a hundred people with and a hundred without.

    Parameters
    ----------
    split : str
        On which images it was counted.
    images, positives : int
        How many those were, and how many of them of the positive class.
    positive, negative : Share
        How many are called suspicious of each class.
    right : int or None
        Of a hundred that are called suspicious, how many are of the positive class where that is
        as frequent as among those images.
    """

    split: str
    images: int
    positives: int
    positive: Share
    negative: Share
    right: int | None

    @property
    def frequency(self) -> int:
        """How many of a hundred of those images are of the positive class."""
        return round(100 * self.positives / self.images)


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


def position(probability: float) -> str:
    """Give the place of a probability on a drawn scale, as a share of its width."""
    return f"{min(max(probability, 0.0), 1.0) * 100:.2f}%"


def sentence(message: str) -> str:
    """Make a sentence of an error's message: a capital first, a full stop last."""
    message = message.strip()
    return message[:1].upper() + message[1:] + ("" if message.endswith((".", "!", "?")) else ".")


def place(row: float, column: float) -> str:
    """Say in words where in a picture something is.

    Parameters
    ----------
    row, column : float
        From 0, above and left, to 1.

    Examples
    --------
    >>> place(0.9, 0.1), place(0.5, 0.5), place(0.1, 0.5)
    ('the lower left', 'the middle', 'the upper part')
    """
    vertical, horizontal = (
        names[min(2, int(3 * each))] for names, each in ((_ROWS, row), (_COLUMNS, column))
    )
    if vertical and horizontal:
        return f"the {vertical} {horizontal}"
    if vertical:
        return f"the {vertical} part"
    return f"the {horizontal}" if horizontal else "the middle"


def in_people(metrics: Mapping[str, Any]) -> Flagging | None:
    """Say what the threshold does, from the split with the most images of the positive class."""
    told = [
        split
        for split in SPLIT_IMAGES
        if all(_point(metrics, split).get(name) for name in ("sensitivity", "specificity"))
    ]
    if not told:
        return None
    split = max(told, key=lambda each: metrics[each]["positives"])
    images, positives = metrics[split]["n"], metrics[split]["positives"]
    point = _point(metrics, split)
    found, passed = point["sensitivity"], point["specificity"]
    rightly = found["value"] * positives
    flagged = rightly + (1 - passed["value"]) * (images - positives)
    return Flagging(
        split=f"the {SPLIT_IMAGES[split]}",
        images=images,
        positives=positives,
        positive=Share(_hundredths(found["value"]), _bound(found["low"]), _bound(found["high"])),
        negative=Share(
            _hundredths(1 - passed["value"]),
            _bound(passed["high"], rest=True),
            _bound(passed["low"], rest=True),
        ),
        right=_hundredths(rightly / flagged) if flagged else None,
    )


def _point(metrics: Mapping[str, Any], split: str) -> Mapping[str, Any]:
    return metrics.get(split, {}).get("operating_point") or {}


def _hundredths(share: float) -> int:
    return round(100 * share)


def _bound(share: float | None, *, rest: bool = False) -> int | None:
    return None if share is None else _hundredths(1 - share if rest else share)


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
            brier=decimal(metrics[split]["brier"]),
        )
        for split, name in SPLIT_IMAGES.items()
        if split in metrics
    ]


def _interval(found: Mapping[str, float | None] | None, *, share: bool = False) -> str:
    if found is None or found["value"] is None:
        return "not measurable"
    return spaced_interval(found["value"], found["low"], found["high"], share=share)
