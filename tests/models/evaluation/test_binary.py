from __future__ import annotations

import json
import math

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom, norm
from sklearn.metrics import average_precision_score, brier_score_loss, roc_auc_score, roc_curve

from models.evaluation.binary import evaluate, operating_point
from models.evaluation.intervals import wilson_interval
from models.evaluation.roc import auc_interval, compare_auc, delong_covariance
from models.evaluation.values import Interval


@st.composite
def judged(draw: st.DrawFn) -> tuple[npt.NDArray[np.int8], npt.NDArray[np.float64]]:
    """Labels of both classes, two of each at least, and scores with many ties."""
    n = draw(st.integers(4, 40))
    labels = [*draw(st.lists(st.integers(0, 1), min_size=n - 4, max_size=n - 4)), 0, 0, 1, 1]
    scores = draw(st.lists(st.integers(-4, 4), min_size=n, max_size=n))
    return np.array(labels, np.int8), np.array(scores, float) / 3


def delong_by_pairs(
    labels: npt.NDArray[np.int8], rows: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    """The definition of 1988, by all pairs."""
    positive, negative = rows[:, labels == 1], rows[:, labels == 0]
    wins = (positive[:, :, None] > negative[:, None, :]) + 0.5 * (
        positive[:, :, None] == negative[:, None, :]
    )
    m, n = positive.shape[1], negative.shape[1]
    return np.cov(wins.mean(axis=2)) / m + np.cov(wins.mean(axis=1)) / n


@settings(max_examples=100, deadline=None)
@given(judged())
def test_figures_are_those_of_scikit_learn(
    case: tuple[npt.NDArray[np.int8], npt.NDArray[np.float64]],
) -> None:
    labels, scores = case
    probabilities = 1 / (1 + np.exp(-scores))
    found = evaluate("test", labels, scores, probabilities, 0.5)
    assert found.auc is not None
    assert found.auc.value == pytest.approx(roc_auc_score(labels, scores), abs=1e-9)
    expected = average_precision_score(labels, scores)
    assert found.average_precision is not None
    assert found.average_precision.value == pytest.approx(expected, abs=1e-9)
    assert found.brier.value == pytest.approx(brier_score_loss(labels, probabilities), abs=1e-9)
    fpr, tpr, _ = roc_curve(labels, scores)
    np.testing.assert_allclose(np.array(found.roc()), np.array([fpr, tpr]), atol=1e-9)
    assert 0 <= found.auc.low <= found.auc.value <= found.auc.high <= 1
    json.dumps(found.as_dict(), allow_nan=False)


@settings(max_examples=100, deadline=None)
@given(judged(), st.integers(0, 1000))
def test_delong_by_midranks_is_delong_by_pairs(
    case: tuple[npt.NDArray[np.int8], npt.NDArray[np.float64]], seed: int
) -> None:
    labels, scores = case
    other = np.random.default_rng(seed).integers(0, 5, len(labels)).astype(float)
    rows = np.stack([scores, other])
    areas, covariance = delong_covariance(labels, rows)
    np.testing.assert_allclose(areas, [roc_auc_score(labels, row) for row in rows], atol=1e-12)
    np.testing.assert_allclose(covariance, delong_by_pairs(labels, rows), atol=1e-12)


def draws(
    rng: np.random.Generator, m: int, n: int, area: float
) -> tuple[npt.NDArray[np.int8], npt.NDArray[np.float64]]:
    labels = np.repeat(np.array([1, 0], np.int8), [m, n])
    return labels, rng.normal(labels * norm.ppf(area) * math.sqrt(2), 1)


@pytest.mark.parametrize(("m", "n", "area"), [(60, 240, 0.77), (30, 120, 0.75), (20, 40, 0.9)])
def test_auc_intervals_cover_what_they_say(m: int, n: int, area: float) -> None:
    rng = np.random.default_rng(1)
    found = [auc_interval(*draws(rng, m, n, area)) for _ in range(2000)]
    covered = np.mean([i is not None and i.low <= area <= i.high for i in found])
    # With 20 positives it is rather too wide than too narrow; test_coverage.py has harder cases.
    assert 0.93 <= covered <= (0.97 if m > 20 else 0.985)


@pytest.mark.parametrize(("n", "share"), [(30, 0.9), (117, 0.95), (374, 0.8)])
def test_wilson_intervals_cover_what_they_say(n: int, share: float) -> None:
    covered = 0.0
    for k in range(n + 1):
        found = wilson_interval(k, n)
        assert found is not None
        covered += binom.pmf(k, n, share) * (found.low <= share <= found.high)
    assert 0.93 <= covered <= 0.975


def test_paired_intervals_cover_what_they_say() -> None:
    rng = np.random.default_rng(2)
    covered, rejected = 0, 0
    for _ in range(1000):
        labels, first = draws(rng, 60, 240, 0.8)
        shared = rng.normal(size=300)
        one, other = first + shared, draws(rng, 60, 240, 0.8)[1] + shared
        found = compare_auc(labels, one, other)
        covered += found.difference.low <= 0 <= found.difference.high
        rejected += found.p < 0.05
    assert 930 <= covered <= 970
    assert covered + rejected == 1000


def test_wilson_interval_is_wilsons() -> None:
    z = norm.ppf(0.975)
    for k, n in ((0, 10), (3, 10), (10, 10), (361, 374)):
        share = k / n
        centre = (share + z**2 / (2 * n)) / (1 + z**2 / n)
        half = z / (1 + z**2 / n) * math.sqrt(share * (1 - share) / n + z**2 / (4 * n**2))
        found = wilson_interval(k, n)
        assert found is not None
        assert found.value == share
        assert (found.low, found.high) == pytest.approx((centre - half, centre + half), abs=1e-9)


def test_wilson_interval_of_nothing() -> None:
    assert wilson_interval(0, 0) is None


@pytest.mark.parametrize("m", [1, 2, 30])
def test_classes_wholly_apart_still_leave_doubt(m: int) -> None:
    labels = np.repeat([1, 0], [m, 40])
    best, worst = auc_interval(labels, labels), auc_interval(labels, -labels)
    assert best is not None
    assert worst is not None
    assert best.value == best.high == 1
    assert 0.2 < best.low < 1
    assert worst.low == worst.value == 0
    assert worst.high == pytest.approx(1 - best.low)


def test_more_images_leave_less_doubt_about_classes_wholly_apart() -> None:
    lows = []
    for m in (5, 20, 80, 320):
        found = auc_interval(np.repeat([1, 0], [m, m]), np.repeat([1, 0], [m, m]))
        assert found is not None
        lows.append(found.low)
    assert lows == sorted(lows)
    assert lows[-1] > 0.98


def test_scores_all_alike_have_an_area_of_one_half() -> None:
    found = auc_interval([0, 0, 0, 1, 1], [2.0] * 5)
    assert found is not None
    assert found.value == 0.5
    assert found.low < 0.3 < 0.7 < found.high


@pytest.mark.parametrize("label", [0, 1])
def test_a_single_class_has_no_area_and_does_not_crash(label: int) -> None:
    labels, scores = np.full(7, label, np.int8), np.linspace(0, 1, 7)
    found = evaluate("test", labels, scores, scores, 0.5)
    assert found.auc is None
    assert found.average_precision is None
    assert (found.operating_point.sensitivity is None) == (label == 0)
    assert (found.operating_point.specificity is None) == (label == 1)
    assert found.roc()[0].size == found.precision_recall()[0].size == 0
    json.dumps(found.as_dict(), allow_nan=False)


def test_a_single_positive_gets_an_interval() -> None:
    found = auc_interval([1, 0, 0, 0], [0.5, 0.1, 0.9, 0.2])
    assert found is not None
    assert found.value == pytest.approx(2 / 3)
    assert 0 <= found.low < 0.3
    assert 0.9 < found.high <= 1


def test_a_head_against_itself_and_against_its_opposite() -> None:
    labels, scores = draws(np.random.default_rng(0), 50, 50, 0.9)
    same = compare_auc(labels, scores, scores)
    assert (same.difference, same.p) == (Interval(0, 0, 0), 1)
    ahead, behind = compare_auc(labels, scores, -scores), compare_auc(labels, -scores, scores)
    assert ahead.difference.value == pytest.approx(-behind.difference.value)
    assert ahead.p == pytest.approx(behind.p)
    assert ahead.p < 1e-6


def test_operating_point_counts() -> None:
    found = operating_point([1, 1, 1, 0, 0], [True, True, False, True, False], 0.25)
    assert (found.tp, found.fn, found.fp, found.tn) == (2, 1, 1, 1)
    assert found.threshold == 0.25
    assert found.sensitivity is not None
    assert found.sensitivity.value == pytest.approx(2 / 3)
    assert found.specificity is not None
    assert found.specificity.value == 0.5


def test_a_probability_at_the_threshold_is_suspicious() -> None:
    probabilities = np.array([0.2, 0.3, 0.3, 0.9])
    found = evaluate("valid", np.array([0, 0, 1, 1], np.int8), probabilities, probabilities, 0.3)
    point = found.operating_point
    assert (point.tp, point.fp, point.tn, point.fn) == (2, 1, 1, 0)


def test_intervals_read_well_and_hide_what_json_does_not_know() -> None:
    assert str(Interval(0.7689, 0.741, 0.7944)) == "0.769 (0.741-0.794)"
    assert Interval(0.5, math.nan, math.inf).as_dict() == {"value": 0.5, "low": None, "high": None}
