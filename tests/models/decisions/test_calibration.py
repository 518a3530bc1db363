from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import expit
from sklearn.isotonic import IsotonicRegression
from sklearn.linear_model import LogisticRegression

from models.decisions.calibration import (
    METHODS,
    calibrate,
    choose_method,
    fit_beta,
    fit_isotonic,
    fit_platt,
)
from models.decisions.calibrators import Beta, Calibration, Isotonic, Platt
from models.decisions.newton import logistic_fit


def drawn(n: int, seed: int, *, bend: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    """Scores, and labels of the probability ``sigmoid(score - 1 + bend * score**2)``."""
    rng = np.random.default_rng(seed)
    scores = rng.normal(size=n) * 2
    odds = scores - 1 + bend * np.sign(scores) * scores**2
    return (rng.random(n) < expit(odds)).astype(np.int8), scores


def folds(n: int, k: int = 5) -> list[np.ndarray]:
    return [np.arange(start, n, k) for start in range(k)]


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("scale", [1e-4, 1.0, 1e5])
def test_every_calibration_survives_json_and_the_scale_of_scores(method: str, scale: float) -> None:
    labels, scores = drawn(400, 0)
    found, losses = calibrate(labels, scores * scale, method=method)
    assert found.method == method
    assert losses == {}
    again = Calibration.from_dict(json.loads(json.dumps(found.as_dict())))
    assert again == found
    given_scores = np.linspace(-9, 9, 300)
    probabilities = found.apply(given_scores * scale)
    np.testing.assert_array_equal(again.apply(given_scores * scale), probabilities)
    plain, _ = calibrate(labels, scores, method=method)
    np.testing.assert_allclose(probabilities, plain.apply(given_scores), atol=1e-6)
    assert (np.diff(probabilities) >= 0).all()
    assert (probabilities > 0).all()
    assert (probabilities < 1).all()


@settings(max_examples=60, deadline=None)
@given(st.integers(2, 40), st.integers(0, 5000), st.sampled_from(METHODS), st.booleans())
def test_no_score_is_ever_below_a_lower_one(n: int, seed: int, method: str, ties: bool) -> None:
    rng = np.random.default_rng(seed)
    scores = rng.normal(size=n).round(0 if ties else 9)
    labels = rng.integers(0, 2, n).astype(np.int8)
    labels[:2] = 0, 1
    found, _ = calibrate(labels, scores, method=method)
    probabilities = found.apply(np.linspace(-5, 5, 200))
    assert np.isfinite(probabilities).all()
    assert (np.diff(probabilities) >= -1e-12).all()


def test_isotonic_is_scikit_learns_within_its_bounds() -> None:
    labels, scores = drawn(300, 1)
    m, n = int(labels.sum()), int((1 - labels).sum())
    model = IsotonicRegression(y_min=1 / (n + 2), y_max=(m + 1) / (m + 2), out_of_bounds="clip")
    expected = model.fit(scores, labels).predict(np.linspace(-8, 8, 500))
    found = fit_isotonic(labels, scores).apply(np.linspace(-8, 8, 500))
    np.testing.assert_allclose(found, expected, atol=1e-9)


def test_beta_is_kulls_minimum() -> None:
    labels, scores = drawn(2000, 2, bend=0.5)
    found = fit_beta(labels, scores)
    inner = expit(found.slope * scores + found.intercept)
    columns = np.stack([np.log(inner), -np.log1p(-inner)], axis=1)
    exact = LogisticRegression(C=np.inf, tol=1e-12, max_iter=5000).fit(columns, labels)
    np.testing.assert_allclose([found.a, found.b], exact.coef_[0], atol=1e-3)
    assert found.c == pytest.approx(exact.intercept_[0], abs=1e-3)
    by_formula = expit(found.a * np.log(inner) - found.b * np.log1p(-inner) + found.c)
    np.testing.assert_allclose(found.apply(scores), by_formula, atol=1e-12)


def test_the_kind_that_fits_is_chosen() -> None:
    labels, scores = drawn(3000, 3)
    assert choose_method(labels, scores, folds(3000))[0] in ("platt", "beta")
    # One step, which no sigmoid can follow.
    rng = np.random.default_rng(4)
    steps = rng.random(3000) < np.where(scores > 0, 0.8, 0.2)
    method, losses = choose_method(steps.astype(np.int8), scores, folds(3000))
    assert method == "isotonic"
    assert losses["isotonic"] == min(losses.values())
    assert set(losses) == set(METHODS)


def test_steps_are_not_chosen_for_few_images() -> None:
    labels, scores = drawn(900, 3)
    steps = (np.random.default_rng(4).random(900) < np.where(scores > 0, 0.8, 0.2)).astype(np.int8)
    method, losses = choose_method(steps, scores, folds(900))
    assert method != "isotonic"
    assert set(losses) == {"platt", "beta"}
    assert calibrate(labels, scores, method="isotonic")[0].method == "isotonic"


def test_losses_are_of_scores_that_the_calibration_did_not_see() -> None:
    labels, scores = drawn(60, 5)
    parts = folds(60, 3)
    expected = 0.0
    for test in parts:
        others = np.setdiff1d(np.arange(60), test)
        p = fit_platt(labels[others], scores[others]).apply(scores[test])
        expected -= np.sum(np.where(labels[test] == 1, np.log(p), np.log(1 - p))) / 60
    assert choose_method(labels, scores, parts)[1]["platt"] == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize(
    "values",
    [
        {"method": "magic", "slope": 1.0, "intercept": 0.0},
        {"method": ["platt"], "slope": 1.0, "intercept": 0.0},
        {"method": "platt", "slope": -1.0, "intercept": 0.0},
        {"method": "platt", "slope": True, "intercept": 0.0},
        {"method": "platt", "slope": math.nan, "intercept": 0.0},
        {"method": "platt", "slope": 1.0},
        {"method": "platt", "slope": 1.0, "intercept": 0.0, "more": 1.0},
        {"method": "beta", "slope": 1.0, "intercept": 0.0, "a": -0.1, "b": 1.0, "c": 0.0},
        {"method": "isotonic", "scores": [], "probabilities": []},
        {"method": "isotonic", "scores": [0.0, 1.0], "probabilities": [0.5]},
        {"method": "isotonic", "scores": [1.0, 0.0], "probabilities": [0.1, 0.5]},
        {"method": "isotonic", "scores": [0.0, 1.0], "probabilities": [0.6, 0.5]},
        {"method": "isotonic", "scores": [0.0, 1.0], "probabilities": [0.6, 1.5]},
        {"method": "isotonic", "scores": [0.0, 1.0], "probabilities": 1},
        {"method": "isotonic", "scores": "ab", "probabilities": [0.1, 0.2]},
        {},
    ],
)
def test_numbers_that_are_no_calibration_are_refused(values: dict[str, Any]) -> None:
    with pytest.raises((ValueError, TypeError, LookupError)):
        Calibration.from_dict(values)


def test_flat_calibrations_say_so() -> None:
    assert Platt(0.0, -1.0).flat
    assert not Platt(1.0, -1.0).flat
    assert Beta(1.0, 0.0, 0.0, 0.0, 0.3).flat
    assert Isotonic((0.0, 1.0), (0.2, 0.2)).flat
    assert not Isotonic((0.0, 1.0), (0.2, 0.3)).flat


def test_newton_gives_none_where_there_is_no_maximum() -> None:
    column = np.stack([np.ones(6), np.arange(6.0)], axis=1)
    assert logistic_fit(column, np.array([0.0, 0, 0, 1, 1, 1])) is None
    assert logistic_fit(np.ones((4, 1)), np.ones(4)) is None
    assert logistic_fit(np.ones((4, 2)), np.array([0.0, 1, 0, 1])) is None


def test_newton_takes_an_offset() -> None:
    labels, scores = drawn(500, 6)
    found = logistic_fit(np.ones((500, 1)), labels.astype(float), scores - 1)
    assert found is not None
    shifted = expit(scores - 1 + found.coefficients[0])
    # At the maximum as many positives are expected as there are.
    assert shifted.sum() == pytest.approx(labels.sum(), abs=1e-8)
