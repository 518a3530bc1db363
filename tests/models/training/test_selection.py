"""What groups from outside and `on_leak` do to the selection."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from features.audit.groups import groups_text
from features.cache.contents import Features, write_features
from fit_classifier import main
from models.errors import TrainingError
from models.training.selection import Selection, select
from tests.models.data.cached import cluster_features
from tests.models.data.clusters import features_of

N = 40


def made(group: str | list[str] = "") -> Features:
    rng = np.random.default_rng(0)
    X = rng.normal(size=(N, 8)).astype(np.float32)
    label = ["melanoma" if place % 4 == 0 else "nevus" for place in range(N)]
    split = ["valid" if place >= 30 else "train" for place in range(N)]
    return features_of(X, label, split=split, group=group)


def named(**groups: list[int]) -> np.ndarray:
    found = np.full(N, "", "U9")
    for name, places in groups.items():
        found[places] = name
    return found


def chosen(features: Features, groups: np.ndarray | None, on_leak: str = "drop") -> Selection:
    return select(features, positive="melanoma", folds=3, groups=groups, on_leak=on_leak)


LEAK = {"leak": [1, 2, 31], "pair": [5, 6]}


def test_members_of_a_group_across_splits_are_not_trained_on() -> None:
    found = chosen(made(), named(**LEAK))
    paths = found.parts["train"].items.path.tolist()
    assert len(paths) == 28
    assert not {"1.jpg", "2.jpg"} & set(paths)
    assert "31.jpg" in found.parts["valid"].items.path
    (note,) = [note for note in found.notes if "left out" in note]
    assert note.startswith("2 training images left out because")
    assert "such as 1.jpg" in note
    groups = found.parts["train"].groups
    assert groups[paths.index("5.jpg")] == groups[paths.index("6.jpg")]
    assert len(set(groups.tolist())) == 27


def test_group_trains_on_them_in_one_fold_and_says_so() -> None:
    found = chosen(made(), named(**LEAK), "group")
    train = found.parts["train"]
    paths = train.items.path.tolist()
    assert len(paths) == 30
    assert train.groups[paths.index("1.jpg")] == train.groups[paths.index("2.jpg")]
    (note,) = [note for note in found.notes if "too good" in note]
    assert note.startswith("2 training images trained on although")
    assert "by 1 image that the heads have seen" in note


def test_ignore_keeps_nothing_together_and_says_so() -> None:
    found = chosen(made(), named(**LEAK), "ignore")
    train = found.parts["train"]
    assert len(train.y) == len(set(train.groups.tolist())) == 30
    assert any("too good" in note for note in found.notes)
    assert any("not kept in one fold" in note for note in found.notes)


def test_found_groups_are_joined_with_those_of_the_file() -> None:
    group = [""] * N
    group[2] = group[9] = "patient 7"
    found = chosen(made(group), named(leak=[2, 31]))
    assert not {"2.jpg", "9.jpg"} & set(found.parts["train"].items.path.tolist())


def test_names_of_one_grouping_do_not_mix_with_those_of_another() -> None:
    group = [""] * N
    group[2] = "same"
    found = chosen(made(group), named(same=[3, 31]))
    assert "2.jpg" in found.parts["train"].items.path
    assert "3.jpg" not in found.parts["train"].items.path


def test_without_leaks_every_choice_is_the_same() -> None:
    for on_leak in ("drop", "group", "ignore"):
        assert len(chosen(made(), None, on_leak).parts["train"].y) == 30


def relabelled(names: dict[str, str]) -> Features:
    found = made()
    label = [
        names.get(name, name) if split == "valid" else name
        for name, split in zip(found.items.label, found.items.split, strict=True)
    ]
    return replace(found, items=replace(found.items, label=np.array(label)))


def test_a_split_in_other_words_than_training_is_refused() -> None:
    with pytest.raises(TrainingError) as caught:
        chosen(relabelled({"melanoma": "target", "nevus": "not target"}), None)
    told = str(caught.value)
    assert "no image of the validation split is labelled 'melanoma'" in told
    assert "'not target' (8), 'target' (2)" in told
    assert "--merge" in told


def test_a_class_that_training_lacks_is_told() -> None:
    found = chosen(relabelled({"nevus": "bcc"}), None)
    assert any("training lacks count as not melanoma" in note for note in found.notes)
    assert any("'bcc' (8)" in note for note in found.notes)
    # Another spelling is the same class.
    same = chosen(relabelled({"nevus": "NV", "melanoma": "mel"}), None)
    assert not any("lacks" in note for note in same.notes)


def test_fit_classifier_uses_the_table_beside_the_file(tmp_path: Path) -> None:
    features = cluster_features()
    cache = tmp_path / "features.h5"
    write_features(cache, features)
    split = features.items.split
    leak = [int(np.flatnonzero(split == name)[0]) for name in ("train", "test")]
    group = ["leak" if place in leak else "" for place in range(len(split))]
    (tmp_path / "features.groups.csv").write_text(groups_text(features.items, group))

    def fitted(name: str, *words: str) -> str:
        done = CliRunner().invoke(
            main,
            [str(cache), "--out", str(tmp_path / name), "--heads", "logistic_regression",
             "--folds", "3", "--jobs", "1", *words],
        )  # fmt: skip
        assert done.exit_code == 0, done.output
        return done.output

    told = fitted("drop")
    assert "1 training image left out because" in told
    assert "2 images belong together with others by" in told
    assert "too good, by 1 image" in fitted("group", "--on-leak", "group")
    without = fitted("none", "--groups", "none")
    assert "left out because" not in without
    assert "belong together with others by" not in without
