from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score
from sklearn.naive_bayes import GaussianNB

from models.heads import HEADS, base
from models.heads.base import score
from models.heads.folds.fold import whole
from tests.models.data.clusters import clusters


@pytest.mark.parametrize("name", HEADS)
def test_candidates_are_distinct(name: str) -> None:
    tried = [tuple(sorted(settings.items())) for settings in HEADS[name].candidates(2048)]
    assert len(set(tried)) == len(tried) > 1


@pytest.mark.parametrize("name", HEADS)
def test_a_higher_score_is_more_positive(name: str) -> None:
    X, y = clusters(400)
    head = HEADS[name]
    for settings in (head.candidates(32)[0], head.candidates(32)[-1]):
        estimator = head.fit(settings, X[:200], y[:200], seed=0, jobs=1)
        scores = score(estimator, X[200:])
        assert scores.shape == (200,)
        assert scores.dtype == np.float64
        assert roc_auc_score(y[200:], scores) > 0.9


@pytest.mark.parametrize("name", HEADS)
def test_fitted_heads_are_plain_estimators(name: str) -> None:
    X, y = clusters(60)
    head = HEADS[name]
    estimator = head.fit(head.candidates(32)[0], X, y, seed=0, jobs=1)
    assert type(estimator).__module__.split(".")[0] in ("sklearn", "xgboost")
    assert estimator.classes_.tolist() == [0, 1]


@pytest.mark.parametrize("name", HEADS)
def test_single_images_score_as_in_a_batch(name: str) -> None:
    X, y = clusters(100)
    head = HEADS[name]
    estimator = head.fit(head.candidates(32)[0], X, y, seed=0, jobs=1)
    alone = [score(estimator, X[place : place + 1])[0] for place in range(20)]
    np.testing.assert_allclose(alone, score(estimator, X[:20]), rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("name", HEADS)
def test_many_images_are_scored_a_part_at_a_time(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    X, y = clusters(101)
    head = HEADS[name]
    estimator = head.fit(head.candidates(32)[0], X, y, seed=0, jobs=1)
    expected, sizes = score(estimator, X), list[int]()
    asked = "decision_function" if hasattr(estimator, "decision_function") else "predict_proba"
    ask = getattr(estimator, asked)
    monkeypatch.setattr(base, "_AT_ONCE", 32 * 20)
    monkeypatch.setattr(estimator, asked, lambda rows: sizes.append(len(rows)) or ask(rows), False)
    np.testing.assert_allclose(score(estimator, X), expected, rtol=1e-6, atol=1e-9)
    assert max(sizes) <= 20
    assert sum(sizes) == 101


def test_certain_probabilities_give_finite_scores() -> None:
    X = np.array([[0.0], [0.001], [1000.0], [1000.001]])
    scores = score(GaussianNB().fit(X, [0, 0, 1, 1]), X)
    assert np.isfinite(scores).all()
    assert scores[0] < 0 < scores[3]


@pytest.mark.parametrize("name", HEADS)
def test_what_was_prepared_changes_nothing(name: str) -> None:
    X, y = clusters(90, 40)
    head, data = HEADS[name], whole(X)
    settings = head.candidates(40)[-1]
    head.prepare(data, [settings], seed=0, jobs=1)
    prepared, fresh = (
        score(head.refit(settings, known, y, seed=0, jobs=1), X) for known in (data, whole(X))
    )
    np.testing.assert_array_equal(prepared, fresh)
