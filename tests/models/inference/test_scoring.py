from __future__ import annotations

import numpy as np
import pytest
from sklearn.ensemble import RandomForestClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from models.decisions.calibrators import Platt
from models.heads import HEADS
from models.heads.base import score
from models.heads.classes import ClassHead, ClassHeads
from models.heads.ensemble import Ensemble, Scale, side_by_side
from models.heads.folds.fold import whole
from models.heads.svm import KernelMachine
from models.inference import products, scoring
from models.inference.products import inner_products, weighted_sums
from models.inference.scoring import changes_of, to_serve

N, D = 120, 700
SETTINGS = {
    "logistic_regression": {"C": 1e-3},
    "svm": {"C": 1.0, "gamma": 0.25 / D},
    "xgboost": HEADS["xgboost"].candidates(D)[0],
}


def lesions() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(3)
    y = np.arange(N) % 2
    X = rng.gamma(1.0, 1.0, (N, D)) + 0.3 * y[:, None] * rng.normal(size=D)
    return X.astype(np.float32), y


# Two heads, each on the columns of a network of its own.
PARTS = {"svm": slice(0, D), "logistic_regression": slice(D, 2 * D)}


def fitted(name: str) -> object:
    X, y = lesions()
    if name == "forest":
        return make_pipeline(StandardScaler(), RandomForestClassifier(20, random_state=0)).fit(X, y)
    if name == "networks":
        members = {"svm": fitted("svm"), "logistic_regression": fitted("logistic_regression")}
        scales = {"logistic_regression": Scale(0.1, 0.7), "svm": Scale(-0.2, 0.4)}
        return side_by_side(Ensemble(members, scales), PARTS)
    if name == "ensemble":
        members = {each: fitted(each) for each in ("logistic_regression", "svm")}
        scales = {"logistic_regression": Scale(0.1, 0.7), "svm": Scale(-0.2, 0.4)}
        return Ensemble(members, scales)
    return HEADS[name].refit(SETTINGS[name], whole(X), y, seed=0, jobs=1)


def served(name: str) -> tuple[object, object]:
    """Give a fitted estimator, and what is served of it."""
    estimator = fitted(name)
    heads = ClassHeads((ClassHead("melanoma", estimator, Platt(1.0, 0.0)),))
    return estimator, to_serve(heads).heads[0].estimator


KINDS = [*SETTINGS, "ensemble", "forest"]


@pytest.mark.parametrize("name", KINDS)
def test_what_is_served_scores_as_what_was_fitted(name: str) -> None:
    before, after = served(name)
    X = lesions()[0][::3]
    expected = score(before, X)
    assert np.abs(score(after, X) - expected).max() < 1e-5 * expected.std()
    if name != "forest":
        assert score(after, X[:0]).shape == (0,)
    assert after.n_features_in_ == D


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("start", [0, 250, D - 90])
def test_a_part_that_changes_is_scored_as_the_whole_would_be(name: str, start: int) -> None:
    _, head = served(name)
    X = lesions()[0]
    parts = X[1:, start : start + 90]
    rows = np.repeat(X[:1], len(parts), axis=0)
    rows[:, start : start + 90] = parts
    expected = score(head, rows)
    found = changes_of(head, X[:1])(start, parts)
    assert np.abs(found - expected).max() < 1e-4 * expected.std()


@pytest.mark.parametrize("start", [0, D - 90, D, 2 * D - 90, D - 45])
def test_a_part_of_one_network_that_changes_leaves_the_heads_of_others(start: int) -> None:
    before, head = served("networks")
    X = np.hstack([lesions()[0], lesions()[0][::-1]])
    np.testing.assert_allclose(score(head, X), score(before, X), atol=1e-5)
    parts = X[1:, start : start + 90]
    rows = np.repeat(X[:1], len(parts), axis=0)
    rows[:, start : start + 90] = parts
    expected = score(head, rows)
    found = changes_of(head, X[:1])(start, parts)
    assert np.abs(found - expected).max() < 1e-4 * expected.std()


def test_an_svm_scores_small_changes_by_its_slope_but_for_those_that_change_most(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    _, head = served("svm")
    X = lesions()[0]
    rng = np.random.default_rng(5)
    sizes = rng.gamma(1.0, 0.1, (300, 1))
    parts = (X[:1, 250:340] + sizes * rng.normal(size=(300, 90))).astype(np.float32)
    rows = np.repeat(X[:1], len(parts), axis=0)
    rows[:, 250:340] = parts
    expected = score(head, rows)
    changes = changes_of(head, X[:1])
    multiplied = []

    def counted(given: np.ndarray, vectors: np.ndarray) -> np.ndarray:
        multiplied.append(len(given))
        return inner_products(given, vectors)

    monkeypatch.setattr(scoring, "inner_products", counted)
    found = changes(250, parts)
    largest = np.abs(expected - score(head, X[:1])).max()
    off = np.abs(found - expected)
    assert 1e-6 * largest < off.max() < 0.01 * largest
    assert sum(multiplied) < len(parts) / 4
    most = np.argsort(np.square(parts - X[0, 250:340]).sum(axis=1))[-5:]
    assert off[most].max() < 1e-4 * largest


def test_an_svm_is_served_without_its_vectors_in_single_precision() -> None:
    machine, head = served("svm")
    assert isinstance(machine, KernelMachine)
    score(head, lesions()[0])
    assert head.machine.support is machine.support
    assert "_vectors" not in vars(machine)
    held = [each for each in vars(head).values() if isinstance(each, np.ndarray)]
    assert sum(each.nbytes for each in held) < machine.support.nbytes / 4


@pytest.mark.parametrize("without_openvino", [False, True])
def test_products_of_half_precision_are_those_of_single(
    monkeypatch: pytest.MonkeyPatch, without_openvino: bool
) -> None:
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(3, 5000)).astype(np.float32)
    vectors = rng.normal(size=(777, 6000)).astype(np.float16)[:, 500:5500]
    if without_openvino:

        def missing() -> None:
            raise ImportError("No module named 'openvino'")

        monkeypatch.setattr(products, "import_openvino", missing)
        monkeypatch.setattr(products._Multiplier, "_made", {})
    expected = rows.astype(np.float64) @ vectors.T.astype(np.float64)
    np.testing.assert_allclose(inner_products(rows, vectors), expected, atol=2e-3)
    assert inner_products(rows, vectors[:0]).shape == (3, 0)
    weights = rng.normal(size=(2, 777)).astype(np.float32)
    expected = weights.astype(np.float64) @ vectors.astype(np.float64)
    np.testing.assert_allclose(weighted_sums(weights, vectors), expected, atol=2e-3)
