"""Plots as inline SVG: sharp on paper, in the colours of the page they stand in, and small.

What is drawn takes its colours and dashes from CSS (classes ``h0`` … ``h7`` for the heads), so that
one plot is right on a light page, on a dark one and in print.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Final

import numpy as np
import numpy.typing as npt
from markupsafe import Markup

from features.numbers import percent
from features.presenting import SPLIT_TITLES
from models.evaluation.classes import ClassEvaluation
from models.evaluation.reliability import net_benefit, tenths
from models.evaluation.values import Evaluation, Interval
from models.report.axes import Axes
from models.report.dermatologists import ReaderPoint
from models.report.embedding_map import EmbeddingMap
from models.training.results import HeadResult

__all__ = [
    "calibration_plot",
    "confusion_plot",
    "decision_plot",
    "histogram_plot",
    "interval_plot",
    "map_plot",
    "precision_plot",
    "roc_plot",
]

Floats = npt.NDArray[np.float64]


_BINS: Final = 25


_ROW: Final = 30


# About as wide as a letter of a title is, with the gap after it.
_LETTER: Final = 7.4


_MAP_SHAPES: Final = {"train": "dot", "valid": "triangle", "test": "square"}


def roc_plot(
    split: str, heads: Sequence[HeadResult], readers: Sequence[ReaderPoint] = ()
) -> Markup:
    """Draw the ROC curves of all heads on one split, with the operating point of each.

    Parameters
    ----------
    split : str
    heads : sequence of HeadResult
        In the order of their colours; those not evaluated on `split` are left out.
    readers : sequence of ReaderPoint
        What dermatologists reached on other images, drawn as hollow diamonds with their letters.

    Returns
    -------
    Markup
        One ``svg`` element.
    """
    axes = Axes((350, 350))
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
    for reader in readers:
        across, up = 1 - reader.specificity, reader.sensitivity
        axes.marks([(across, up)], "reader", "diamond", 5)
        axes.note(across, up, reader.letter, (-18, -5))
    named = "; ".join(f"{head.title} {_auc(head, split)}" for head in heads)
    if readers:
        told = "; ".join(reader.sentence for reader in readers)
        named += f". Dermatologists, on other images: {told}"
    return axes.svg(f"ROC curves, {split}: area under the curve {named}")


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
    longest = max(len(title) for _, _, title, _ in rows) if rows else 0
    left = max(150.0, _LETTER * longest)
    axes = Axes((560, height), (start, 1), (height, 0), margins=(4, 16, 46, left))
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
    axes = Axes((410, 240), (0, 1), (0, top))
    axes.ticks("x", [(step / 5, f"{step / 5:.1f}") for step in range(6)], "Probability")
    step = next(step for step in (0.01, 0.02, 0.05, 0.1, 0.2, 0.5) if top / step <= 6)
    marks = np.arange(0, top, step).tolist()
    axes.ticks("y", [(mark, percent(mark, 0)) for mark in marks], "Share of the class")
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
    axes = Axes((236, 236))
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
    axes = Axes((350, 350))
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
    return axes.svg(f"Precision-recall curves, {split}: average precision {'; '.join(told)}")


def decision_plot(found: Evaluation, threshold: float) -> Markup:
    """Draw the net benefit of acting on the probabilities, on all images, and on none."""
    share = found.positives / found.n
    end = float(np.clip(max(2.5 * share, 1.5 * threshold), 0.1, 0.9))
    steps = np.linspace(0.005, end, 120)
    mine = net_benefit(found.labels, found.probabilities, steps)
    everyone = net_benefit(found.labels, np.ones(found.n), steps)
    floor, top = -0.15 * max(share, 0.02), 1.1 * max(share, 0.02)
    axes = Axes((410, 240), (0, end), (floor, top))
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


def map_plot(found: EmbeddingMap, labels: tuple[str, str]) -> Markup:
    """Draw where images lie in the map: colour tells the class, shape the split, a ring a leak."""
    axes = Axes((520, 380), margins=(8, 8, 8, 8))
    ringed = [point for point, leaks in zip(found.points, found.leaking, strict=True) if leaks]
    for part, shape in _MAP_SHAPES.items():
        for positive, kind in ((False, "negative"), (True, "positive")):
            points = [
                point
                for point, of, truth in zip(found.points, found.parts, found.positive, strict=True)
                if of == part and truth == positive
            ]
            axes.marks(points, f"mark {kind} {shape}", shape)
    for x, y in ringed:
        axes.dot(x, y, "ring", 7)
    return axes.svg(
        f"Map of {len(found.points)} images by their embeddings ({found.method}), "
        f"coloured by {labels[1]} and {labels[0]}",
        largest=1.5,
    )


def _auc(head: HeadResult, split: str) -> Interval | None:
    found = head.evaluations.get(split)
    return None if found is None else found.auc


_CELL: Final = 58


_CELL_LETTER: Final = 7.3


_SHORTEST: Final = 14


# The darkest cell still lets the page's ink be read on it.
_DARKEST: Final = 0.62


def confusion_plot(found: ClassEvaluation) -> Markup:
    """Draw the images by true and most likely class.

    Parameters
    ----------
    found : ClassEvaluation

    Returns
    -------
    Markup
        An SVG element; a cell is the darker, the larger its share of its row.
    """
    labels = [_short(label) for label in found.labels]
    left = 34 + _CELL_LETTER * max(map(len, labels))
    side = _CELL * len(labels)
    parts = [_text(left + side / 2, side + 58, "Most likely class", "axis")]
    parts.append(
        Markup(
            '<text class="axis" transform="translate(14 {:.1f}) rotate(-90)">True class</text>'
        ).format(side / 2)
    )
    for row, counts in enumerate(found.confusion.tolist()):
        middle = (row + 0.5) * _CELL
        parts.append(_text(left - 8, middle + 4, labels[row], "name end"))
        parts.append(
            Markup(
                '<text class="name" transform="translate({:.1f} {}) rotate(-28)" '
                'style="text-anchor:end">{}</text>'
            ).format(left + middle + 6, side + 18, labels[row])
        )
        for column, count in enumerate(counts):
            share = count / max(sum(counts), 1)
            x = left + column * _CELL
            parts.append(
                Markup(
                    '<rect class="cell{}" x="{:.1f}" y="{}" width="{}" height="{}" '
                    'style="fill-opacity:{:.3f}"/>'
                ).format(
                    " right" if row == column else "",
                    x + 1,
                    row * _CELL + 1,
                    _CELL - 2,
                    _CELL - 2,
                    _DARKEST * share,
                )
            )
            parts.append(_text(x + _CELL / 2, middle, str(count), "count"))
            if count:
                parts.append(_text(x + _CELL / 2, middle + 15, percent(share, 0), "of-row"))
    width, height = left + side + 4, side + 66
    told = f"Confusion matrix of {len(labels)} classes: rows are true, columns most likely classes"
    return Markup(
        '<svg class="confusion" viewBox="0 0 {:.0f} {:.0f}" style="max-width:{:.0f}px" role="img" '
        'aria-label="{}">{}</svg>'
    ).format(width, height, width, told, Markup("").join(parts))


def _short(label: str) -> str:
    return label if len(label) <= _SHORTEST else label[: _SHORTEST - 1] + "\N{HORIZONTAL ELLIPSIS}"


def _text(x: float, y: float, text: str, kind: str) -> Markup:
    return Markup('<text class="{}" x="{:.1f}" y="{:.1f}">{}</text>').format(kind, x, y, text)
