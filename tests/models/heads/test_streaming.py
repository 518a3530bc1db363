from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import features.cache.rows
from benchmarks.big import draw
from features.cache.rows import Rows
from models.heads.base import HEADS, Head, fit, score
from models.heads.blockwise import Task, fit_together, moments_of
from models.heads.boosting import boost
from models.heads.files import dump_head, load_head
from models.heads.fold import Fold, whole
from models.heads.nystroem import NYSTROEM
from models.heads.refitting import refit
from models.heads.streaming import CannotStream
from models.heads.streaming_trees import BinnedParts, PartsOnDisk
from models.machine import allowance, available, needed_at_once
from models.training.comparison import SVM_LIMIT, compare_heads
from models.training.folds import make_folds
from models.training.tuning import tune, tune_each
from tests.conftest import ROOT
from tests.models.clusters import clusters, features_of

N, D = 900, 30


@pytest.fixture(autouse=True)
def tiny_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Forty-one rows of the embeddings at a time, so that none of the parts is a whole number."""
    monkeypatch.setattr(features.cache.rows, "BLOCK_BYTES", 4 * D * 41)


def data(distance: float = 1.5) -> tuple[np.ndarray, np.ndarray]:
    X, y = clusters(N, D, distance=distance)
    return X.astype(np.float16).astype(np.float32), y


def both(folds: int = 3) -> tuple[list[Fold], list[Fold], np.ndarray]:
    X, y = data()
    rows = Rows(X.astype(np.float16))
    found = [make_folds(each, y, np.arange(N), folds=folds, seed=0) for each in (X, rows)]
    return found[0], found[1], y


def small_nystroem(landmarks: int = 150) -> Head:
    def candidates(d: int) -> list[dict[str, float]]:
        return [each | {"n_components": landmarks} for each in NYSTROEM.candidates(d)]

    return replace(NYSTROEM, candidates=candidates)


def test_moments_are_the_scalers() -> None:
    X, y = data()
    X[:, 3] = 5
    X[:, 4] += 1000
    every, some = np.ones(N, bool), y == 1
    for mask, found in zip((every, some), moments_of(Rows(X), [every, some]), strict=True):
        expected = StandardScaler().fit(X[mask].astype(np.float64))
        assert found.n == mask.sum()
        np.testing.assert_allclose(found.mean, expected.mean_, rtol=1e-6, atol=1e-6)
        np.testing.assert_allclose(found.scale, expected.scale_, rtol=1e-4)


@pytest.mark.parametrize("C", [1e-4, 1e-2, 1.0])
def test_logistic_regression_by_blocks_is_scikit_learns(C: float) -> None:
    X, y = data()
    exact = make_pipeline(StandardScaler(), LogisticRegression(C=C, tol=1e-10, max_iter=10_000))
    exact.fit(X.astype(np.float64), y)
    head = HEADS["logistic_regression"]
    rows = Rows(X.astype(np.float16))
    found = refit(head, {"C": C}, whole(rows), y, seed=0, jobs=1)
    expected = exact[-1].coef_[0]
    np.testing.assert_allclose(
        found["classify"].coef_[0], expected, atol=3e-3 * np.abs(expected).max()
    )
    scores = exact.decision_function(X.astype(np.float64))
    np.testing.assert_allclose(score(found, rows), scores, atol=3e-3 * scores.std())


def test_fits_do_not_influence_each_other() -> None:
    X, y = data()
    rows, masks = Rows(X), [np.ones(N, bool), np.arange(N) % 3 > 0]
    ys = [y, (X[:, 0] > 0).astype(np.int8)]
    tasks = [Task(split, label, C) for split in (0, 1) for label in (0, 1) for C in (1e-3, 1.0)]
    moments = moments_of(rows, masks)
    together = fit_together(rows, masks, ys, tasks, moments=moments)
    for task, found in zip(tasks, together, strict=True):
        alone = fit_together(rows, masks, ys, [task], moments=moments)[0]
        size = np.abs(alone.weights).max()
        np.testing.assert_allclose(found.weights, alone.weights, atol=3e-3 * size)


@pytest.mark.parametrize("name", ["logistic_regression", "xgboost"])
def test_blocks_give_what_memory_gives(name: str) -> None:
    dense, streamed, y = both()
    expected, found = (tune(HEADS[name], folds, y, jobs=1) for folds in (dense, streamed))
    assert found.settings == expected.settings
    for one, other in zip(found.candidates, expected.candidates, strict=True):
        assert one.auc == pytest.approx(other.auc, abs=1e-3)
    np.testing.assert_allclose(found.scores, expected.scores, atol=5e-3 * expected.scores.std())


@pytest.mark.parametrize("name", ["logistic_regression", "xgboost", "svm"])
def test_the_rows_that_are_judged_have_no_part_in_the_fit(name: str) -> None:
    _, streamed, y = both(2)
    head = small_nystroem(60) if name == "svm" else HEADS[name]
    chosen = head.candidates(D)[-1]
    before = tune(head, streamed, y, candidates=[chosen], jobs=1).scores
    test = streamed[0].test
    flipped = y.copy()
    flipped[test] = 1 - flipped[test]
    after = tune(head, streamed, flipped, candidates=[chosen], jobs=1).scores
    np.testing.assert_allclose(after[test], before[test], atol=2e-3 * before.std())


def test_several_sets_of_labels_share_the_passes() -> None:
    _, streamed, y = both(2)
    other = np.roll(y, 1)
    for head in (HEADS["logistic_regression"], HEADS["xgboost"], small_nystroem(60)):
        chosen = [head.candidates(D)[2]]
        pair = tune_each(head, streamed, [y, other], candidates=chosen, jobs=1)
        for labels, found in zip((y, other), pair, strict=True):
            alone = tune(head, streamed, labels, candidates=chosen, jobs=1).scores
            np.testing.assert_allclose(found.scores, alone, atol=5e-3 * alone.std())


def test_the_approximate_svm_is_near_the_exact_one() -> None:
    dense, streamed, y = both(2)
    exact = tune(HEADS["svm"], dense, y, jobs=1)
    near = tune(small_nystroem(), streamed, y, jobs=1)
    best = [max(each.auc for each in found.candidates) for found in (exact, near)]
    assert best[1] == pytest.approx(best[0], abs=0.02)
    assert np.corrcoef(exact.scores, near.scores)[0, 1] > 0.9


def test_the_approximate_svm_is_what_scikit_learn_fits_of_the_same_parts() -> None:
    X, y = data()
    head, chosen = small_nystroem(), {"C": 0.1, "gamma": 0.3 / D, "n_components": 150}
    found = refit(head, chosen, whole(X), y, seed=0, jobs=1)
    # Other landmarks, so not the same machine.
    expected = fit(head, chosen, X, y, seed=0, jobs=1)
    areas = [roc_auc_score(y, score(each, X)) for each in (found, expected)]
    assert areas[0] == pytest.approx(areas[1], abs=0.01)
    scaled = found["scale"].transform(X.astype(np.float64))
    refitted = expected["classify"].fit(found["describe"].transform(scaled), y)
    own = refitted.decision_function(found["describe"].transform(scaled))
    np.testing.assert_allclose(score(found, X), own, atol=0.02 * own.std())


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
    assert any(tmp_path.glob("part-*")) is external
    head = HEADS["xgboost"]
    chosen = {"max_depth": 2, "learning_rate": 0.1, "colsample_bytree": 0.2, "n_estimators": 12}
    parameters = head.make(chosen, 3).get_xgb_params()
    booster = boost(binned, y, parameters, 12, jobs=1)
    found = booster.inplace_predict(X, predict_type="margin")
    expected = score(fit(head, chosen, X, y, seed=3, jobs=1), X)
    np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize("name", ["logistic_regression", "xgboost", "svm"])
def test_heads_fitted_by_blocks_are_kept_like_others(tmp_path: Path, name: str) -> None:
    X, y = data()
    head = small_nystroem(60) if name == "svm" else HEADS[name]
    fitted = refit(head, head.candidates(D)[0], whole(Rows(X)), y, seed=0, jobs=1)
    file = dump_head(fitted, tmp_path)
    loaded = load_head(file, (tmp_path / file).read_bytes())
    assert loaded.n_features_in_ == D
    assert loaded.classes_.tolist() == [0, 1]
    np.testing.assert_allclose(score(loaded, X), score(fitted, X), rtol=1e-6)


def test_a_head_that_knows_no_blocks_says_so() -> None:
    _, streamed, y = both()
    own = Head("own", "My head", lambda _: [{}], lambda settings, seed: None)
    with pytest.raises(CannotStream, match="My head needs all embeddings in memory"):
        tune(own, streamed, y, jobs=1)


def test_too_little_memory_means_blocks_and_the_comparison_says_so(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(features.cache.rows, "BLOCK_BYTES", 4 * D * 200)
    X, y = data()
    split = np.where(np.arange(N) % 5 == 0, "test", "train").tolist()
    given = features_of(X, np.where(y == 1, "melanoma", "nevus"), split=split)
    heads = ["logistic_regression", "xgboost"]
    known = {
        "logistic_regression": {"C": 0.01},
        "xgboost": HEADS["xgboost"].candidates(D)[0] | {"n_estimators": 10},
    }
    plenty, little = (
        compare_heads(given, heads=heads, folds=2, jobs=1, memory=memory, settings=known)
        for memory in (2**33, 10_000)
    )
    assert any("block by block" in note for note in little.notes)
    assert not any("block by block" in note for note in plenty.notes)
    for name in heads:
        for part in ("cross-validation", "test"):
            one, other = (found.heads[name].evaluations[part].auc for found in (plenty, little))
            assert one is not None
            assert other is not None
            assert one.value == pytest.approx(other.value, abs=2e-3)


@pytest.mark.slow
def test_beyond_the_limit_the_svm_is_approximated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    X, y = clusters(SVM_LIMIT + 200, 16, distance=2.0)
    given = features_of(X, np.where(y == 1, "melanoma", "nevus"))
    found = compare_heads(given, heads=["svm"], folds=2, jobs=-1)
    assert found.best.title == "SVM (RBF, Nyström approximation)"
    assert any("Nyström" in note for note in found.notes)
    auc = found.best.evaluations["cross-validation"].auc
    assert auc is not None
    assert auc.value > 0.85


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


def test_memory_is_what_is_left() -> None:
    assert 0 < available() <= allowance() * 1.5
    assert allowance(1e6) > 0.9e6 * 2**30
    assert allowance(1e-9) == 1
    assert needed_at_once(1000, 100, folds=5, threads=4) > 4 * 1000 * 100 * 5


@pytest.fixture
def large(tmp_path: Path) -> Iterator[Path]:
    path = tmp_path / "features.h5"
    draw(path, 60_000, 2048)
    yield path
    path.unlink()


FIT = """
import resource, sys
from fit_classifier import main
limit = int(sys.argv.pop(1)) * 2**20
resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
main()
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="other systems don't limit memory")
@pytest.mark.parametrize("head", ["logistic_regression", "xgboost"])
def test_a_limit_that_float32_would_break_is_kept(tmp_path: Path, large: Path, head: str) -> None:
    """60,000 x 2,048 are 470 MiB as float32, and tuning on them at once takes 4 GiB."""
    words = ["1800", large, "--out", tmp_path / "bundle", "--heads", head, "--folds", 2]
    found = subprocess.run(
        [sys.executable, "-c", FIT, *map(str, words), "--groups", "none", "--jobs", "2"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=1800,
        check=False,
    )
    assert found.returncode == 0, found.stderr
    assert "block by block" in found.stdout
