"""What was searched before is found again, and only that."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from models.bundle.gallery import GALLERY
from models.bundle.saving import BundleOptions
from models.heads import HEADS
from models.heads.base import Head, score
from models.heads.folds.fold import Fold
from models.report.publishing import publish_bundle
from models.results_cache import Kept
from models.training.comparison import compare_heads
from models.training.folds import make_folds
from models.training.options import Options
from models.training.tuning import Reuse, Tuned, tune
from tests.models.data.cached import with_images
from tests.models.data.clusters import clusters, features_of

X, Y = clusters(120, 20)
HEAD = HEADS["logistic_regression"]


def folds_of(X: np.ndarray, seed: int = 0) -> list[Fold]:
    return make_folds(X, Y, np.arange(len(X)), folds=3, seed=seed)


class Counting:
    """Makes the head's estimators and counts them."""

    def __init__(self) -> None:
        self.made: list[dict[str, float]] = []
        self.head = Head("counted", "Counted", HEAD.candidates, self.make)

    def make(self, settings: dict[str, float], seed: int) -> object:
        self.made.append(settings)
        return HEAD.make(settings, seed)


def searched(counting: Counting, reuse: Reuse, strengths: list[float], seed: int = 0) -> Tuned:
    return tune(
        counting.head, folds_of(X), Y, candidates=[{"C": C} for C in strengths],
        seed=seed, jobs=1, reuse=reuse,
    )  # fmt: skip


def test_a_second_search_computes_nothing_and_finds_the_same(tmp_path: Path) -> None:
    counting = Counting()
    first = searched(counting, Reuse(folds_of(X), Y, kept=Kept(folder=tmp_path)), [0.01, 1.0])
    assert len(counting.made) == 6
    again = searched(counting, Reuse(folds_of(X), Y, kept=Kept(folder=tmp_path)), [0.01, 1.0])
    assert len(counting.made) == 6
    np.testing.assert_array_equal(first.scores, again.scores)
    assert first.candidates == again.candidates


def test_one_candidate_more_is_all_that_is_computed(tmp_path: Path) -> None:
    counting, reuse = Counting(), Reuse(folds_of(X), Y, kept=Kept(folder=tmp_path))
    searched(counting, reuse, [0.01, 1.0])
    counting.made.clear()
    more = searched(counting, reuse, [0.01, 0.1, 1.0])
    assert counting.made == [{"C": 0.1}] * 3
    fresh = searched(
        Counting(), Reuse(folds_of(X), Y, kept=Kept(folder=tmp_path / "new")), [0.01, 0.1, 1.0]
    )
    assert more.candidates == fresh.candidates


def test_other_data_labels_folds_seeds_and_settings_are_not_mixed_up(tmp_path: Path) -> None:
    scores = np.arange(120.0)
    Reuse(folds_of(X), Y, kept=Kept(folder=tmp_path)).keep(HEAD, {"C": 1.0}, 0, scores)
    altered = X.copy()
    altered[3, 4] += 1e-6
    for folds, y in (
        (folds_of(altered), Y),
        (folds_of(X), 1 - Y),
        (folds_of(X, seed=1), Y),
    ):
        assert Reuse(folds, y, kept=Kept(folder=tmp_path)).recall(HEAD, {"C": 1.0}, 0) is None
    same = Reuse(folds_of(X), Y, kept=Kept(folder=tmp_path))
    assert same.recall(HEAD, {"C": 2.0}, 0) is None
    assert same.recall(HEAD, {"C": 1.0}, 1) is None
    assert same.recall(HEADS["svm"], {"C": 1.0}, 0) is None
    np.testing.assert_array_equal(same.recall(HEAD, {"C": 1.0}, 0), scores)


@pytest.mark.parametrize("part", [0.0, 0.1, 0.5, 0.9, 0.999])
def test_whatever_is_damaged_is_computed_again(tmp_path: Path, part: float) -> None:
    reuse = Reuse(folds_of(X), Y, kept=Kept(folder=tmp_path))
    reuse.keep(HEAD, {"C": 1.0}, 0, np.arange(120.0))
    (path,) = tmp_path.iterdir()
    data = bytearray(path.read_bytes())
    sound = bytes(data)
    data[int(part * len(data))] ^= 0xFF
    for damaged in (bytes(data), sound[: int(part * len(sound))], b""):
        path.write_bytes(damaged)
        found = reuse.recall(HEAD, {"C": 1.0}, 0)
        # A byte that means nothing may differ; a number never.
        assert found is None or found.tolist() == np.arange(120.0).tolist()


def test_scores_of_something_else_under_the_same_name_are_refused(tmp_path: Path) -> None:
    reuse = Reuse(folds_of(X), Y, kept=Kept(folder=tmp_path))
    reuse.keep(HEAD, {"C": 1.0}, 0, np.arange(120.0))
    (first,) = tmp_path.iterdir()
    kept = first.read_bytes()
    first.unlink()
    reuse.keep(HEAD, {"C": 2.0}, 0, np.zeros(120))
    (second,) = tmp_path.iterdir()
    second.write_bytes(kept)
    assert reuse.recall(HEAD, {"C": 2.0}, 0) is None


def test_a_pickle_in_the_folder_is_not_opened(tmp_path: Path) -> None:
    reuse = Reuse(folds_of(X), Y, kept=Kept(folder=tmp_path))
    reuse.keep(HEAD, {"C": 1.0}, 0, np.arange(120.0))
    (path,) = tmp_path.iterdir()
    with path.open("wb") as file:
        np.savez(file, about=np.array([object()]), scores=np.array([object()]))
    assert reuse.recall(HEAD, {"C": 1.0}, 0) is None


def test_the_folder_stays_below_its_limit_and_keeps_what_was_used_last(tmp_path: Path) -> None:
    reuse = Reuse(folds_of(X), Y, kept=Kept(folder=tmp_path, limit=5000))
    for place in range(20):
        reuse.keep(HEAD, {"C": float(place + 1)}, 0, np.arange(120.0))
        for age, path in enumerate(sorted(tmp_path.iterdir(), key=os.path.getmtime)):
            os.utime(path, (age, age))
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) <= 5000
    assert reuse.recall(HEAD, {"C": 20.0}, 0) is not None
    assert reuse.recall(HEAD, {"C": 1.0}, 0) is None


def test_a_folder_that_cannot_be_made_is_done_without(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    reuse = Reuse(folds_of(X), Y, kept=Kept(folder=tmp_path / "file" / "searches"))
    reuse.keep(HEAD, {"C": 1.0}, 0, np.arange(120.0))
    assert reuse.recall(HEAD, {"C": 1.0}, 0) is None


def test_an_estimator_whose_code_may_have_changed_is_not_reused(tmp_path: Path) -> None:
    own = Head("own.Model", "Model", HEAD.candidates, HEAD.make, reusable=False)
    reuse = Reuse(folds_of(X), Y, kept=Kept(folder=tmp_path))
    reuse.keep(own, {"C": 1.0}, 0, np.arange(120.0))
    assert reuse.recall(own, {"C": 1.0}, 0) is None
    assert not list(tmp_path.iterdir())


def test_a_comparison_from_what_was_kept_is_the_same_in_every_digit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LESION_CACHE", str(tmp_path))
    features = features_of(X, np.where(Y, "melanoma", "naevus"))
    heads = ["logistic_regression", "svm"]
    fresh, filled, again = (
        compare_heads(features, Options(heads=heads, folds=3, jobs=2, reuse=reuse))
        for reuse in (False, True, True)
    )
    assert len(list((tmp_path / "searches").iterdir())) == 7 + 16 + len(heads)
    for name in heads:
        for other in (filled, again):
            mine, theirs = fresh.heads[name].as_dict(), other.heads[name].as_dict()
            assert mine | {"seconds": 0} == theirs | {"seconds": 0}
            np.testing.assert_array_equal(
                score(fresh.heads[name].estimator, X), score(other.heads[name].estimator, X)
            )


def test_a_bundle_from_what_was_kept_is_the_same_and_no_picture_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LESION_CACHE", str(tmp_path / "cache"))
    features = with_images(tmp_path / "images", features_of(*named_clusters()))
    comparison = compare_heads(features, Options(heads=["logistic_regression"], folds=3, jobs=1))
    folders = [tmp_path / name for name in ("fresh", "filled", "again")]
    publish_bundle(folders[0], comparison, features)
    publish_bundle(folders[1], comparison, features, BundleOptions(reuse=True))
    kept = list((tmp_path / "cache" / "searches").iterdir())
    names = sorted(sorted(np.load(path).files) for path in kept)
    assert names == [["about", "axes", "limit", "places"], ["about", "method", "points"]]

    def never(*_: object, **__: object) -> None:
        raise AssertionError("computed again")

    for name in (
        "models.bundle.familiarity.randomized_svd",
        "models.report.embedding_map.randomized_svd",
    ):
        monkeypatch.setattr(name, never)
    publish_bundle(folders[2], comparison, features, BundleOptions(reuse=True))
    fresh, filled, again = ((folder / GALLERY).read_bytes() for folder in folders)
    assert fresh == filled == again
    assert b"\xff\xd8\xff" in fresh
    # Another image among them, and all is computed anew.
    fewer = replace(features, items=features.items.take(np.arange(len(features.items)) > 0))
    with pytest.raises(AssertionError, match="computed again"):
        publish_bundle(
            tmp_path / "other",
            compare_heads(fewer, Options(heads=["logistic_regression"], folds=3, jobs=1)),
            fewer,
            BundleOptions(reuse=True),
        )


def named_clusters() -> tuple[np.ndarray, np.ndarray]:
    X, y = clusters(70, 20)
    return X, np.where(y, "melanoma", "naevus")
