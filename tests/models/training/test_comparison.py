from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from features.cache.contents import Features
from features.errors import LesionError
from models.decisions.calibrators import Calibration
from models.decisions.thresholds import Threshold
from models.evaluation.roc import compare_auc
from models.heads import HEADS
from models.heads.base import score
from models.heads.ensemble import ENSEMBLE
from models.heads.svm import SVM_LIMIT
from models.training.comparison import compare_heads
from models.training.options import Options
from models.training.results import Comparison
from tests.models.data.clusters import clusters, features_of

QUICK = ["logistic_regression"]


def named(y: np.ndarray) -> np.ndarray:
    return np.where(y == 1, "melanoma", "nevus")


def some(n: int = 200, *, splits: bool = True, distance: float = 2.0, seed: int = 0) -> Features:
    X, y = clusters(n, 32, distance=distance, seed=seed)
    places = np.arange(n) / n
    split = np.where(places < 0.6, "train", np.where(places < 0.8, "valid", "test"))
    return features_of(X, named(y), split=split.tolist() if splits else "train")


@pytest.fixture(scope="module")
def comparison() -> Comparison:
    return compare_heads(some())


def relabelled(features: Features, **columns: Any) -> Features:
    return replace(features, items=replace(features.items, **columns))


def told(found: Comparison, *words: str) -> bool:
    return any(all(word in note for word in words) for note in found.notes)


def without_times(found: Comparison) -> dict[str, Any]:
    values = found.as_dict()
    for head in values["heads"].values():
        assert head.pop("seconds") > 0
    return values


def test_all_heads_are_judged_on_every_split(comparison: Comparison) -> None:
    assert list(comparison.heads) == [*HEADS, ENSEMBLE]
    assert comparison.labels == ("nevus", "melanoma")
    for name, head in comparison.heads.items():
        assert head.name == name
        assert list(head.evaluations) == ["cross-validation", "valid", "test"]
        for split, n in (("cross-validation", 120), ("valid", 40), ("test", 40)):
            found = head.evaluations[split]
            assert found.split == split
            assert found.n == n == len(found.labels) == len(found.scores)
            assert found.positives == found.labels.sum()
            assert found.auc is not None
            assert found.auc.value > 0.75
            assert found.operating_point.threshold == head.decision.threshold
            assert ((found.probabilities > 0) & (found.probabilities < 1)).all()
    assert sum(comparison.counts["train"].values()) == 120
    assert comparison.counts["test"]["melanoma"] == int(
        comparison.best.evaluations["test"].labels.sum()
    )


def test_the_comparison_is_json(comparison: Comparison) -> None:
    values = json.loads(json.dumps(comparison.as_dict(), allow_nan=False))
    assert values["labels"] == {"negative": "nevus", "positive": "melanoma"}
    assert values["marks"] == ["untrained"]
    assert values["fingerprint"] == comparison.fingerprint
    for name, head in values["heads"].items():
        assert len(head["candidates"]) == (
            1 if name == ENSEMBLE else len(HEADS[name].candidates(32))
        )
        assert head["settings"] in [candidate["settings"] for candidate in head["candidates"]]
        calibration = Calibration.from_dict(head["calibration"])
        assert calibration == comparison.heads[name].decision.calibration
        roc = head["evaluations"]["test"]["roc"]
        assert (roc["fpr"][0], roc["tpr"][0], roc["fpr"][-1], roc["tpr"][-1]) == (0, 0, 1, 1)


def test_the_estimator_gives_the_scores_that_were_judged(comparison: Comparison) -> None:
    features = some()
    valid = features.items.take(features.items.split == "valid")
    for head in comparison.heads.values():
        scores = score(head.estimator, features.embedded(valid))
        np.testing.assert_array_equal(scores, head.evaluations["valid"].scores)
        np.testing.assert_array_equal(
            head.decision.calibration.apply(scores), head.evaluations["valid"].probabilities
        )


def test_the_best_in_cross_validation_is_chosen(comparison: Comparison) -> None:
    areas = {
        name: head.evaluations["cross-validation"].auc for name, head in comparison.heads.items()
    }
    assert comparison.chosen == max(areas, key=lambda name: areas[name].value)  # type: ignore[union-attr]
    assert comparison.best is comparison.heads[comparison.chosen]
    assert "cross-validated" in comparison.chosen_by


def test_only_in_cross_validation_do_other_training_images_count(comparison: Comparison) -> None:
    for test in comparison.tests:
        one, other = (
            next(head for head in comparison.heads.values() if head.title == title)
            for title in (test.first, test.second)
        )
        folds = comparison.folds if test.split == "cross-validation" else None
        judged = one.evaluations[test.split]
        expected = compare_auc(
            judged.labels, judged.scores, other.evaluations[test.split].scores, folds=folds
        )
        assert (test.auc, test.p) == (expected.difference, expected.p)
    assert {test.split for test in comparison.tests} == {"cross-validation", "valid", "test"}


def test_validation_and_test_labels_decide_nothing(comparison: Comparison) -> None:
    features = some()
    judged = features.items.split != "train"
    label = features.items.label.copy()
    label[judged] = np.where(label[judged] == "melanoma", "nevus", "melanoma")
    other = compare_heads(relabelled(features, label=label))
    assert other.chosen == comparison.chosen
    for name, head in other.heads.items():
        before = comparison.heads[name]
        assert (head.settings, head.decision) == (before.settings, before.decision)
        assert head.evaluations["test"].auc.value < 0.3  # type: ignore[union-attr]


def test_the_same_seed_gives_the_same_comparison(comparison: Comparison) -> None:
    assert without_times(compare_heads(some())) == without_times(comparison)


def test_heads_side_by_side_are_what_each_is_alone(comparison: Comparison) -> None:
    together = without_times(compare_heads(some(), Options(jobs=2)))["heads"]
    for name in HEADS:
        alone = without_times(compare_heads(some(), Options(heads=[name], jobs=2)))["heads"][name]
        assert alone == together[name]


def test_another_seed_gives_other_folds(comparison: Comparison) -> None:
    other = compare_heads(some(), Options(heads=QUICK, seed=1)).heads[QUICK[0]]
    before = comparison.heads[QUICK[0]]
    assert not np.array_equal(
        other.evaluations["cross-validation"].scores, before.evaluations["cross-validation"].scores
    )


def test_noise_is_not_learnt() -> None:
    rng = np.random.default_rng(0)
    X = rng.normal(size=(160, 20)).astype(np.float32)
    found = compare_heads(features_of(X, named(rng.permutation(np.arange(160) % 4 == 0))))
    for head in found.heads.values():
        auc = head.evaluations["cross-validation"].auc
        assert auc is not None
        assert auc.low < 0.6
    assert told(found, "can't be told apart") or told(found, "no better than chance")


def test_groups_do_not_straddle_folds() -> None:
    # Ten near copies of each of thirty noise images: remembering copies looks like learning.
    rng = np.random.default_rng(0)
    place = np.repeat(np.arange(30), 10)
    X = (rng.normal(size=(30, 32))[place] + 0.01 * rng.normal(size=(300, 32))).astype(np.float32)
    label = named(place % 2)
    group = [f"lesion {number}" for number in place]
    fooled, honest = (
        compare_heads(features_of(X, label, group=given), Options(heads=["svm"])).best
        for given in ("", group)
    )
    assert fooled.evaluations["cross-validation"].auc.value > 0.99  # type: ignore[union-attr]
    assert honest.evaluations["cross-validation"].auc.value < 0.75  # type: ignore[union-attr]


def test_without_splits_everything_is_cross_validated() -> None:
    features = some(splits=False)
    for split in ("", "train"):
        found = compare_heads(
            relabelled(features, split=np.array([split] * 200)), Options(heads=QUICK)
        )
        assert list(found.best.evaluations) == ["cross-validation"]
        assert found.best.evaluations["cross-validation"].n == 200
        assert told(found, "no validation and no test split")


def test_images_that_occur_twice_are_used_once() -> None:
    features = some(100, splits=False)
    row = np.concatenate([np.arange(100), np.arange(10)])
    doubled = features_of(
        features.embeddings, np.append(features.items.label, features.items.label[:10]), row=row
    )
    found = compare_heads(doubled, Options(heads=QUICK))
    assert found.best.evaluations["cross-validation"].n == 100
    assert told(found, "10 repeated images", "training")
    np.testing.assert_array_equal(
        found.best.evaluations["cross-validation"].scores,
        compare_heads(features, Options(heads=QUICK)).best.evaluations["cross-validation"].scores,
    )


def test_contradicting_labels_are_left_out() -> None:
    features = some(100, splits=False)
    label = features.items.label
    against = np.where(label[:3] == "melanoma", "nevus", "melanoma")
    row = np.concatenate([np.arange(100), np.arange(3)])
    found = compare_heads(
        features_of(features.embeddings, np.append(label, against), row=row), Options(heads=QUICK)
    )
    assert found.best.evaluations["cross-validation"].n == 97
    assert told(found, "3 images", "contradicting labels", "0.jpg")


def test_images_of_the_judged_splits_are_not_trained_on() -> None:
    features = some(200)
    row = features.items.row.copy()
    row[:4] = row[120:124]  # train repeats valid
    group = np.array([""] * 200, dtype="<U9")
    group[[10, 11, 190]] = "patient 1"  # two in train, one in test
    group[[20, 21]] = "patient 2"  # train only
    found = compare_heads(relabelled(features, row=row, group=group), Options(heads=QUICK))
    assert found.best.evaluations["cross-validation"].n == 114
    assert found.best.evaluations["valid"].n == 40
    assert told(found, "6 training images left out", "0.jpg")


def test_a_group_reaches_through_repeated_images() -> None:
    features = some(200)
    row, group = features.items.row.copy(), np.array([""] * 200, dtype="<U9")
    row[1] = row[0]
    group[0], group[1], group[2], group[150] = "a", "b", "a", "b"
    found = compare_heads(relabelled(features, row=row, group=group), Options(heads=QUICK))
    # Image 0 is image 1, which is in group b with 150; image 2 is with image 0 in group a.
    assert found.best.evaluations["cross-validation"].n == 117


def test_files_that_are_gone_and_unlabelled_images_are_ignored() -> None:
    features = some(100, splits=False)
    path, label = features.items.path.copy(), features.items.label.copy()
    path[:10], label[90:] = "", ""
    found = compare_heads(relabelled(features, path=path, label=label), Options(heads=QUICK))
    assert found.best.evaluations["cross-validation"].n == 80


def test_many_classes_are_one_against_the_rest() -> None:
    X, y = clusters(150)
    label = np.where(y == 1, "Melanoma", np.where(np.arange(150) % 2, "nevus", "keratosis"))
    found = compare_heads(features_of(X, label), Options(heads=QUICK))
    assert found.labels == ("not Melanoma", "Melanoma")
    assert told(found, "3 classes", "Melanoma, keratosis, nevus")
    assert set(found.counts["train"]) == {"Melanoma", "keratosis", "nevus"}


@pytest.mark.parametrize(
    ("label", "positive", "expected"),
    [
        ("MELANOMA", "melanoma", "MELANOMA"),
        ("mel", "melanoma", "mel"),
        ("MEL", "Melanoma", "MEL"),
        ("ak", "AK", "ak"),
    ],
)
def test_the_positive_class_is_found(label: str, positive: str, expected: str) -> None:
    X, y = clusters(60)
    features = features_of(X, np.where(y == 1, label, "nevus"))
    found = compare_heads(features, Options(heads=QUICK, positive=positive))
    assert found.labels == ("nevus", expected)
    assert found.best.evaluations["cross-validation"].positives == y.sum()


def test_a_split_with_one_class_is_judged_as_far_as_it_goes() -> None:
    features = some(200)
    label = features.items.label.copy()
    label[features.items.split == "test"] = "nevus"
    found = compare_heads(relabelled(features, label=label), Options(heads=QUICK))
    judged = found.best.evaluations["test"]
    assert judged.auc is None
    assert judged.operating_point.sensitivity is None
    assert judged.operating_point.specificity is not None
    assert told(found, "test split has a single class")
    json.dumps(found.as_dict(), allow_nan=False)


def test_a_head_can_be_asked_for() -> None:
    found = compare_heads(some(100), Options(heads=["svm", "logistic_regression"], head="svm"))
    assert list(found.heads) == ["svm", "logistic_regression"]
    assert (found.chosen, found.chosen_by) == ("svm", "asked for")


def test_marks_go_with_the_comparison() -> None:
    features = replace(some(100), synthetic=True)
    assert compare_heads(features, Options(heads=QUICK)).marks == ("untrained", "synthetic")


def test_progress_is_told() -> None:
    lines: list[str] = []
    compare_heads(some(100), Options(heads=QUICK), progress=lines.append)
    assert lines[0] == "Logistic regression: 7 candidates on 5 folds"


def test_another_threshold_rule_can_be_given() -> None:
    found = compare_heads(
        some(100),
        Options(heads=QUICK, rule=lambda labels, probabilities: Threshold(0.5, "0.5, as asked")),
    )
    decision = found.best.decision
    assert (decision.threshold, decision.threshold_rule) == (0.5, "0.5, as asked")


def test_too_many_images_for_the_exact_svm_are_said_to_be() -> None:
    n = SVM_LIMIT + 1
    X = np.random.default_rng(0).normal(size=(n, 2)).astype(np.float32)
    features = features_of(X, named((X[:, 0] > 1).astype(int)))
    known = {"svm": {"C": 0.1, "gamma": 0.1, "n_components": 20}}
    found = compare_heads(features, Options(heads=["svm", *QUICK], folds=2, settings=known))
    assert list(found.heads) == ["svm", *QUICK]
    assert found.heads["svm"].title == "SVM (RBF, Nyström approximation)"
    assert told(found, "SVM is an approximation", "too many training images")


def without_labels(features: Features) -> Features:
    return relabelled(features, label=np.array([""] * len(features.items)))


def one_class(features: Features) -> Features:
    label = features.items.label.copy()
    label[features.items.split == "train"] = "nevus"
    return relabelled(features, label=label)


def few_positives(features: Features) -> Features:
    label = np.array(["nevus"] * len(features.items), dtype="<U8")
    label[[0, 1, 2, 150]] = "melanoma"
    return relabelled(features, label=label)


def few_groups(features: Features) -> Features:
    positive = features.items.label == "melanoma"
    return relabelled(
        features, group=np.where(positive, "one", ""), split=np.array([""] * len(positive))
    )


def only_judged(features: Features) -> Features:
    return relabelled(features, split=np.array(["test"] * len(features.items)))


def infinite(features: Features) -> Features:
    embeddings = features.embeddings.copy()
    embeddings[[3, 5], 7] = np.nan, np.inf
    return replace(features, embeddings=embeddings)


@pytest.mark.parametrize(
    ("change", "options", "message"),
    [
        (without_labels, {}, r"none of the 200 images has a label: .* --labels"),
        (one_class, {}, r"all 120 training images are of one class \('nevus'\)"),
        (few_positives, {}, r"class 'melanoma' has 3 training images, fewer than the 5 folds"),
        (few_groups, {}, r"class 'melanoma' has 1 training groups of images, fewer than the 5"),
        (only_judged, {}, r"no labelled image is left to train on"),
        (infinite, {}, r"embeddings of 2 images are not finite \(such as 3.jpg\)"),
        (None, {"positive": "bcc"}, r"no class is called 'bcc': .*'melanoma', 'nevus'.*--positive"),
        (None, {"heads": ["forest"]}, r"no head is called 'forest': there are logistic_regression"),
        (None, {"head": "forest"}, r"no head is called 'forest'"),
        (None, {"heads": []}, r"no head to train"),
        (None, {"heads": QUICK, "head": "svm"}, r"svm, is not among those to train"),
    ],
)
def test_what_can_not_be_trained_is_refused_in_one_sentence(
    change: Any, options: dict[str, Any], message: str
) -> None:
    features = some() if change is None else change(some())
    with pytest.raises(LesionError, match=message) as refused:
        compare_heads(features, Options(**options))
    assert "\n" not in str(refused.value)
    assert ". " not in str(refused.value)
