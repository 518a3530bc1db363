"""Intervals must hold the truth as often as they say: measured, on three shapes of ROC curve."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pytest
from scipy.stats import binom, norm

from models.evaluation.binary import SENSITIVITIES
from models.evaluation.intervals import specificity_interval
from models.evaluation.roc import auc_interval

Floats = npt.NDArray[np.float64]
Labels = npt.NDArray[np.int8]
Draw = Callable[[np.random.Generator, Labels], Floats]


class Shape:
    """Scores with a known area, and the specificity at every sensitivity that belongs to it."""

    def __init__(self, area: float, name: str) -> None:
        self.area, self.name = area, name
        self.spread = {"binormal": 1.0, "wide": 2.0, "exponential": area / (1 - area)}[name]
        self.apart = float(norm.ppf(area)) * math.sqrt(1 + self.spread**2)

    def scores(self, rng: np.random.Generator, labels: Labels) -> Floats:
        scale = np.where(labels == 1, self.spread, 1.0)
        if self.name == "exponential":
            return rng.exponential(scale)
        return rng.normal(labels * self.apart, scale)

    def specificity(self, sensitivity: float) -> float:
        if self.name == "exponential":
            return float(1 - sensitivity**self.spread)
        return float(norm.cdf(self.apart - self.spread * norm.ppf(sensitivity)))


def labels_of(m: int, n: int) -> Labels:
    return np.repeat(np.array([1, 0], np.int8), [m, n])


def bounds(low: float, high: float, repeats: int) -> tuple[float, float]:
    """Where the share that is counted lies if the true coverage is within `low` and `high`.

    A right interval fails one test in a thousand at either end.
    """
    return (
        float(binom.ppf(0.001, repeats, low)) / repeats,
        float(binom.ppf(0.999, repeats, high)) / repeats,
    )


SHAPES = ("binormal", "wide", "exponential")


@pytest.mark.slow
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(
    ("m", "n", "area", "high"),
    [
        (60, 240, 0.8, 0.97),
        (117, 483, 0.85, 0.97),
        (30, 120, 0.75, 0.97),
        # Few positives and an area near 1: rather too wide than too narrow.
        (20, 200, 0.98, 0.99),
        (30, 470, 0.98, 0.99),
        (60, 240, 0.97, 0.99),
        (15, 300, 0.9, 0.99),
    ],
)
def test_auc_intervals_cover(m: int, n: int, area: float, high: float, shape: str) -> None:
    rng, labels, drawn = np.random.default_rng(m + n), labels_of(m, n), Shape(area, shape)
    repeats, covered = 1000, 0
    for _ in range(repeats):
        found = auc_interval(labels, drawn.scores(rng, labels))
        assert found is not None
        assert 0 <= found.low <= found.value <= found.high <= 1
        covered += found.low <= area <= found.high
    least, most = bounds(0.93, high, repeats)
    assert least <= covered / repeats <= most


@pytest.mark.slow
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(("m", "n", "high"), [(117, 483, 0.98), (60, 240, 0.99), (30, 120, 0.99)])
def test_specificities_at_a_sensitivity_cover(m: int, n: int, high: float, shape: str) -> None:
    rng, labels, drawn = np.random.default_rng(m), labels_of(m, n), Shape(0.8, shape)
    repeats = 1000
    covered = dict.fromkeys(SENSITIVITIES, 0)
    for _ in range(repeats):
        scores = drawn.scores(rng, labels)
        for target in SENSITIVITIES:
            found = specificity_interval(labels, scores, target)
            assert found is not None
            covered[target] += found.low <= drawn.specificity(target) <= found.high
    least, most = bounds(0.93, high, repeats)
    for target, times in covered.items():
        assert least <= times / repeats <= most, (target, times / repeats)


def test_a_specificity_has_a_wide_interval_where_few_positives_can_say_nothing() -> None:
    rng, labels = np.random.default_rng(0), labels_of(20, 200)
    scores = Shape(0.8, "binormal").scores(rng, labels)
    found = specificity_interval(labels, scores, 0.95)
    assert found is not None
    below_all = float((scores[labels == 0] < scores[labels == 1].min()).mean())
    # With 20 positives the threshold lies below all of them in a third of samples.
    assert found.low < below_all
    assert specificity_interval(np.zeros(5, np.int8), np.arange(5.0), 0.9) is None
    assert specificity_interval(np.ones(5, np.int8), np.arange(5.0), 0.9) is None


def test_the_auc_interval_is_score_based_and_never_narrower_than_hanley_and_mcneil() -> None:
    labels = labels_of(30, 470)
    # One low positive among high ones: DeLong's variance follows it, and without it nothing does.
    scores = np.concatenate([np.linspace(2, 3, 30), np.linspace(0, 2.01, 470)])
    found = auc_interval(labels, scores)
    assert found is not None
    assert found.value > 0.999
    assert found.high - found.low > 0.01
    reversed_labels = auc_interval(1 - labels, -scores)
    assert reversed_labels is not None
    assert reversed_labels.low == pytest.approx(found.low)
    assert reversed_labels.high == pytest.approx(found.high)
