"""Figures against other people's programs, and their intervals against simulation."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import expit, logit
from scipy.stats import norm
from sklearn.metrics import auc, average_precision_score, roc_curve

from models.evaluation.binary import SENSITIVITIES, evaluate
from models.evaluation.curves import Curve
from models.evaluation.intervals import Resampling, drawn_interval
from models.evaluation.paired import holm, mcnemar
from models.evaluation.reliability import calibration_error, calibration_line, net_benefit, tenths
from models.evaluation.values import Interval

Floats = npt.NDArray[np.float64]
Labels = npt.NDArray[np.int8]


def case(seed: int, n: int, *, ties: bool) -> tuple[Labels, Floats]:
    """Labels and scores from whole numbers, the same on every machine."""
    i = np.arange(n)
    first, second = (i * 7919 + seed * 104729) % 1009 / 1009, (i * i * 31 + seed * 17) % 997 / 997
    labels = (first + 0.6 * second > 0.95).astype(np.int8)
    scores = 0.5 * first + ((i * 613 + seed) % 503) / 503
    return labels, np.round(scores, 1) if ties else scores


# What isic-challenge-scoring 5.6.0 (auc_sens_80) and statsmodels 0.15.0 (Logit, and GLM with an
# offset) gave for these cases. They are not needed to run the tests: the former builds only with a
# C compiler.
PINNED = [
    (
        (1, 60, False),
        0.5006105006105006,
        (0.9314770409491524, 0.27302028051048477, 1.58993380138782),
        (-0.43787125819648254, -1.0182630220810798, 0.14252050568811458),
    ),
    (
        (2, 200, True),
        0.3994332495693265,
        (0.7907198295080347, 0.4446014354494831, 1.1368382235665861),
        (-0.5096933507583191, -0.8284705619838748, -0.19091613953276343),
    ),
    (
        (3, 600, False),
        0.3806114714057104,
        (0.6861686958473269, 0.49424995707961855, 0.8780874346150351),
        (-0.4234564865711307, -0.6057620463897581, -0.24115092675250335),
    ),
]


@pytest.mark.parametrize(("data", "sens_80", "slope", "intercept"), PINNED)
def test_figures_are_those_of_the_isic_scorer_and_of_statsmodels(
    data: tuple[int, int, bool],
    sens_80: float,
    slope: tuple[float, ...],
    intercept: tuple[float, ...],
) -> None:
    labels, scores = case(data[0], data[1], ties=data[2])
    found = evaluate("test", labels, scores, expit(3 * scores - 2.5), 0.5)
    assert found.auc_sens_80 is not None
    assert found.auc_sens_80.value == pytest.approx(sens_80, abs=1e-9)
    for interval, expected in ((found.slope, slope), (found.intercept, intercept)):
        assert interval is not None
        values = (interval.value, interval.low, interval.high)
        assert values == pytest.approx(expected, abs=1e-9)


def test_holm_and_mcnemar_are_those_of_statsmodels() -> None:
    expected = [0.04, 0.09, 0.09, 0.025, 0.2]
    assert holm([0.01, 0.04, 0.03, 0.005, 0.2]) == pytest.approx(expected, abs=1e-9)
    exact = {(3, 9): 0.14599609375, (0, 6): 0.03125, (25, 14): 0.10812902140605732}
    for (one, other), p in exact.items():
        first = np.repeat([True, False, True, False], [one, other, 7, 5])
        second = np.repeat([False, True, True, False], [one, other, 7, 5])
        assert mcnemar(first, second) == (one, other, pytest.approx(p, abs=1e-9))
    assert mcnemar(np.ones(3, bool), np.ones(3, bool)) == (0, 0, 1.0)
    assert holm([]) == []
    assert holm([0.9, 0.8]) == [1.0, 1.0]


@st.composite
def judged(draw: st.DrawFn) -> tuple[Labels, Floats]:
    n = draw(st.integers(4, 40))
    labels = [*draw(st.lists(st.integers(0, 1), min_size=n - 4, max_size=n - 4)), 0, 0, 1, 1]
    scores = draw(st.lists(st.integers(-4, 4), min_size=n, max_size=n))
    return np.array(labels, np.int8), np.array(scores, float) / 3


def isic_2024(labels: Labels, scores: Floats) -> float:
    """The metric of the challenge's page: classes and scores are turned round."""
    fpr, tpr, _ = roc_curve(1 - labels, -scores)
    stop = int(np.searchsorted(fpr, 0.2, "right"))
    end = np.interp(0.2, [fpr[stop - 1], fpr[stop]], [tpr[stop - 1], tpr[stop]])
    return float(auc(np.append(fpr[:stop], 0.2), np.append(tpr[:stop], end)))


@settings(max_examples=150, deadline=None)
@given(judged())
def test_partial_areas_are_the_challenges(data: tuple[Labels, Floats]) -> None:
    labels, scores = data
    curve = Curve(labels, scores)
    assert curve.partial_auc(0.8)[0] == pytest.approx(isic_2024(labels, scores), abs=1e-9)
    fpr, tpr, _ = roc_curve(labels, scores, drop_intermediate=False)
    at = int(np.argmax(tpr >= 0.8))
    # Where the curve, as drawn, meets 80 %, and the area to the right of it.
    left = np.interp(0.8, tpr[at - 1 : at + 1], fpr[at - 1 : at + 1])
    expected = auc(np.append(left, fpr[at:]), np.append(0.8, tpr[at:]))
    assert curve.auc_above_sensitivity(0.8)[0] == pytest.approx(expected, abs=1e-9)
    assert curve.auc_above_sensitivity(1e-12)[0] == pytest.approx(auc(fpr, tpr), abs=1e-9)


@settings(max_examples=100, deadline=None)
@given(judged())
def test_specificity_at_a_sensitivity_is_the_best_that_a_threshold_gives(
    data: tuple[Labels, Floats],
) -> None:
    labels, scores = data
    for target in SENSITIVITIES:
        best = max(
            float((scores[labels == 0] < threshold).mean())
            for threshold in scores
            if (scores[labels == 1] >= threshold).mean() >= target - 1e-12
        )
        assert Curve(labels, scores).specificity_at(target)[0] == pytest.approx(best, abs=1e-9)


@settings(max_examples=50, deadline=None)
@given(judged(), st.integers(0, 99))
def test_weights_are_repeated_images(data: tuple[Labels, Floats], seed: int) -> None:
    labels, scores = data
    weights = next(Resampling(labels, seed, draws=3).weights())
    curve = Curve(labels, scores, weights)
    for place, row in enumerate(weights.astype(int)):
        again = np.repeat(labels, row), np.repeat(scores, row)
        assert again[0].sum() == labels.sum()
        assert len(again[0]) == len(labels)
        alone = Curve(*again)
        expected = average_precision_score(*again)
        assert curve.average_precision()[place] == pytest.approx(expected, abs=1e-9)
        for name in ("partial_auc", "auc_above_sensitivity", "specificity_at"):
            one = getattr(alone, name)(0.8)[0]
            assert getattr(curve, name)(0.8)[place] == pytest.approx(one, abs=1e-9)


def test_draws_do_not_depend_on_how_many_are_held_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    labels = np.repeat(np.array([0, 1], np.int8), [30, 10])
    seeds = [Resampling(labels, seed).of(lambda w: w[:, :3]) for seed in (1, 1, 2)]
    np.testing.assert_array_equal(seeds[0], seeds[1])
    assert not np.array_equal(seeds[0], seeds[2])
    assert seeds[0].shape == (500, 3)
    monkeypatch.setattr("models.evaluation.intervals._AT_ONCE", 40 * 7)
    assert Resampling(labels, 1).of(lambda w: w[:, :3]).shape == (500, 3)


def test_chance_and_perfection_have_the_values_that_the_docs_name() -> None:
    labels = np.tile(np.array([0, 1], np.int8), 50)
    flat, sure = Curve(labels, np.zeros(100)), Curve(labels, labels.astype(float))
    assert flat.partial_auc(0.8)[0] == pytest.approx(0.02)
    assert flat.auc_above_sensitivity(0.8)[0] == pytest.approx(0.18)
    assert sure.partial_auc(0.8)[0] == pytest.approx(0.2)
    assert sure.auc_above_sensitivity(0.8)[0] == pytest.approx(1)


def test_calibration_error_is_its_definition_and_chance_is_about_right() -> None:
    rng = np.random.default_rng(0)
    found, by_chance = [], []
    for _ in range(200):
        p = rng.beta(2, 5, 400)
        labels = (rng.random(400) < p).astype(np.int8)
        error, chance = calibration_error(labels, p)
        groups = np.array_split(np.argsort(p, kind="stable"), 10)
        expected = sum(len(g) * abs(p[g].mean() - labels[g].mean()) for g in groups) / 400
        assert error == pytest.approx(expected, abs=1e-9)
        found.append(error)
        by_chance.append(chance)
    assert np.mean(found) == pytest.approx(np.mean(by_chance), rel=0.1)
    assert [group.n for group in tenths(labels, p)] == [40] * 10
    assert len(tenths(labels[:4], p[:4])) == 4


@settings(max_examples=50, deadline=None)
@given(judged(), st.floats(0.01, 0.99))
def test_net_benefit_is_its_definition(data: tuple[Labels, Floats], threshold: float) -> None:
    labels, scores = data
    p, n = expit(scores), len(labels)
    tp = sum(1 for y, q in zip(labels, p, strict=True) if q >= threshold and y == 1)
    fp = sum(1 for y, q in zip(labels, p, strict=True) if q >= threshold and y == 0)
    expected = tp / n - fp / n * threshold / (1 - threshold)
    assert net_benefit(labels, p, np.array([threshold]))[0] == pytest.approx(expected, abs=1e-9)


def test_a_calibration_line_that_can_not_be_drawn_is_none() -> None:
    labels = np.array([0, 0, 1, 1], np.int8)
    assert calibration_line(labels, np.full(4, 0.3))[0] is None
    assert calibration_line(labels, np.array([0.1, 0.2, 0.8, 0.9]))[0] is None
    assert calibration_line(np.zeros(4, np.int8), np.array([0.1, 0.2, 0.8, 0.9])) == (None, None)
    found = calibration_line(labels, np.full(4, 0.3))[1]
    assert found is not None
    assert found.value == pytest.approx(logit(0.5) - logit(0.3), abs=1e-9)


def test_an_interval_stays_within_its_bounds_and_holds_the_figure() -> None:
    rng = np.random.default_rng(0)
    for value, top in ((0.19, 0.2), (0.02, 1.0), (1.0, 1.0), (0.0, 1.0)):
        found = drawn_interval(
            value, np.clip(rng.normal(value, 0.1, 500), 0, top), top=top, edge=0.01
        )
        assert 0 <= found.low <= found.value <= found.high <= top
    assert drawn_interval(1.0, np.ones(500), edge=0.01) == Interval(1.0, 1.0, 1.0)


def draws(rng: np.random.Generator, m: int, n: int, area: float) -> tuple[Labels, Floats]:
    labels = np.repeat(np.array([1, 0], np.int8), [m, n])
    return labels, rng.normal(labels * norm.ppf(area) * math.sqrt(2), 1)


FIGURES: dict[str, Callable[..., Interval | None]] = {
    "average precision": lambda e: e.average_precision,
    "auc_sens_80": lambda e: e.auc_sens_80,
    "pAUC": lambda e: e.pauc,
    "Brier": lambda e: e.brier,
}


@pytest.mark.slow
@pytest.mark.parametrize(("m", "n", "repeats"), [(60, 240, 400), (117, 483, 200)])
def test_bootstrapped_intervals_cover_what_they_say(m: int, n: int, repeats: int) -> None:
    rng = np.random.default_rng(m)
    area = 0.8
    labels, scores = draws(rng, m * 500, n * 500, area)
    probabilities = expit(1.2 * scores - 2)
    curve = Curve(labels, scores)
    truth = {
        "average precision": curve.average_precision()[0],
        "auc_sens_80": curve.auc_above_sensitivity(0.8)[0],
        "pAUC": curve.partial_auc(0.8)[0],
        "Brier": np.mean((probabilities - labels) ** 2),
    }
    covered = dict.fromkeys(FIGURES, 0)
    for seed in range(repeats):
        labels, scores = draws(rng, m, n, area)
        found = evaluate("test", labels, scores, expit(1.2 * scores - 2), 0.2, seed=seed)
        for name, take in FIGURES.items():
            interval = take(found)
            assert interval is not None
            covered[name] += interval.low <= truth[name] <= interval.high
    # 95 % to within two points, and two standard errors of so many repeats.
    slack = 0.02 + 2 * math.sqrt(0.95 * 0.05 / repeats)
    for name, times in covered.items():
        assert abs(times / repeats - 0.95) <= slack, (name, times / repeats)


@pytest.mark.slow
def test_calibration_intervals_cover_what_they_say() -> None:
    rng = np.random.default_rng(0)
    covered = np.zeros(2)
    for _ in range(1000):
        odds = rng.normal(-1.2, 1.2, 400)
        labels = (rng.random(400) < expit(0.7 * odds)).astype(np.int8)
        slope = calibration_line(labels, expit(odds))[0]
        right = (rng.random(400) < expit(odds + 0.4)).astype(np.int8)
        intercept = calibration_line(right, expit(odds))[1]
        for place, (found, true) in enumerate(((slope, 0.7), (intercept, 0.4))):
            assert found is not None
            covered[place] += found.low <= true <= found.high
    assert (np.abs(covered / 1000 - 0.95) <= 0.02).all(), covered / 1000
