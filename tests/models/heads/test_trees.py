"""XGBoost's scores, and its file: nothing but sound trees can come out of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from models.heads.base import score
from models.heads.boosting import ColumnParts, runs_of
from models.heads.files import HeadFileError, dump_head, load_head
from models.heads.folds.fold import whole
from models.heads.trees import XGBOOST
from models.training.folds import make_folds
from tests.models.data.clusters import clusters


def test_trees_are_those_of_a_plain_fit() -> None:
    X, y = clusters(90, 40)
    settings = XGBOOST.candidates(40)[0]
    np.testing.assert_array_equal(
        score(XGBOOST.refit(settings, whole(X), y, seed=3, jobs=1), X),
        score(XGBOOST.fit(settings, X, y, seed=3, jobs=1), X),
    )


def test_the_number_of_threads_does_not_change_the_scores() -> None:
    X, y = clusters(200)
    one, two = (
        score(XGBOOST.fit(XGBOOST.candidates(32)[-1], X, y, seed=3, jobs=jobs), X)
        for jobs in (1, 2)
    )
    np.testing.assert_allclose(one, two, atol=1e-5)


def test_xgboost_scores_are_its_margins() -> None:
    X, y = clusters(100)
    estimator = XGBOOST.fit(XGBOOST.candidates(32)[0], X, y, seed=0, jobs=1)
    np.testing.assert_allclose(
        score(estimator, X), estimator.predict(X, output_margin=True), atol=1e-4
    )


def test_folds_that_share_bins_learn_nothing_from_what_they_judge_by() -> None:
    X, y = clusters(100, 40)
    chosen = [XGBOOST.candidates(40)[0]]

    def scores(X: npt.NDArray[Any], place: int) -> npt.NDArray[Any]:
        folds = make_folds(X, y, np.arange(100), folds=5, seed=0)
        return XGBOOST.search(folds[place], [y], chosen, seed=0, jobs=1)[0, 0]

    for place, fold in enumerate(make_folds(X, y, np.arange(100), folds=5, seed=0)):
        altered = X.copy()
        altered[fold.test[-8:]] = 1e3
        np.testing.assert_array_equal(scores(altered, place)[:-8], scores(X, place)[:-8])


def test_two_binnings_serve_all_folds_and_the_final_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    X, y = clusters(100, 200)
    binned = []
    bin_one = ColumnParts._bin
    monkeypatch.setattr(
        ColumnParts, "_bin", lambda parts, number: binned.append(number) or bin_one(parts, number)
    )
    settings = XGBOOST.candidates(200)[0]
    folds = make_folds(X, y, np.arange(100), folds=5, seed=0)
    every = whole(X)
    every.common = folds[-1].common
    for fold in folds:
        XGBOOST.search(fold, [y], [settings], seed=0, jobs=1)
    XGBOOST.refit(settings, every, y, seed=0, jobs=1)
    assert sorted(binned) == [0, 0, 1, 1, 2, 2]


def fitted() -> Any:
    X, y = clusters(80, 12, distance=1.0)
    return XGBOOST.fit(XGBOOST.candidates(12)[0], X, y, seed=0, jobs=1)


def smash(model: Any, place: str, value: Any) -> Any:
    part = model
    *path, last = [int(step) if step.isdigit() else step for step in place.split("/")]
    for step in path:
        part = part[step]
    part[last] = value
    return model


@pytest.mark.parametrize(
    ("place", "value"),
    [
        ("tree_param/num_nodes", "1000000"),
        ("tree_param/num_feature", "13"),
        ("left_children/0", 1_000_000),
        ("left_children/0", 0),
        ("left_children/0", -1),
        ("left_children/0", 1.0),
        ("right_children", [2]),
        ("split_indices/0", 12),
        ("split_indices/0", -1),
        ("split_type/0", 1),
        ("split_conditions/0", "1"),
        ("split_conditions", []),
        ("categories", [1]),
    ],
)
def test_trees_that_would_lead_astray_are_refused(place: str, value: Any, tmp_path: Path) -> None:
    file = dump_head(fitted(), tmp_path)
    model = json.loads((tmp_path / file).read_bytes())
    smash(model["learner"]["gradient_booster"]["model"]["trees"][3], place, value)
    with pytest.raises(HeadFileError, match=r"make no sense|can't be read"):
        load_head(file, json.dumps(model, separators=(",", ":")).encode())


@pytest.mark.parametrize(
    ("place", "value"),
    [
        ("gradient_booster/name", "gblinear"),
        ("gradient_booster/model/gbtree_model_param/num_trees", "2"),
        ("gradient_booster/model/iteration_indptr", [0, 9999]),
        ("gradient_booster/model/tree_info/0", 5),
        ("gradient_booster/model/trees", []),
        ("learner_model_param/num_class", "3"),
        ("learner_model_param/num_feature", "x"),
        ("objective/name", "multi:softmax"),
        ("objective", None),
    ],
)
def test_another_kind_of_model_is_refused(place: str, value: Any, tmp_path: Path) -> None:
    file = dump_head(fitted(), tmp_path)
    model = json.loads((tmp_path / file).read_bytes())
    smash(model["learner"], place, value)
    with pytest.raises(HeadFileError, match=r"make no sense|can't be read"):
        load_head(file, json.dumps(model, separators=(",", ":")).encode())


def test_one_run_serves_all_candidates() -> None:
    candidates = XGBOOST.candidates(25_600)
    assert runs_of(candidates) == [[3, 2, 1, 0]]
    assert 25_600 * candidates[0]["colsample_bytree"] == pytest.approx(64)
    assert XGBOOST.candidates(40)[0]["colsample_bytree"] == 1


def test_settings_from_before_bins_were_one_of_them_are_fitted_with_64() -> None:
    X, y = clusters(200, 12, distance=1.0)
    old = {"max_depth": 2, "learning_rate": 0.1, "colsample_bytree": 0.5, "n_estimators": 20}
    said = old | {"max_bin": 64}
    expected, found, coarse = (
        score(XGBOOST.fit(settings, X, y, seed=0, jobs=1), X)
        for settings in (said, old, said | {"max_bin": 4})
    )
    np.testing.assert_array_equal(found, expected)
    assert np.abs(coarse - expected).max() > 0.1
