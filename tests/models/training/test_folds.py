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


@pytest.mark.parametrize(("folds", "halves"), [(2, (1, 1)), (3, (2, 1)), (5, (3, 2))])
def test_the_halves_share_rows_that_none_of_them_judges_by(
    folds: int, halves: tuple[int, int]
) -> None:
    y = np.arange(60) % 2
    made = make_folds(y, y, np.arange(60), folds=folds, seed=0)
    assert len({id(fold.common) for fold in made}) == 2
    for half in (made[: halves[0]], made[halves[0] :]):
        judged = np.concatenate([fold.test for fold in half])
        assert all(fold.common is half[0].common for fold in half)
        assert half[0].common.rows.tolist() == np.setdiff1d(np.arange(60), judged).tolist()
