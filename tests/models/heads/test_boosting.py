"""Trees on parts of the columns are XGBoost's own trees."""

from __future__ import annotations

import json
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import xgboost

from features.cache.rows import Rows
from models.heads.base import score
from models.heads.boosting import (
    BinnedParts,
    Boosting,
    ColumnParts,
    Parts,
    PartsOnDisk,
    edges_of,
)
from models.heads.trees import XGBOOST
from tests.models.data.blocks import D, N, data
from tests.models.data.clusters import clusters

PARAMETERS = {
    "objective": "binary:logistic",
    "tree_method": "hist",
    "max_bin": 64,
    "max_depth": 3,
    "learning_rate": 0.1,
    "seed": 0,
}


def boost(
    parts: Parts, y: npt.NDArray[Any], parameters: dict[str, Any], trees: int, **options: Any
) -> xgboost.Booster:
    boosting = Boosting(parts, y, parameters, jobs=1, **options)
    boosting.grow(trees)
    return boosting.joined()


def columns_of(booster: xgboost.Booster) -> list[set[int]]:
    """Give the columns that each tree asks for."""
    model = json.loads(booster.save_raw("json"))
    trees = model["learner"]["gradient_booster"]["model"]["trees"]
    return [
        {
            column
            for column, left in zip(tree["split_indices"], tree["left_children"], strict=True)
            if left != -1
        }
        for tree in trees
    ]


def test_with_one_part_it_is_plain_xgboost() -> None:
    X, y = clusters(200, 12, distance=1.0)
    mine = boost(ColumnParts(X, 1.0, bins=64, seed=0, jobs=1), y, PARAMETERS, 20)
    same_bins = xgboost.QuantileDMatrix(X, y, max_bin=64, ref=edges_of(X, 64))
    plain = xgboost.train(
        PARAMETERS | {"base_score": float(y.mean())}, same_bins, num_boost_round=20
    )
    np.testing.assert_allclose(
        mine.predict(xgboost.DMatrix(X)), plain.predict(xgboost.DMatrix(X)), atol=1e-4
    )


def test_edges_are_nearly_xgboost_s_own_and_share_out_the_rows_evenly() -> None:
    X = np.random.default_rng(0).normal(size=(1600, 3)).astype(np.float32)
    X[:, 2] = np.maximum(X[:, 2], 0)
    ends, mine = edges_of(X, 64).get_quantile_cut()
    own_ends, own = xgboost.QuantileDMatrix(X, max_bin=64).get_quantile_cut()
    for column in range(2):
        # The first and the last lie beyond all values.
        inner = mine[ends[column] + 1 : ends[column + 1] - 1]
        theirs = own[own_ends[column] + 1 : own_ends[column + 1] - 1]
        np.testing.assert_allclose(inner[1:-1], theirs[1:-1], atol=0.15)
        rows = np.histogram(X[:, column], [-np.inf, *inner, np.inf])[0]
        assert rows.min() >= 24
        assert rows.max() <= 26
    # Half of the third column is zero: those are one bin.
    assert ends[3] - ends[2] < 40


def test_every_tree_sees_one_part_and_all_columns_get_their_turn() -> None:
    X, y = clusters(300, 40, distance=1.0)
    parts = ColumnParts(X, 0.1, bins=64, seed=0, jobs=1)
    seen = columns_of(boost(parts, y, PARAMETERS, 40))
    for place in range(10):
        together = set().union(*seen[place::10])
        assert len(together) <= 4
        assert not together & set().union(*(seen[other] for other in range(10) if other != place))
    assert len(set().union(*seen)) > 30


def test_zeros_are_values_and_not_missing() -> None:
    rng = np.random.default_rng(0)
    X = rng.integers(0, 2, (400, 4)).astype(np.float32)
    y = (X[:, 1] == 0).astype(np.int8)
    booster = boost(ColumnParts(X, 0.5, bins=64, seed=0, jobs=1), y, PARAMETERS, 10)
    found = booster.predict(xgboost.DMatrix(X))
    assert ((found > 0.5) == y).all()


@pytest.mark.parametrize("trees", [5, 12])
def test_fewer_trees_are_the_first_of_more(trees: int) -> None:
    X, y = clusters(150, 30)
    parts = ColumnParts(X, 0.2, bins=64, seed=1, jobs=1)
    few, many = (boost(parts, y, PARAMETERS, count) for count in (trees, 20))
    whole = xgboost.DMatrix(X)
    np.testing.assert_array_equal(
        few.predict(whole), many.predict(whole, iteration_range=(0, trees))
    )


@pytest.mark.usefixtures("tiny_blocks")
@pytest.mark.parametrize("external", [False, True])
def test_bins_in_files_grow_the_same_trees(tmp_path: Path, external: bool) -> None:
    X, y = data()
    parts = PartsOnDisk(Rows(X), 0.2, tmp_path / "parts.h5", seed=3)
    assert sorted(np.concatenate(parts.columns).tolist()) == list(range(D))
    binned = BinnedParts(
        parts,
        np.arange(N),
        bins=64,
        memory=0 if external else 2**30,
        folder=tmp_path,
        seed=0,
        jobs=1,
    )
    assert binned.in_memory is not external
    chosen = {"max_depth": 2, "learning_rate": 0.1, "colsample_bytree": 0.2, "n_estimators": 12}
    parameters = XGBOOST.make(chosen, 3).get_xgb_params()
    booster = boost(binned, y, parameters, 12)
    assert any(tmp_path.glob("part-*")) is external
    found = booster.inplace_predict(X, predict_type="margin")
    expected = score(XGBOOST.fit(chosen, X, y, seed=3, jobs=1), X)
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_rows_that_weigh_nothing_are_as_good_as_absent() -> None:
    X, y = clusters(300, 40, distance=1.0)
    train = np.arange(300) % 3 > 0
    # The same bins for both: every value that occurs is in the part to fit on, too.
    X = np.round(X)
    X[train] = np.repeat(X[~train], 2, axis=0)
    known = PARAMETERS | {"max_bin": 256}
    bins = {"bins": 256, "seed": 0, "jobs": 1}
    whole = Boosting(ColumnParts(X, 0.1, **bins), y, known, np.flatnonzero(train), jobs=1)
    margins = whole.grow(40)
    alone = boost(ColumnParts(X[train], 0.1, **bins), y[train], known, 40)
    np.testing.assert_allclose(margins, alone.inplace_predict(X, predict_type="margin"), atol=1e-4)
    y[~train] = 1 - y[~train]
    flipped = Boosting(ColumnParts(X, 0.1, **bins), y, known, np.flatnonzero(train), jobs=1)
    np.testing.assert_array_equal(flipped.grow(40), margins)


def test_margins_on_the_way_are_those_of_the_joined_model() -> None:
    X, y = clusters(200, 30, distance=1.0)
    boosting = Boosting(ColumnParts(X, 0.2, bins=64, seed=0, jobs=1), y, PARAMETERS, jobs=1)
    few, many = boosting.grow(7), boosting.grow(23)
    joined = boosting.joined()
    for margins, trees in ((few, 7), (many, 23)):
        found = joined.inplace_predict(X, predict_type="margin", iteration_range=(0, trees))
        np.testing.assert_allclose(margins, found, atol=1e-5)


def test_fits_that_grow_at_once_on_the_same_bins_find_what_they_find_alone() -> None:
    X, y = clusters(300, 400, distance=0.5)
    folds = [np.flatnonzero(np.arange(300) % 5 != fold) for fold in range(5)]

    parts = ColumnParts(X, 0.02, bins=64, seed=0, jobs=1)

    def grown(train: npt.NDArray[np.intp]) -> tuple[ColumnParts, npt.NDArray[np.float32]]:
        return parts, Boosting(parts, y, PARAMETERS, train, jobs=1).grow(120)

    alone = [grown(train)[1] for train in folds]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(grown, folds * 4))
    for number, (_, margins) in enumerate(together):
        np.testing.assert_array_equal(margins, alone[number % 5])


def test_threads_share_out_the_binning_and_none_waits_for_another() -> None:
    both = threading.Barrier(2, timeout=10)

    class Slow(ColumnParts):
        def _bin(self, number: int) -> xgboost.DMatrix:
            both.wait()
            return super()._bin(number)

    X, _ = clusters(50, 8)
    parts = Slow(X, 0.25, bins=16, seed=0, jobs=1)
    with ThreadPoolExecutor(2) as pool:
        for done in [pool.submit(parts.bin_for, 100) for _ in range(2)]:
            done.result()
    assert [parts[number].num_col() for number in range(4)] == [2, 2, 2, 2]


def test_what_fails_to_be_binned_fails_for_all_who_wait_for_it() -> None:
    class Broken(ColumnParts):
        def _bin(self, number: int) -> xgboost.DMatrix:
            raise MemoryError

    parts = Broken(np.zeros((4, 2), np.float32), 1.0, bins=16, seed=0, jobs=1)
    for _ in range(2):
        with pytest.raises(MemoryError):
            parts[0]
