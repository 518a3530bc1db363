"""Plots as inline SVG: sharp on paper, in the colours of the page they stand in, and small.

What is drawn takes its colours from CSS (classes ``h0`` … ``h5`` for the heads), so that one plot
is right on a light page, on a dark one and in print.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Final

import numpy as np
import numpy.typing as npt
from markupsafe import Markup, escape

from models.notices import SPLIT_TITLES
from models.reliability import net_benefit, tenths
from models.results import Evaluation, HeadResult, Interval

__all__ = [
    "calibration_plot",
    "decision_plot",
    "histogram_plot",
    "interval_plot",
    "precision_plot",
    "roc_plot",
]

Floats = npt.NDArray[np.float64]

_BINS: Final = 25
_ROW: Final = 30


class _Axes:
    """A frame with two linear scales, drawn into from back to front."""

    def __init__(
        self,
        size: tuple[float, float],
        x: tuple[float, float] = (0, 1),
        y: tuple[float, float] = (0, 1),
        *,
        margins: tuple[float, float, float, float] = (10, 12, 46, 54),
    ) -> None:
        self._top, right, bottom, self._left = margins
        self._width, self._height = size
        self._total = (self._left + size[0] + right, self._top + size[1] + bottom)
        self._x, self._y = x, y
        self._parts: list[Markup] = []

    def at(self, x: float, y: float) -> tuple[float, float]:
        """Where a point of the data is in the picture."""
        across = (x - self._x[0]) / (self._x[1] - self._x[0])
        up = (y - self._y[0]) / (self._y[1] - self._y[0])
        return self._left + across * self._width, self._top + (1 - up) * self._height

    def ticks(self, axis: str, marks: Sequence[tuple[float, str]], title: str) -> None:
        """Draw a scale with its grid lines and its title."""
        for value, label in marks:
            if axis == "x":
                self.line([(value, self._y[0]), (value, self._y[1])], "grid")
                x, y = self.at(value, self._y[0])
                self._text(x, y + 17, label, "tick")
            else:
                self.line([(self._x[0], value), (self._x[1], value)], "grid")
                x, y = self.at(self._x[0], value)
                self._text(x - 8, y + 4, label, "tick end")
        if axis == "x":
            self._text(self._left + self._width / 2, self._total[1] - 8, title, "axis")
        else:
            middle = self._top + self._height / 2
            self._parts.append(
                Markup(
                    '<text class="axis" transform="translate(14 {}) rotate(-90)">{}</text>'
                ).format(_number(middle), title)
            )

    def line(self, points: Sequence[tuple[float, float]], kind: str) -> None:
        """Draw a line through points of the data."""
        self._parts.append(
            Markup('<polyline class="{}" points="{}"/>').format(kind, self._path(points))
        )

    def area(self, points: Sequence[tuple[float, float]], kind: str) -> None:
        """Fill a polygon between points of the data."""
        self._parts.append(
            Markup('<polygon class="{}" points="{}"/>').format(kind, self._path(points))
        )

    def dot(self, x: float, y: float, kind: str, radius: float = 4.5) -> None:
        """Mark a point of the data."""
        across, down = self.at(x, y)
        self._parts.append(
            Markup('<circle class="{}" cx="{}" cy="{}" r="{}"/>').format(
                kind, _number(across), _number(down), _number(radius)
            )
        )

    def label(
        self, x: float, y: float, text: str, kind: str, shift: tuple[float, float] = (0, 0)
    ) -> None:
        """Write beside a point of the data."""
        across, down = self.at(x, y)
        self._text(across + shift[0], down + shift[1], text, kind)

    def svg(self, description: str, *, largest: float = 1) -> Markup:
        """Give the picture, with a sentence for those who can't see it."""
        width, height = (_number(side) for side in self._total)
        widest = _number(largest * self._total[0])
        return Markup(
            '<svg viewBox="0 0 {} {}" style="max-width:{}px" role="img" aria-label="{}">{}</svg>'
        ).format(width, height, widest, description, Markup("").join(self._parts))

    def _text(self, x: float, y: float, text: str, kind: str) -> None:
        self._parts.append(
            Markup('<text class="{}" x="{}" y="{}">{}</text>').format(
                kind, _number(x), _number(y), text
            )
        )

    def _path(self, points: Sequence[tuple[float, float]]) -> Markup:
        shown: list[str] = []
        for x, y in points:
            across, down = self.at(x, y)
            pair = f"{_number(across)},{_number(down)}"
            if not shown or shown[-1] != pair:
                shown.append(pair)
        return escape(" ".join(shown))


def roc_plot(split: str, heads: Sequence[HeadResult]) -> Markup:
    """Draw the ROC curves of all heads on one split, with the operating point of each.

    Parameters
    ----------
    split : str
    heads : sequence of HeadResult
        In the order of their colours; those not evaluated on `split` are left out.

    Returns
    -------
    Markup
        One ``svg`` element.
    """
    axes = _Axes((250, 250))
    tenths = [(step / 5, f"{step / 5:.1f}") for step in range(6)]
    axes.ticks("x", tenths, "1 \u2212 specificity")
    axes.ticks("y", tenths, "Sensitivity")
    axes.line([(0, 0), (1, 1)], "chance")
    drawn = [
        (place, head.evaluations[split])
        for place, head in enumerate(heads)
        if split in head.evaluations
    ]
    for place, found in drawn:
        fpr, tpr = found.roc()
        axes.line(list(zip(fpr.tolist(), tpr.tolist(), strict=True)), f"curve h{place}")
    for place, found in drawn:
        point = found.operating_point
        if point.sensitivity is None or point.specificity is None:
            continue
        x, y = 1 - point.specificity.value, point.sensitivity.value
        spread, rise = point.specificity, point.sensitivity
        axes.line([(1 - spread.high, y), (1 - spread.low, y)], f"whisker h{place}")
        axes.line([(x, rise.low), (x, rise.high)], f"whisker h{place}")
        axes.dot(x, y, f"point h{place}")
    named = "; ".join(f"{head.title} {_auc(head, split)}" for head in heads)
    return axes.svg(f"ROC curves, {split}: area under the curve {named}", largest=1.3)


def interval_plot(splits: Sequence[str], heads: Sequence[HeadResult]) -> Markup:
    """Draw the area under the ROC curve of every head on every split, with its interval."""
    rows = [
        (split, place, head.title, auc)
        for split in splits
        for place, head in enumerate(heads)
        if (auc := _auc(head, split)) is not None
    ]
    low = min([0.5, *(auc.low for *_, auc in rows)])
    start = np.floor(low * 10) / 10
    groups = len({split for split, *_ in rows})
    height = _ROW * (len(rows) + groups)
    axes = _Axes((560, height), (start, 1), (height, 0), margins=(4, 16, 46, 150))
    steps = np.round(np.arange(start, 1.001, 0.1), 1)
    axes.ticks("x", [(step, f"{step:.1f}") for step in steps.tolist()], "Area under the ROC curve")
    axes.line([(0.5, 0), (0.5, height)], "chance")
    down, last = 0.0, ""
    for split, place, title, auc in rows:
        if split != last:
            down, last = down + _ROW, split
            axes.label(start, down - _ROW / 2, SPLIT_TITLES[split], "group end", (-10, 8))
        middle = down + _ROW / 2
        axes.label(start, middle, title, "name end", (-10, 4))
        axes.line([(auc.low, middle), (auc.high, middle)], f"bar h{place}")
        axes.dot(auc.value, middle, f"point h{place}")
        down += _ROW
    told = "; ".join(f"{title}, {split}: {auc}" for split, _, title, auc in rows)
    return axes.svg(f"Area under the ROC curve with 95 % intervals. {told}")


def histogram_plot(found: Evaluation, threshold: float, labels: tuple[str, str]) -> Markup:
    """Draw how the probabilities of each class are spread, and the threshold between them.

    Parameters
    ----------
    found : Evaluation
    threshold : float
    labels : tuple of str
        (negative, positive).
    """
    edges = np.linspace(0, 1, _BINS + 1)
    shares = []
    for value in (0, 1):
        chosen = found.probabilities[found.labels == value]
        shares.append(np.histogram(chosen, edges)[0] / max(len(chosen), 1))
    top = max(0.05, float(np.max(shares)) * 1.08)
    axes = _Axes((420, 240), (0, 1), (0, top))
    axes.ticks("x", [(step / 5, f"{step / 5:.1f}") for step in range(6)], "Probability")
    step = next(step for step in (0.01, 0.02, 0.05, 0.1, 0.2, 0.5) if top / step <= 6)
    marks = np.arange(0, top, step).tolist()
    axes.ticks("y", [(mark, f"{100 * mark:.0f} %") for mark in marks], "Share of the class")
    for kind, share in zip(("negative", "positive"), shares, strict=True):
        steps = [
            (float(edge), float(height))
            for (left, right), height in zip(pairwise(edges), share, strict=True)
            for edge in (left, right)
        ]
        axes.area([(0, 0), *steps, (1, 0)], f"spread {kind}")
    axes.line([(threshold, 0), (threshold, top)], "threshold")
    near_end = threshold > 0.6
    axes.label(
        threshold,
        top,
        f"threshold {threshold:.3f}",
        "tick end" if near_end else "tick start",
        (-6 if near_end else 6, 14),
    )
    return axes.svg(
        f"Histogram of the probabilities of {labels[1]} and of {labels[0]}, "
        f"with the threshold at {threshold:.3f}"
    )


def calibration_plot(found: Evaluation) -> Markup:
    """Draw observed frequencies against predicted probabilities, by tenths of the images.

    Bars are 95 % Wilson intervals.
    """
    axes = _Axes((240, 240))
    fifths = [(step / 5, f"{step / 5:.1f}") for step in range(6)]
    axes.ticks("x", fifths, "Predicted probability")
    axes.ticks("y", fifths, "Observed frequency")
    axes.line([(0, 0), (1, 1)], "chance")
    for group in tenths(found.labels, found.probabilities):
        observed = group.observed
        axes.line([(group.predicted, observed.low), (group.predicted, observed.high)], "whisker h0")
        axes.dot(group.predicted, observed.value, "point h0", 4)
    return axes.svg(
        "Calibration: observed frequency against predicted probability, by tenths of the images"
    )


def precision_plot(split: str, heads: Sequence[HeadResult]) -> Markup:
    """Draw the precision-recall curves of all heads on one split, and the share of positives."""
    axes = _Axes((250, 250))
    fifths = [(step / 5, f"{step / 5:.1f}") for step in range(6)]
    axes.ticks("x", fifths, "Sensitivity (recall)")
    axes.ticks("y", fifths, "Positive predictive value (precision)")
    told = []
    for place, head in enumerate(heads):
        found = head.evaluations.get(split)
        if found is None or found.average_precision is None:
            continue
        axes.line([(0, found.positives / found.n), (1, found.positives / found.n)], "chance")
        recall, precision = found.precision_recall()
        axes.line(list(zip(recall.tolist(), precision.tolist(), strict=True)), f"curve h{place}")
        told.append(f"{head.title} {found.average_precision}")
    return axes.svg(
        f"Precision-recall curves, {split}: average precision {'; '.join(told)}", largest=1.3
    )


def decision_plot(found: Evaluation, threshold: float) -> Markup:
    """Draw the net benefit of acting on the probabilities, on all images, and on none."""
    share = found.positives / found.n
    end = float(np.clip(max(2.5 * share, 1.5 * threshold), 0.1, 0.9))
    steps = np.linspace(0.005, end, 120)
    mine = net_benefit(found.labels, found.probabilities, steps)
    everyone = net_benefit(found.labels, np.ones(found.n), steps)
    floor, top = -0.15 * max(share, 0.02), 1.1 * max(share, 0.02)
    axes = _Axes((420, 240), (0, end), (floor, top))
    step = next(step for step in (0.02, 0.05, 0.1, 0.2) if end / step <= 6)
    marks = np.arange(0, end + 1e-9, step).tolist()
    axes.ticks("x", [(mark, f"{mark:.2f}") for mark in marks], "Probability from which one acts")
    rise = next(rise for rise in (0.005, 0.01, 0.02, 0.05, 0.1, 0.2) if top / rise <= 6)
    digits = 3 if rise < 0.01 else 2
    levels = np.arange(0, top, rise).tolist()
    axes.ticks("y", [(y, f"{y:.{digits}f}") for y in levels], "Net benefit per image")
    for worth, kind in ((everyone, "chance"), (mine, "curve h0")):
        shown = worth >= floor
        axes.line(list(zip(steps[shown].tolist(), worth[shown].tolist(), strict=True)), kind)
    axes.line([(0, 0), (end, 0)], "chance")
    if threshold <= end:
        axes.line([(threshold, floor), (threshold, top)], "threshold")
    return axes.svg("Decision curve: net benefit of the head, of acting on all images, and on none")


def _auc(head: HeadResult, split: str) -> Interval | None:
    found = head.evaluations.get(split)
    return None if found is None else found.auc


def _number(value: float) -> str:
    return f"{value:.1f}".removesuffix(".0")
