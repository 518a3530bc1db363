"""Logistic regression is scikit-learn's, in memory and by blocks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load, save
from scipy.special import expit
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from features.cache.rows import Rows
from models.heads.base import score
from models.heads.files import HeadFileError, dump_head, load_head
from models.heads.folds.fold import Eigenbasis, Fold, whole
from models.heads.logistic import LOGISTIC_REGRESSION, _near
from tests.models.data.blocks import data
from tests.models.data.clusters import clusters

SHAPES = [(150, 24), (90, 160)]


@pytest.mark.parametrize(("n", "d"), SHAPES)
@pytest.mark.parametrize("C", [1e-4, 1e-2, 1.0])
def test_logistic_regression_is_scikit_learns(n: int, d: int, C: float) -> None:
    X, y = clusters(n, d, distance=1.0)
    fitted = LOGISTIC_REGRESSION.refit({"C": C}, whole(X), y, seed=0, jobs=1)
    exact = make_pipeline(StandardScaler(), LogisticRegression(C=C, tol=1e-10, max_iter=10_000))
    expected = exact.fit(X.astype(float), y).decision_function(X.astype(float))
    np.testing.assert_allclose(score(fitted, X), expected, atol=1e-4 * expected.std())
    assert fitted["classify"].warm_start is False


def test_only_fits_for_several_labels_need_the_eigenbasis(monkeypatch: pytest.MonkeyPatch) -> None:
    X, y = clusters(90, 160, distance=1.0)
    made: list[Fold] = []
    rotate = Fold._rotate

    def counted(fold: Fold) -> Eigenbasis:
        made.append(fold)
        return rotate(fold)

    monkeypatch.setattr(Fold, "_rotate", counted)
    data, C = whole(X), 1e-3
    LOGISTIC_REGRESSION.prepare(data, [{"C": C}], seed=0, jobs=1)
    first = LOGISTIC_REGRESSION.refit({"C": C}, data, y, seed=0, jobs=1)
    assert made == []
    again = [LOGISTIC_REGRESSION.refit({"C": C}, data, y.copy(), seed=0, jobs=1) for _ in range(2)]
    assert made == [data]
    for found in again:
        np.testing.assert_allclose(score(found, X), score(first, X), rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("C", [1e3, 1e9])
def test_where_single_precision_is_too_little_it_is_fitted_all_the_same(C: float) -> None:
    X, y = clusters(90, 160, distance=1.0)
    assert C < 1e9 or _near(whole(X).inner_products().gram, y, C) is None
    fitted = LOGISTIC_REGRESSION.refit({"C": C}, whole(X), y, seed=0, jobs=1)
    pulls = C * (y - expit(score(fitted, X)))
    expected = fitted["scale"].transform(X.astype(float)).T @ pulls
    found = fitted["classify"].coef_[0]
    assert abs(pulls.sum()) < 1e-3 * np.abs(pulls).sum()
    np.testing.assert_allclose(found, expected, atol=1e-3 * np.abs(expected).max())


@pytest.mark.usefixtures("tiny_blocks")
@pytest.mark.parametrize("C", [1e-4, 1e-2, 1.0])
def test_logistic_regression_by_blocks_is_scikit_learns(C: float) -> None:
    X, y = data()
    exact = make_pipeline(StandardScaler(), LogisticRegression(C=C, tol=1e-10, max_iter=10_000))
    exact.fit(X.astype(np.float64), y)
    rows = Rows(X.astype(np.float16))
    found = LOGISTIC_REGRESSION.refit({"C": C}, whole(rows), y, seed=0, jobs=1)
    expected = exact[-1].coef_[0]
    np.testing.assert_allclose(
        found["classify"].coef_[0], expected, atol=3e-3 * np.abs(expected).max()
    )
    scores = exact.decision_function(X.astype(np.float64))
    np.testing.assert_allclose(score(found, rows), scores, atol=3e-3 * scores.std())


def test_so_many_candidates_are_tried() -> None:
    assert len(LOGISTIC_REGRESSION.candidates(2048)) == 7


@pytest.mark.parametrize(
    ("n", "d", "blocks"), [(2000, 100_000, False), (25_000, 2048, False), (25_000, 25_600, True)]
)
def test_it_goes_by_blocks_where_the_eigenproblem_is_large(n: int, d: int, blocks: bool) -> None:
    assert LOGISTIC_REGRESSION.by_blocks(np.broadcast_to(np.float32(0), (n, d))) == blocks


@pytest.mark.parametrize(
    "change",
    [
        {"weights": np.zeros(11)},
        {"weights": np.zeros((1, 12))},
        {"weights": np.full(12, np.nan)},
        {"deviation": np.zeros(12)},
        {"mean": np.zeros(12, np.float32)},
        {"intercept": np.zeros(2)},
        {"surplus": np.zeros(1)},
    ],
)
def test_arrays_that_make_no_sense_are_refused(change: dict[str, Any], tmp_path: Path) -> None:
    X, y = clusters(80, 12, distance=1.0)
    file = dump_head(LOGISTIC_REGRESSION.fit({"C": 1.0}, X, y, seed=0, jobs=1), tmp_path)
    assert file == "head.linear.safetensors"
    arrays = load((tmp_path / file).read_bytes())
    with pytest.raises(HeadFileError, match=r"other arrays|no sense"):
        load_head(file, save(arrays | change))


def test_without_an_intercept_it_is_kept_as_it_is(tmp_path: Path) -> None:
    X, y = clusters(80, 12, distance=1.0)
    own = make_pipeline(StandardScaler(), LogisticRegression(fit_intercept=False)).fit(X, y)
    assert dump_head(own, tmp_path) == "head.skops"
