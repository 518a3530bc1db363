from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from sklearn.preprocessing import StandardScaler

import features.cache.rows
from benchmarks.fitting.big import draw
from features.cache.rows import Rows
from models.heads import HEADS
from models.heads.base import CannotStream, Head, score
from models.heads.blockwise import Task, fit_together, scores_of
from models.heads.files import dump_head, load_head
from models.heads.folds import columns
from models.heads.folds.blocks import over_blocks
from models.heads.folds.columns import moments_of
from models.heads.folds.fold import whole
from models.training.comparison import compare_heads
from models.training.options import Options
from models.training.tuning import tune, tune_each
from tests.conftest import ROOT
from tests.models.data.blocks import D, N, both, data, small_nystroem
from tests.models.data.clusters import features_of

pytestmark = pytest.mark.usefixtures("tiny_blocks")


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


def test_leading_axes_of_many_columns_lead_to_the_same_fit(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(features.cache.rows, "BLOCK_BYTES", 2**20)
    X, y = data()
    rows, masks, tasks = Rows(X), [np.ones(N, bool)], [Task(0, 0, 0.01)]
    moments = moments_of(rows, masks)
    expected = fit_together(rows, masks, [y], tasks, moments=moments)
    monkeypatch.setattr(columns, "_WIDEST", D - 1)
    monkeypatch.setattr(columns, "_AXES_OF_WIDE", 4)
    assert columns.Basis.of(rows, 0, standardise=True).axes.shape == (D, 4)
    found = fit_together(rows, masks, [y], tasks, moments=moments)
    for one, other in zip(expected, found, strict=True):
        np.testing.assert_allclose(
            one.weights, other.weights, atol=3e-3 * np.abs(one.weights).max()
        )
        assert one.intercept == pytest.approx(other.intercept, abs=3e-3)


def test_blocks_may_be_worked_on_at_the_same_time() -> None:
    X, y = data()
    rows, masks, tasks = Rows(X), [np.ones(N, bool), y == 1], [Task(0, 0, 0.01)]
    alone, together = (moments_of(rows, masks, jobs) for jobs in (1, 3))
    for one, other in zip(alone, together, strict=True):
        np.testing.assert_allclose(one.mean, other.mean, rtol=1e-6)
        np.testing.assert_allclose(one.scale, other.scale, rtol=1e-6)
    fits = [
        fit_together(rows, masks[:1], [y], tasks, moments=alone[:1], jobs=jobs) for jobs in (1, 3)
    ]
    np.testing.assert_allclose(scores_of(rows, fits[0]), scores_of(rows, fits[1], 3), atol=1e-3)


def test_a_failure_in_a_block_is_not_lost() -> None:
    def fail(place: slice, block: np.ndarray) -> int:
        return 1 // (place.start - 41)

    with pytest.raises(ZeroDivisionError):
        list(over_blocks(Rows(data()[0]), fail, 3))


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


@pytest.mark.parametrize("name", ["logistic_regression", "xgboost", "svm"])
def test_heads_fitted_by_blocks_are_kept_like_others(tmp_path: Path, name: str) -> None:
    X, y = data()
    head = small_nystroem(60) if name == "svm" else HEADS[name]
    fitted = head.refit(head.candidates(D)[0], whole(Rows(X)), y, seed=0, jobs=1)
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
        compare_heads(given, Options(heads=heads, folds=2, jobs=1, memory=memory, settings=known))
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


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    path = tmp_path_factory.mktemp("large") / "features.h5"
    draw(path, 12_500, 1024)
    yield path
    path.unlink()


# Blocks are as small beside these embeddings as they are beside those that need them.
FIT = """
import re, resource, sys
from pathlib import Path
import sklearn.pipeline, xgboost
import features.cache.rows
import models.bundle.saving, models.report.html, models.training.representations.matching
from fit_classifier import main
features.cache.rows.BLOCK_BYTES = 4 * 2**20
taken = int(re.search(r"VmData:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) * 2**10
limit = taken + int(sys.argv.pop(1)) * 2**20
resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
main()
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="other systems don't limit memory")
@pytest.mark.parametrize(
    ("head", "settings", "mebibytes"),
    [
        ("logistic_regression", "C=0.00001", 500),
        (
            "xgboost",
            "max_depth=2,learning_rate=0.1,colsample_bytree=0.1,max_bin=16,n_estimators=9",
            320,
        ),
    ],
)
def test_a_limit_that_all_at_once_would_break_is_kept(
    tmp_path: Path, large: Path, head: str, settings: str, mebibytes: int
) -> None:
    """12,500 x 1,024 are 49 MiB as float32; whatever is fitted, report and all take some 220."""
    words = [mebibytes, large, "--out", tmp_path / "bundle", "--heads", head]
    words += ["--settings", settings, "--folds", 2, "--groups", "none", "--jobs", 2, "--no-gallery"]
    found = subprocess.run(
        [sys.executable, "-c", FIT, *map(str, words)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert found.returncode == 0, found.stderr
    assert "block by block" in found.stdout
