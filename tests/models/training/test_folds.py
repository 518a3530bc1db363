from __future__ import annotations

import numpy as np
import pytest

from models.training.folds import make_folds


def test_groups_stay_together_when_there_are_very_many() -> None:
    rng = np.random.default_rng(0)
    groups = np.concatenate([np.arange(30_000), np.arange(30_000), np.zeros(500, int)])
    y = (rng.random(len(groups)) < 0.2).astype(np.int8)
    folds = make_folds(y, y, groups, folds=5, seed=1)
    again = make_folds(y, y, groups, folds=5, seed=1)
    other = make_folds(y, y, groups, folds=5, seed=2)
    assert sorted(np.concatenate([fold.test for fold in folds]).tolist()) == list(range(len(y)))
    for fold in folds:
        assert not np.isin(groups[fold.test], groups[fold.train]).any()
        assert y[fold.test].mean() == pytest.approx(0.2, abs=0.01)
        assert len(fold.test) == pytest.approx(len(y) / 5, rel=0.05)
    assert all((a.test == b.test).all() for a, b in zip(folds, again, strict=True))
    assert (folds[0].test[:100] != other[0].test[:100]).any()
