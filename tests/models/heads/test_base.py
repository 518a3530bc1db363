from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score
from sklearn.naive_bayes import GaussianNB
from sklearn.pipeline import Pipeline
from xgboost import XGBClassifier

from models.heads.base import HEADS, fit, score
from tests.models.clusters import clusters


def test_there_are_three_heads_with_distinct_candidates() -> None:
    sizes = {}
    for name, head in HEADS.items():
        tried = [tuple(sorted(settings.items())) for settings in head.candidates(2048)]
        assert len(set(tried)) == len(tried)
        sizes[name] = len(tried)
    assert sizes == {"logistic_regression": 7, "svm": 16, "xgboost": 4}


@pytest.mark.parametrize("name", HEADS)
def test_a_higher_score_is_more_positive(name: str) -> None:
    X, y = clusters(400)
    head = HEADS[name]
    for settings in (head.candidates(32)[0], head.candidates(32)[-1]):
        estimator = fit(head, settings, X[:200], y[:200], seed=0, jobs=1)
        scores = score(estimator, X[200:])
        assert scores.shape == (200,)
        assert scores.dtype == np.float64
        assert roc_auc_score(y[200:], scores) > 0.9


@pytest.mark.parametrize("name", HEADS)
def test_fitted_heads_are_plain_estimators(name: str) -> None:
    X, y = clusters(60)
    head = HEADS[name]
    estimator = fit(head, head.candidates(32)[0], X, y, seed=0, jobs=1)
    assert type(estimator) is (XGBClassifier if name == "xgboost" else Pipeline)
    assert estimator.classes_.tolist() == [0, 1]


@pytest.mark.parametrize("name", HEADS)
def test_single_images_score_as_in_a_batch(name: str) -> None:
    X, y = clusters(100)
    head = HEADS[name]
    estimator = fit(head, head.candidates(32)[0], X, y, seed=0, jobs=1)
    alone = [score(estimator, X[place : place + 1])[0] for place in range(20)]
    np.testing.assert_allclose(alone, score(estimator, X[:20]), rtol=1e-6, atol=1e-9)


def test_the_number_of_threads_does_not_change_the_scores() -> None:
    X, y = clusters(200)
    head = HEADS["xgboost"]
    one, two = (
        score(fit(head, head.candidates(32)[-1], X, y, seed=3, jobs=jobs), X) for jobs in (1, 2)
    )
    np.testing.assert_allclose(one, two, atol=1e-5)


def test_xgboost_scores_are_its_margins() -> None:
    X, y = clusters(100)
    head = HEADS["xgboost"]
    estimator = fit(head, head.candidates(32)[0], X, y, seed=0, jobs=1)
    np.testing.assert_allclose(
        score(estimator, X), estimator.predict(X, output_margin=True), atol=1e-4
    )


def test_certain_probabilities_give_finite_scores() -> None:
    X = np.array([[0.0], [0.001], [1000.0], [1000.001]])
    scores = score(GaussianNB().fit(X, [0, 0, 1, 1]), X)
    assert np.isfinite(scores).all()
    assert scores[0] < 0 < scores[3]
