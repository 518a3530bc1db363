from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.naive_bayes import GaussianNB
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_info

from models.heads import HEADS
from models.heads.base import Head, score
from models.heads.folds.fold import Fold
from models.training.folds import make_folds
from models.training.tuning import tune, tune_each, workers
from tests.models.data.clusters import clusters

SHAPES = [(150, 24), (90, 160)]


def folds_of(
    n: int = 150, d: int = 24, *, distance: float = 1.0, folds: int = 3
) -> tuple[list[Fold], np.ndarray]:
    X, y = clusters(n, d, distance=distance)
    return make_folds(X, y, np.arange(n), folds=folds, seed=0), y


@settings(max_examples=30, deadline=None)
@given(
    groups=st.lists(st.integers(0, 40), min_size=60, max_size=120),
    folds=st.integers(2, 5),
    seed=st.integers(0, 100),
)
def test_no_group_is_in_two_folds(groups: list[int], folds: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    y = rng.permutation(np.arange(len(groups)) % 2).astype(np.int8)
    assume(all(len({g for g, k in zip(groups, y, strict=True) if k == c}) >= folds for c in (0, 1)))
    X = np.zeros((len(groups), 1), np.float32)
    made = make_folds(X, y, np.array(groups), folds=folds, seed=seed)
    tests = np.concatenate([fold.test for fold in made])
    assert sorted(tests.tolist()) == list(range(len(groups)))
    for fold in made:
        assert not set(np.array(groups)[fold.train]) & set(np.array(groups)[fold.test])
        assert len(fold.train) + len(fold.test) == len(groups)


@pytest.mark.parametrize("grouped", [False, True])
def test_folds_keep_the_proportion_of_classes(grouped: bool) -> None:
    X, y = clusters(400, 4, share=0.2)
    groups = np.arange(400) // 2 if grouped else np.arange(400)
    for fold in make_folds(X, y, groups, folds=5, seed=1):
        assert y[fold.test].mean() == pytest.approx(0.2, abs=0.03)


@pytest.mark.parametrize("grouped", [False, True])
def test_the_seed_decides_the_folds(grouped: bool) -> None:
    X, y = clusters(100, 4)
    groups = np.arange(100) // 2 if grouped else np.arange(100)
    first, again, other = (
        np.concatenate([fold.test for fold in make_folds(X, y, groups, folds=5, seed=seed)])
        for seed in (1, 1, 2)
    )
    assert first.tolist() == again.tolist() != other.tolist()


@pytest.mark.parametrize(("n", "d"), SHAPES)
@pytest.mark.parametrize("C", [1e-4, 1e-2, 1.0])
def test_logistic_regression_in_the_eigenbasis_is_scikit_learns(n: int, d: int, C: float) -> None:
    folds, y = folds_of(n, d)
    found = tune(HEADS["logistic_regression"], folds, y, candidates=[{"C": C}]).scores
    for fold in folds:
        exact = make_pipeline(StandardScaler(), LogisticRegression(C=C, tol=1e-10, max_iter=10_000))
        exact.fit(fold.X[fold.train].astype(float), y[fold.train])
        expected = exact.decision_function(fold.X[fold.test].astype(float))
        np.testing.assert_allclose(found[fold.test], expected, atol=1e-4 * expected.std())


@pytest.mark.parametrize(("n", "d"), SHAPES)
@pytest.mark.parametrize("name", ["svm", "xgboost"])
def test_shared_work_gives_what_single_fits_give(name: str, n: int, d: int) -> None:
    (joined, y), head = folds_of(n, d), HEADS[name]
    # Those that are joined say by fewer rows where bins begin.
    folds = [Fold(fold.X, fold.train, fold.test) for fold in joined]
    for chosen in head.candidates(d)[::3]:
        found = tune(head, folds, y, candidates=[chosen]).scores
        for fold in folds:
            single = head.fit(chosen, fold.X[fold.train], y[fold.train], seed=0, jobs=1)
            expected = score(single, fold.X[fold.test])
            np.testing.assert_allclose(found[fold.test], expected, atol=0.01 * expected.std())


@pytest.mark.parametrize("name", HEADS)
def test_candidates_do_not_influence_each_other(name: str) -> None:
    (folds, y), head = folds_of(), HEADS[name]
    together = tune(head, folds, y)
    for candidate in together.candidates[:: len(together.candidates) // 3]:
        alone = tune(head, folds, y, candidates=[candidate.settings]).candidates[0]
        assert alone.auc == candidate.auc


@pytest.mark.parametrize("name", HEADS)
def test_the_best_out_of_fold_scores_win(name: str) -> None:
    (folds, y), head = folds_of(), HEADS[name]
    found = tune(head, folds, y)
    best = max(found.candidates, key=lambda candidate: candidate.auc)
    assert found.settings == best.settings
    assert best.auc == pytest.approx(roc_auc_score(y, found.scores), abs=1e-12)


@pytest.mark.parametrize("name", HEADS)
def test_nothing_is_learnt_from_the_images_to_judge_by(name: str) -> None:
    X, y = clusters(90, 120)
    head = HEADS[name]
    fold = make_folds(X, y, np.arange(90), folds=3, seed=0)[0]
    chosen = [head.candidates(120)[-1]]

    def scores(X: np.ndarray, y: np.ndarray) -> np.ndarray:
        # With one candidate, the other fold can have no effect on what is scored in this one.
        both = [Fold(X, fold.train, fold.test), Fold(X, fold.test, fold.train)]
        return tune(head, both, y, candidates=chosen).scores[fold.test]

    altered, shown = X.copy(), fold.test[:-3]
    altered[fold.test[-3:]] = 1e3
    np.testing.assert_allclose(scores(altered, y)[:-3], scores(X, y)[:-3], rtol=1e-6, atol=1e-9)
    flipped = y.copy()
    flipped[shown] = 1 - flipped[shown]
    np.testing.assert_array_equal(scores(X, flipped), scores(X, y))


@pytest.mark.parametrize("name", HEADS)
def test_labels_that_only_leak_through_preprocessing_are_not_learnt(name: str) -> None:
    # One column per image holds its label and is nothing elsewhere: statistics over all images
    # would see it, those of the other folds can't.
    rng = np.random.default_rng(0)
    y = rng.permutation(np.repeat([0, 1], 60)).astype(np.int8)
    X = np.hstack([np.diag(2.0 * y - 1), rng.normal(size=(120, 8))]).astype(np.float32)
    found = tune(HEADS[name], make_folds(X, y, np.arange(120), folds=4, seed=0), y)
    # 0.5 plus what choosing the best of 16 candidates on noise gives (deviation 0.053).
    assert roc_auc_score(y, found.scores) < 0.66


@pytest.mark.parametrize("name", HEADS)
def test_neither_repeating_nor_threads_change_the_result(name: str) -> None:
    (folds, y), head = folds_of(), HEADS[name]
    first, again = (tune(head, folds, y, seed=5, jobs=1) for _ in range(2))
    np.testing.assert_array_equal(first.scores, again.scores)
    assert first.candidates == again.candidates
    np.testing.assert_allclose(tune(head, folds, y, seed=5, jobs=4).scores, first.scores, atol=1e-4)


def test_a_head_without_a_search_of_its_own_is_fitted_candidate_by_candidate() -> None:
    head = Head(
        "naive_bayes",
        "Naive Bayes",
        lambda d: [{"smoothing": 1e-9}, {"smoothing": 1.0}],
        lambda chosen, seed: GaussianNB(var_smoothing=chosen["smoothing"]),
    )
    found = tune(head, *folds_of(distance=3))
    assert len(found.candidates) == 2
    assert max(candidate.auc for candidate in found.candidates) > 0.9


def test_constant_columns_are_harmless() -> None:
    X, y = clusters(90, 20)
    X[:, 5:9] = 0.25
    folds = make_folds(X, y, np.arange(90), folds=3, seed=0)
    for head in HEADS.values():
        found = tune(head, folds, y)
        assert np.isfinite(found.scores).all()
        assert max(candidate.auc for candidate in found.candidates) > 0.8


class Drifting(ClassifierMixin, BaseEstimator):
    """Ranks by the first column, and lies elsewhere after every fit."""

    def __init__(self, drift: float = 0.0) -> None:
        self.drift = drift

    def fit(self, X: np.ndarray, y: np.ndarray) -> Drifting:
        self.classes_ = np.unique(y)
        self.offset_ = self.drift * X.mean()
        return self

    def decision_function(self, X: np.ndarray) -> np.ndarray:
        return X[:, 0] + self.offset_


def test_settings_whose_scores_shift_between_folds_are_not_chosen() -> None:
    """A calibration and a threshold are for all folds: ranks within each are not enough."""
    drifting = Head(
        "drifting",
        "Drifting",
        lambda d: [{"drift": 1e6}, {"drift": 0.0}],
        lambda chosen, seed: Drifting(**chosen),
    )
    found = tune(drifting, *folds_of(folds=5, distance=2.0), jobs=1)
    shifted, steady = found.candidates
    assert shifted.auc < steady.auc - 0.05
    assert found.settings == {"drift": 0.0}


@pytest.mark.parametrize("name", HEADS)
def test_several_sets_of_labels_are_tuned_as_each_by_itself(name: str) -> None:
    (folds, y), head = folds_of(), HEADS[name]
    other = np.roll(y, 7)
    together = tune_each(head, folds, [y, other], jobs=1)
    for labels, found in zip((y, other), together, strict=True):
        alone = tune(head, folds, labels, jobs=1)
        assert found.candidates == alone.candidates
        np.testing.assert_array_equal(found.scores, alone.scores)


def test_something_else_is_done_beside_the_folds() -> None:
    folds, y = folds_of()
    done = []
    head = HEADS["logistic_regression"]
    tuned = tune(head, folds, y, jobs=2, beside=lambda _: done.append("once"))
    assert done == ["once"]
    np.testing.assert_array_equal(tuned.scores, tune(head, folds, y, jobs=2).scores)


def test_openmp_keeps_to_its_share_in_every_thread() -> None:
    with workers(2, 2) as at:
        found = at.pool.submit(threadpool_info).result()
    limits = {known["num_threads"] for known in found if known["user_api"] == "openmp"}
    assert limits == {at.inner} == {1}
