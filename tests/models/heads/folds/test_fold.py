"""What folds of the same embeddings share."""

from __future__ import annotations

import threading
import tracemalloc

import numpy as np
import pytest
from sklearn.preprocessing import StandardScaler

from models.heads.folds import moments
from models.heads.folds.fold import Fold


def one_fold(n: int = 60, d: int = 500) -> tuple[np.ndarray, Fold]:
    drawn = np.random.default_rng(0)
    X = (drawn.normal(size=(n, d)) * drawn.exponential(size=d) + 3).astype(np.float32)
    X[:, 7] = 0.1
    return X, Fold(X, np.arange(0, n, 2)[::-1], np.arange(1, n, 2))


@pytest.mark.parametrize("stretch", [1, 8 * 2**20])
def test_inner_products_are_those_of_scikit_learn_s_scaling(
    monkeypatch: pytest.MonkeyPatch, stretch: int
) -> None:
    monkeypatch.setattr(moments, "_STRETCH_BYTES", stretch)
    X, fold = one_fold()
    scaler = StandardScaler().fit(X[fold.train].astype(float))
    train, test = (scaler.transform(X[rows].astype(float)) for rows in (fold.train, fold.test))
    found, own = fold.inner_products(), fold.scaler()
    np.testing.assert_allclose(own.mean_, scaler.mean_, rtol=1e-7)
    np.testing.assert_allclose(own.scale_, scaler.scale_, rtol=1e-6)
    for given, expected in (
        (found.gram, train @ train.T),
        (found.cross, test @ train.T),
        (found.lengths, (test**2).sum(axis=1)),
        (fold.weighted(np.arange(30.0)), np.arange(30.0) @ train),
        (np.concatenate(fold.standardised()), np.concatenate([train, test])),
    ):
        np.testing.assert_allclose(given, expected, atol=1e-5 * np.abs(expected).max())


def test_no_second_copy_of_the_embeddings_is_made() -> None:
    X = np.random.default_rng(0).normal(size=(100, 200_000)).astype(np.float32)
    fold = Fold(X, np.arange(80), np.arange(80, 100))
    tracemalloc.start()
    fold.inner_products()
    fold.weighted(np.ones(80))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    # Three columns of numbers in double precision, and some stretches.
    assert peak < 0.7 * X.nbytes


def test_what_is_made_is_made_once_and_keeps_nobody_else_waiting() -> None:
    _, fold = one_fold()
    begun, go_on = threading.Event(), threading.Event()
    made: list[str] = []

    def slowly() -> str:
        begun.set()
        assert go_on.wait(60)
        made.append("slow")
        return "slow"

    workers = [threading.Thread(target=fold.shared, args=("slow", slowly)) for _ in range(2)]
    for worker in workers:
        worker.start()
    assert begun.wait(60)
    assert fold.shared("quick", lambda: "quick") == "quick"
    go_on.set()
    for worker in workers:
        worker.join()
    assert made == ["slow"]
