from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize
from scipy.special import expit
from scipy.stats import binomtest, norm

from features.errors import LesionError
from models.decisions.calibration import fit_platt as calibrate
from models.decisions.thresholds import (
    LeastCost,
    Probability,
    TargetSensitivity,
    Youden,
    read_rule,
    sensitivity_bound,
    uncertain_zone,
)
from tests.models.data.clusters import drawn


def test_calibration_is_platts_minimum() -> None:
    labels, scores = drawn(300, 0)
    scores = scores * 40 + 7
    m, n = labels.sum(), (1 - labels).sum()
    target = np.where(labels == 1, (m + 1) / (m + 2), 1 / (n + 2))

    def loss(point: np.ndarray) -> float:
        logits = point[0] * (scores - 7) / 40 + point[1]
        return float(np.sum(np.logaddexp(0, logits) - target * logits))

    best = minimize(loss, [1.0, 0.0], tol=1e-12).x
    found = calibrate(labels, scores)
    expected = expit(best[0] * (scores - 7) / 40 + best[1])
    np.testing.assert_allclose(found.apply(scores), expected, atol=1e-4)
    assert found.method == "platt"


def test_calibrated_probabilities_are_frequencies() -> None:
    labels, scores = drawn(20_000, 1)
    found = calibrate(labels, scores)
    assert found.slope == pytest.approx(1.5, abs=0.08)
    assert found.intercept == pytest.approx(-1, abs=0.08)
    fresh, fresh_scores = drawn(20_000, 2)
    probabilities = found.apply(fresh_scores)
    for low in (0.1, 0.3, 0.5, 0.7):
        held = (probabilities >= low) & (probabilities < low + 0.2)
        assert fresh[held].mean() == pytest.approx(probabilities[held].mean(), abs=0.05)


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
def test_calibration_does_not_depend_on_the_scale_of_scores(scale: float) -> None:
    labels, scores = drawn(200, 3)
    np.testing.assert_allclose(
        calibrate(labels, scale * scores).apply(scale * scores),
        calibrate(labels, scores).apply(scores),
        atol=1e-6,
    )


def test_classes_wholly_apart_give_no_certainty() -> None:
    labels, scores = np.repeat([0, 1], 20), np.repeat([-1.0, 1.0], 20)
    probabilities = calibrate(labels, scores).apply(scores)
    np.testing.assert_allclose(np.unique(probabilities.round(3)), [1 / 22, 21 / 22], atol=1e-3)


@pytest.mark.parametrize("scores", [np.linspace(1, 0, 40), np.zeros(40)])
def test_useless_scores_give_the_share_of_positives(scores: np.ndarray) -> None:
    labels = np.repeat([0, 1], [30, 10])
    found = calibrate(labels, scores)
    assert found.slope == 0
    np.testing.assert_allclose(found.apply(scores), 0.25)


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 400), st.floats(0, 1), st.sampled_from([0.8, 0.9, 0.95]))
def test_the_bound_is_clopper_and_pearsons(n: int, share: float, confidence: float) -> None:
    k = round(share * n)
    exact = binomtest(k, n, alternative="greater").proportion_ci(confidence, method="exact").low
    assert sensitivity_bound(k, n, confidence) == pytest.approx(exact, abs=1e-9)


@pytest.mark.parametrize(
    ("n", "target", "confidence"), [(60, 0.95, 0.9), (374, 0.95, 0.9), (50, 0.8, 0.95)]
)
def test_the_sensitivity_is_kept_as_often_as_promised(
    n: int, target: float, confidence: float
) -> None:
    rng = np.random.default_rng(n)
    rule = TargetSensitivity(target, confidence)
    labels = np.ones(n, np.int8)
    kept = 0
    for _ in range(2000):
        threshold = rule(labels, expit(rng.normal(1, 1, n)))
        assert threshold.rule.startswith("at least")
        # The share of all positives ever to come that is above the threshold.
        true = norm.sf(np.log(threshold.value / (1 - threshold.value)) - 1)
        kept += true >= target
    # Three standard errors of 2000 draws.
    assert kept / 2000 >= confidence - 3 * np.sqrt(confidence * (1 - confidence) / 2000)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.integers(0, 30), min_size=45, max_size=150), st.integers(0, 99))
def test_no_higher_threshold_keeps_the_bound(tenths: list[int], seed: int) -> None:
    positives = np.array(tenths) / 30
    negatives = np.random.default_rng(seed).random(50)
    labels = np.repeat([1, 0], [len(positives), 50])
    found = TargetSensitivity()(labels, np.concatenate([positives, negatives]))
    above = int((positives >= found.value).sum())
    assert sensitivity_bound(above, len(positives), 0.9) >= 0.95
    higher = positives[positives > found.value]
    if len(higher):
        assert sensitivity_bound(len(higher), len(positives), 0.9) < 0.95


def test_the_rule_reads_well() -> None:
    labels = np.ones(45, np.int8)
    rule = TargetSensitivity()(labels, np.linspace(0.1, 0.9, 45)).rule
    assert rule == (
        "at least 95 % sensitivity with 90 % confidence, from 45 cross-validated positives"
    )


@pytest.mark.parametrize("n", [1, 2, 19, 20, 44])
def test_too_few_positives_are_said_to_be_too_few(n: int) -> None:
    positives = np.linspace(0.2, 0.8, n)
    found = TargetSensitivity()(np.ones(n, np.int8), positives)
    assert found.rule == (
        f"95 % sensitivity among {n} cross-validated positives; too few to promise it with "
        "90 % confidence, which takes 45"
    )
    missed = int((positives < found.value).sum())
    assert (n - missed) / n >= 0.95
    assert (n - missed - 1) / n < 0.95


def test_youden_is_the_best_sum_over_all_thresholds() -> None:
    labels, scores = drawn(300, 7)
    probabilities = expit(scores).round(2)
    found = Youden()(labels, probabilities)

    def index(threshold: float) -> float:
        called = probabilities >= threshold
        return float(called[labels == 1].mean() - called[labels == 0].mean())

    best = max(index(threshold) for threshold in probabilities)
    assert index(found.value) == pytest.approx(best)
    assert found.value == min(t for t in probabilities if index(t) > best - 1e-9)
    assert f"{best:.3f}" in found.rule


def test_cost_has_the_least_expected_cost_where_probabilities_are_right() -> None:
    rng = np.random.default_rng(8)
    probabilities = rng.beta(1, 4, 200_000)
    labels = (rng.random(200_000) < probabilities).astype(np.int8)

    def cost(threshold: float) -> float:
        called = probabilities >= threshold
        return float(10 * (~called & (labels == 1)).sum() + (called & (labels == 0)).sum())

    chosen = read_rule("cost:10/1")(labels, probabilities).value
    assert chosen == pytest.approx(1 / 11)
    assert all(cost(chosen) <= cost(other) * 1.001 for other in np.linspace(0.01, 0.6, 60))


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("sensitivity:0.95@0.9", TargetSensitivity(0.95, 0.9)),
        ("Sensitivity:0.8", TargetSensitivity(0.8, 0.9)),
        (" youden ", Youden()),
        ("0.5", Probability(0.5)),
        ("cost:5/2", LeastCost(5, 2)),
    ],
)
def test_rules_are_read(text: str, rule: object) -> None:
    assert read_rule(text) == rule


@pytest.mark.parametrize(
    "text",
    ["", "best", "sensitivity", "sensitivity:95", "sensitivity:0.9@1", "sensitivity:x", "0", "1",
     "1.5", "-0.5", "nan", "cost:1", "cost:0/1", "cost:1/inf", "cost:1/2/3", "youden:1", "0.5:1"],
)  # fmt: skip
def test_rules_that_are_none_are_refused_in_one_sentence(text: str) -> None:
    with pytest.raises(LesionError, match="got --threshold") as refused:
        read_rule(text)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(("m", "n", "alpha"), [(40, 160, 0.1), (374, 1626, 0.1), (60, 60, 0.05)])
@pytest.mark.parametrize("apart", [0.5, 1.5, 4.0])
def test_the_zone_leaves_no_more_errors_than_promised(
    m: int, n: int, alpha: float, apart: float
) -> None:
    # The promise is of the mean over draws, of each class by itself, and at any share.
    rng = np.random.default_rng(m)
    labels = np.repeat([1, 0], [m, n])
    missed, alarmed = [], []
    for _ in range(1000):
        scores = rng.normal(labels * apart, 1)
        probabilities = expit(scores)
        zone = uncertain_zone(labels, probabilities, 0.5, alpha)
        lower, upper = np.log([zone.lower, zone.upper]) - np.log1p([-zone.lower, -zone.upper])
        missed.append(norm.cdf(lower - apart))
        alarmed.append(norm.sf(upper))
    for errors in (missed, alarmed):
        assert np.mean(errors) <= alpha + 3 * np.std(errors) / np.sqrt(1000)


def test_the_zone_is_not_wider_than_it_must_be() -> None:
    rng = np.random.default_rng(1)
    labels = np.repeat([1, 0], [20_000, 20_000])
    probabilities = expit(rng.normal(labels * 1.0, 1))
    zone = uncertain_zone(labels, probabilities, 0.6, 0.1)
    assert (probabilities[labels == 1] < zone.lower).mean() == pytest.approx(0.1, abs=0.001)
    assert (probabilities[labels == 0] > zone.upper).mean() == pytest.approx(0.1, abs=0.001)


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.floats(0, 1), min_size=1, max_size=60),
    st.lists(st.floats(0, 1), min_size=1, max_size=60),
    st.floats(0, 1),
    st.sampled_from([0.01, 0.1, 0.3]),
)
def test_zone_and_threshold_never_contradict_each_other(
    positives: list[float], negatives: list[float], threshold: float, alpha: float
) -> None:
    labels = np.repeat([1, 0], [len(positives), len(negatives)])
    zone = uncertain_zone(labels, np.array([*positives, *negatives]), threshold, alpha)
    assert zone.lower <= threshold <= zone.upper
    # Sure of the negative class: never suspicious. Sure of the positive: always.
    for probability in (*positives, *negatives):
        if not zone.holds(probability):
            assert (probability >= threshold) == (probability > zone.upper)
    if alpha * (len(positives) + 1) < 1:
        assert zone.lower == 0
