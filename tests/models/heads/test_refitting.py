"""Final fits that share work give what scikit-learn fits by itself."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

from models.heads.base import HEADS, fit, score
from models.heads.fold import whole
from models.heads.kernel_machine import KernelMachine
from models.heads.refitting import prepare, refit
from tests.models.clusters import clusters

SHAPES = [(150, 24), (90, 160)]


@pytest.mark.parametrize(("n", "d"), SHAPES)
@pytest.mark.parametrize("C", [1e-4, 1e-2, 1.0])
def test_logistic_regression_is_scikit_learns(n: int, d: int, C: float) -> None:
    X, y = clusters(n, d, distance=1.0)
    fitted = refit(HEADS["logistic_regression"], {"C": C}, whole(X), y, seed=0, jobs=1)
    exact = make_pipeline(StandardScaler(), LogisticRegression(C=C, tol=1e-10, max_iter=10_000))
    expected = exact.fit(X.astype(float), y).decision_function(X.astype(float))
    np.testing.assert_allclose(score(fitted, X), expected, atol=5e-3 * expected.std())
    assert fitted["classify"].warm_start is False


@pytest.mark.parametrize(("n", "d"), SHAPES)
def test_the_svm_is_scikit_learns(n: int, d: int) -> None:
    X, y = clusters(n, d, distance=1.0)
    settings = {"C": 3.0, "gamma": 0.25 / d}
    fitted = refit(HEADS["svm"], settings, whole(X), y, seed=0, jobs=1)
    exact = make_pipeline(StandardScaler(), SVC(**settings, class_weight="balanced"))
    others, _ = clusters(60, d, distance=1.0, seed=5)
    expected = exact.fit(X.astype(float), y).decision_function(others.astype(float))
    np.testing.assert_allclose(score(fitted, others), expected, atol=5e-3)
    assert isinstance(fitted, KernelMachine)
    assert len(fitted.weights) == len(exact[-1].support_)


@pytest.mark.parametrize("name", HEADS)
def test_what_was_prepared_changes_nothing(name: str) -> None:
    X, y = clusters(90, 40)
    head, data = HEADS[name], whole(X)
    settings = head.candidates(40)[-1]
    prepare(head, data, [settings], seed=0, jobs=1)
    prepared, fresh = (
        score(refit(head, settings, known, y, seed=0, jobs=1), X) for known in (data, whole(X))
    )
    np.testing.assert_array_equal(prepared, fresh)


def test_trees_are_those_of_a_plain_fit() -> None:
    X, y = clusters(90, 40)
    head = HEADS["xgboost"]
    settings = head.candidates(40)[0]
    np.testing.assert_array_equal(
        score(refit(head, settings, whole(X), y, seed=3, jobs=1), X),
        score(fit(head, settings, X, y, seed=3, jobs=1), X),
    )
