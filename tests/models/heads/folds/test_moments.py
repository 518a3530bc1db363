"""Moments of several choices of rows out of one pass."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.preprocessing import StandardScaler

from models.heads.folds import moments
from models.heads.folds.fold import Fold, share_sums, whole
from models.heads.folds.moments import Sums


@pytest.mark.parametrize("stretch", [1, 8 * 2**20])
@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_they_are_scikit_learn_s(
    monkeypatch: pytest.MonkeyPatch, stretch: int, dtype: type
) -> None:
    monkeypatch.setattr(moments, "_STRETCH_BYTES", stretch)
    drawn = np.random.default_rng(1)
    X = (drawn.normal(size=(50, 200)) * drawn.exponential(size=200) + 30).astype(dtype)
    X[:, 3] = 0.1
    parts = np.split(drawn.permutation(50), [7, 20, 21])
    sums = Sums(X, parts)
    for taken in ([0], [0, 1, 2, 3], [3, 1], [2, 0]):
        rows = np.concatenate([parts[place] for place in taken])
        expected = StandardScaler().fit(X[rows].astype(np.float64))
        mean, deviation = sums.moments(taken)
        np.testing.assert_allclose(mean, expected.mean_, rtol=1e-7)
        np.testing.assert_allclose(deviation, expected.scale_, rtol=2e-7)


def test_folds_and_the_final_fit_read_the_embeddings_once(monkeypatch: pytest.MonkeyPatch) -> None:
    X = np.random.default_rng(2).normal(size=(30, 40)).astype(np.float32)
    tests = np.split(np.random.default_rng(3).permutation(30), 3)
    folds = [Fold(X, np.setdiff1d(np.arange(30), test), test) for test in tests]
    alone = [Fold(X, fold.train, fold.test).moments() for fold in [*folds, whole(X)]]
    passes, found = [], Sums._sum
    monkeypatch.setattr(Sums, "_sum", lambda sums: passes.append(sums) or found(sums))
    everything = whole(X)
    share_sums(folds, everything)
    for fold, expected in zip([*folds, everything], alone, strict=True):
        np.testing.assert_allclose(fold.moments(), expected, rtol=2e-7, atol=1e-7)
    assert len(passes) == 1
