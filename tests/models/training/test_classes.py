"""Several classes, from a feature file to heads, figures and a bundle."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result
from sklearn.metrics import roc_auc_score

import fit_classifier
from features.cache.contents import Features
from features.datasets.folders import find_images
from features.datasets.tables import LabelTable
from models.__main__ import main as models
from models.bundle.loading import load_bundle
from models.bundle.manifest import BundleRefused, seal
from models.heads import HEADS
from models.heads.base import score
from models.heads.ensemble import ENSEMBLE, MEMBERS, Ensemble, Scale
from models.report.publishing import publish_bundle
from models.training.comparison import compare_heads
from models.training.fitting import fit_classes
from models.training.options import Options, make_study
from models.training.results import Classes, Comparison
from models.training.selection import select
from tests.models.data.cached import cluster_features, spec_of
from tests.models.data.classes import ISIC, class_features
from tests.pictures import image_bytes

QUICK = ["logistic_regression"]
THREE = ("keratosis", "melanoma", "nevus")


@pytest.fixture(scope="module")
def seven(tmp_path_factory: pytest.TempPathFactory) -> Features:
    return class_features(tmp_path_factory.mktemp("seven") / "features.h5")


@pytest.fixture(scope="module")
def comparison(seven: Features) -> Comparison:
    return compare_heads(seven, Options(folds=3, jobs=1))


def classes_of(found: Comparison) -> Classes:
    assert found.classes is not None
    return found.classes


def relabelled(features: Features, label: np.ndarray) -> Features:
    return replace(features, items=replace(features.items, label=label))


def test_every_head_tells_all_classes_on_every_split(
    seven: Features, comparison: Comparison
) -> None:
    classes = classes_of(comparison)
    assert classes.labels[0] == "MEL" == comparison.labels[1]
    assert set(classes.labels) == set(ISIC)
    of_train = seven.items.label[seven.items.split == "train"]
    counts = [int((of_train == label).sum()) for label in classes.labels]
    assert counts[1:] == sorted(counts[1:], reverse=True)
    assert classes.shares == pytest.approx(np.array(counts) / sum(counts))
    for name in HEADS:
        for split, judged in comparison.heads[name].evaluations.items():
            found = classes.evaluations[name][split]
            assert found.n == judged.n
            np.testing.assert_allclose(found.probabilities.sum(axis=1), 1)
            # The positive class keeps the probability that the decision is made on.
            np.testing.assert_array_equal(found.probabilities[:, 0], judged.probabilities)
            np.testing.assert_array_equal(found.truth == 0, judged.labels == 1)
            assert found.macro_auc is not None
            assert found.macro_auc.value > 0.85
            assert found.balanced_accuracy.value > 2 / 7


def test_the_served_heads_give_the_figures_of_the_test_split(
    seven: Features, comparison: Comparison
) -> None:
    classes = classes_of(comparison)
    test = seven.items.take(seven.items.split == "test")
    X = seven.embedded(test)
    best = comparison.best
    positive = best.decision.calibration.apply(score(best.estimator, X))
    expected = comparison.served.probabilities(X, positive)
    found = classes.evaluations[comparison.chosen]["test"]
    np.testing.assert_allclose(found.probabilities, expected, atol=1e-12)
    truth = [classes.labels.index(label) for label in test.label]
    np.testing.assert_array_equal(found.truth, truth)
    assert found.macro_auc is not None
    assert found.macro_auc.value == pytest.approx(
        roc_auc_score(truth, expected, multi_class="ovr"), abs=1e-9
    )


def test_out_of_fold_figures_know_nothing_of_labels_that_mean_nothing(seven: Features) -> None:
    label = np.random.default_rng(3).permutation(seven.items.label)
    found = classes_of(
        compare_heads(relabelled(seven, label), Options(heads=QUICK, folds=3, jobs=1))
    )
    judged = found.evaluations["logistic_regression"]["cross-validation"].macro_auc
    assert judged is not None
    assert judged.low < 0.5 < judged.high


def test_validation_and_test_labels_decide_nothing(seven: Features) -> None:
    judged = seven.items.split != "train"
    label = seven.items.label.copy()
    label[judged] = np.roll(label[judged], 7)
    both = [
        compare_heads(features, Options(heads=QUICK, folds=3, jobs=1)).served
        for features in (seven, relabelled(seven, label))
    ]
    probes = seven.spec.combine(seven.embeddings[:40])
    one, other = (served.probabilities(probes, np.full(40, 0.2)) for served in both)
    np.testing.assert_array_equal(one, other)


def test_an_ensemble_averages_its_members_for_every_class(seven: Features) -> None:
    members = ("logistic_regression", "svm")
    options = Options(heads=members, folds=3, jobs=1, calibration="platt")
    found = compare_heads(seven, options)
    parts = select(seven, positive="melanoma", folds=3).parts
    train = parts["train"]
    study, _ = make_study(parts, options, lambda _: None)
    estimators = {name: found.heads[name].estimator for name in members}
    ensemble = Ensemble(estimators, dict.fromkeys(members, Scale(0.0, 1.0)))
    classes = fit_classes(
        {name: HEADS[name] for name in members},
        {**found.heads, "ensemble": replace(found.heads["svm"], estimator=ensemble)},
        study,
        "ensemble",
    )
    assert classes is not None
    assert list(classes.evaluations) == [*members, "ensemble"]
    area = classes.evaluations["ensemble"]["test"].macro_auc
    assert area is not None
    assert area.value > 0.85
    alone = classes_of(found).others
    for served, single in zip(classes.others, alone, strict=True):
        assert set(served.estimator.members) == set(members)
        of_chosen = served.estimator.members[found.chosen]
        np.testing.assert_allclose(
            score(of_chosen, train.X), score(single.estimator, train.X), rtol=1e-6
        )


def test_a_class_with_too_few_images_is_left_out_and_said_so(tmp_path: Path) -> None:
    features = class_features(
        tmp_path / "features.h5", names=(*THREE, "naevoid"), shares=(0.3, 0.3, 0.4, 0.0)
    )
    label = features.items.label.copy()
    train = np.flatnonzero((features.items.split == "train") & (label == "nevus"))
    test = np.flatnonzero((features.items.split == "test") & (label == "nevus"))
    label[[*train[:2], *test[:4]]] = "naevoid"
    found = compare_heads(relabelled(features, label), Options(heads=QUICK, folds=3, jobs=1))
    classes = classes_of(found)
    assert set(classes.labels) == set(THREE)
    assert any("'naevoid' (2)" in note for note in found.notes)
    assert any(note.startswith("4 images of the test split") for note in found.notes)
    judged = found.best.evaluations["test"]
    assert classes.evaluations[found.chosen]["test"].n == judged.n - 4
    assert classes.evaluations[found.chosen]["cross-validation"].n == (
        found.best.evaluations["cross-validation"].n - 2
    )


def test_with_two_classes_left_there_is_a_note_and_nothing_more(tmp_path: Path) -> None:
    features = class_features(
        tmp_path / "features.h5", names=("benign", "melanoma"), shares=(0.6, 0.4)
    )
    label = features.items.label.astype("U20")
    label[np.flatnonzero(features.items.split == "train")[0]] = "something else"
    found = compare_heads(relabelled(features, label), Options(heads=QUICK, folds=3, jobs=1))
    assert found.classes is None
    assert any("'something else' (1)" in note for note in found.notes)


def test_groups_stay_together_and_classes_in_proportion(seven: Features) -> None:
    group = np.array([f"lesion {row // 2}" for row in range(len(seven.items))])
    items = replace(seven.items, group=group, split=np.full(len(group), "train"))
    found = classes_of(
        compare_heads(replace(seven, items=items), Options(heads=QUICK, folds=3, jobs=1))
    )
    assert set(found.labels) == set(ISIC)
    assert found.evaluations["logistic_regression"]["cross-validation"].n == len(items)


def test_mel_is_taken_for_melanoma_and_said_so(comparison: Comparison) -> None:
    assert any("'MEL' was taken for it" in note for note in comparison.notes)


def test_an_image_of_two_classes_is_said(seven: Features) -> None:
    row, label = seven.items.row.copy(), seven.items.label
    nevus, other = (
        np.flatnonzero((label == name) & (seven.items.split == "train"))[0]
        for name in ("NV", "BKL")
    )
    row[other] = row[nevus]
    found = compare_heads(
        replace(seven, items=replace(seven.items, row=row)), Options(heads=QUICK, folds=3, jobs=1)
    )
    assert any("1 image in the training split with labels of several" in n for n in found.notes)


def test_two_classes_are_as_before(tmp_path: Path) -> None:
    features = cluster_features()
    found = compare_heads(features, Options(heads=QUICK, folds=3, jobs=1))
    assert found.classes is None
    assert "classes" not in found.as_dict()
    bundle = publish_bundle(tmp_path / "bundle", found, features)
    assert not bundle.classes.several
    assert "classes" not in json.loads((tmp_path / "bundle" / "bundle.json").read_bytes())
    assert not list((tmp_path / "bundle").glob("class-*"))
    for name in ("report.html", "MODEL_CARD.md"):
        assert "Which class" not in (tmp_path / "bundle" / name).read_text()


@pytest.mark.parametrize("head", [*HEADS, ENSEMBLE])
def test_a_bundle_gives_the_classes_back(
    head: str, seven: Features, comparison: Comparison, tmp_path: Path
) -> None:
    # Any head could have been chosen: what is served is that of the chosen one alone.
    heads = [*MEMBERS, head] if head == ENSEMBLE else [head]
    known = {
        name: found.settings | ({"n_estimators": 10} if name == "xgboost" else {})
        for name, found in comparison.heads.items()
    }
    options = Options(heads=heads, head=head, folds=3, jobs=1, settings=known)
    found = compare_heads(seven, options)
    bundle = publish_bundle(tmp_path / "bundle", found, seven)
    test = seven.embedded(seven.items.take(seven.items.split == "test"))
    expected = classes_of(found).evaluations[head]["test"]
    np.testing.assert_allclose(
        bundle.classes.probabilities(test, bundle.probability(test)),
        expected.probabilities,
        atol=1e-6,
    )
    assert bundle.class_metrics["test"] == expected.as_dict()
    values = json.loads((tmp_path / "bundle" / "comparison.json").read_bytes())
    assert values["classes"] == classes_of(found).as_dict()
    again = compare_heads(seven, options)
    publish_bundle(tmp_path / "again", again, seven)
    for file in (tmp_path / "bundle").glob("class-*"):
        assert file.read_bytes() == (tmp_path / "again" / file.name).read_bytes()


@pytest.fixture(scope="module")
def three(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a feature file of three classes and the bundle that was fitted on it."""
    folder = tmp_path_factory.mktemp("three")
    class_features(folder / "features.h5", names=THREE, shares=(0.3, 0.3, 0.4), spec=spec_of(None))
    done = invoke(
        fit_classifier.main, folder / "features.h5", "--out", folder / "bundle",
        "--heads", "logistic_regression", "--folds", "3", "--jobs", "1",
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    (folder / "fitted.txt").write_text(done.stdout)
    for place in range(2):
        (folder / f"{place}.png").write_bytes(image_bytes(place + 1))
    return folder


def invoke(command: Any, *words: object) -> Result:
    return CliRunner().invoke(command, [str(word) for word in words])


def test_fitting_prints_the_classes(three: Path) -> None:
    text = (three / "fitted.txt").read_text()
    assert "Which of 3 classes (one against the rest)" in text
    assert "macro AUC (95 %)" in text
    for name in THREE:
        assert sum(line.startswith(f"{name} ") for line in text.splitlines()) == 2


def test_report_and_card_have_the_classes(three: Path) -> None:
    report = (three / "bundle" / "report.html").read_text()
    assert "<h2>Which class</h2>" in report
    assert report.count('<svg class="confusion"') == 2
    card = (three / "bundle" / "MODEL_CARD.md").read_text()
    assert "## Which class" in card
    assert "| keratosis |" in card


def test_evaluating_the_same_file_gives_the_same_figures(three: Path) -> None:
    words = ("evaluate", three / "bundle", three / "features.h5")
    done = invoke(models, *words, "--json")
    assert done.exit_code == 0, done.output
    known = load_bundle(three / "bundle").class_metrics["test"]
    assert json.loads(done.stdout)["classes"] == known
    text = invoke(models, *words).stdout
    assert "which of 3 classes" in text
    assert "truth \\ most likely" in text


def test_labels_that_the_bundle_does_not_tell_are_named(three: Path, tmp_path: Path) -> None:
    names = (*THREE, "wart")
    class_features(
        tmp_path / "four.h5", names=names, shares=(0.2, 0.3, 0.3, 0.2), spec=spec_of(None)
    )
    done = invoke(models, "evaluate", three / "bundle", tmp_path / "four.h5", "--json")
    values = json.loads(done.stdout)
    assert values["classes"]["n"] < values["n"]
    assert any("(wart)" in note for note in values["notes"])


def test_images_get_all_classes_the_most_likely_first(three: Path) -> None:
    images = [three / f"{place}.png" for place in range(2)]
    done = invoke(models, "classify", three / "bundle", *images, "--json")
    assert done.exit_code == 0, done.output
    for result in json.loads(done.stdout)["results"]:
        shares = list(result["classes"].values())
        assert shares == sorted(shares, reverse=True)
        assert sum(shares) == pytest.approx(1)
        assert set(result["classes"]) == set(THREE)
        assert result["classes"]["melanoma"] == result["probability"]
    text = invoke(models, "classify", three / "bundle", images[0]).stdout
    assert "; most likely: " in text
    table = invoke(models, "classify", three / "bundle", *images, three / "none.png", "--csv")
    rows = list(csv.DictReader(io.StringIO(table.stdout)))
    for row in rows[:2]:
        assert sum(float(row[f"probability {name}"]) for name in THREE) == pytest.approx(1)
        assert row["probability melanoma"] == row["probability"]
    assert rows[2]["probability melanoma"] == ""


@pytest.mark.parametrize(
    "change",
    [
        lambda classes: classes["labels"].reverse(),
        lambda classes: classes["heads"].pop(),
        lambda classes: classes["heads"].reverse(),
        lambda classes: classes["shares"].__setitem__(0, 0.9),
        lambda classes: classes["heads"][0].update(file="../head.skops"),
        lambda classes: classes["heads"][0].update(file="report.html"),
        lambda classes: classes["heads"][0]["calibration"].update(slope=-1.0),
        lambda classes: classes.clear(),
    ],
)
def test_a_bundle_with_altered_classes_is_refused(change: Any, three: Path, tmp_path: Path) -> None:
    for path in (three / "bundle").iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    values = json.loads((tmp_path / "bundle.json").read_bytes())
    del values["sealed"]
    change(values["classes"])
    (tmp_path / "bundle.json").write_bytes(seal(values))
    with pytest.raises(BundleRefused, match="altered"):
        load_bundle(tmp_path)


def test_an_altered_head_of_a_class_is_refused(three: Path, tmp_path: Path) -> None:
    for path in (three / "bundle").iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    data = bytearray((tmp_path / "class-1.linear.safetensors").read_bytes())
    data[len(data) // 2] ^= 1
    (tmp_path / "class-1.linear.safetensors").write_bytes(data)
    with pytest.raises(BundleRefused, match=r"class-1\.linear\.safetensors is not the file"):
        load_bundle(tmp_path)


@pytest.mark.parametrize("wrapped", ["", "train"])
def test_ground_truth_of_isic_2018_gives_one_label_per_image(tmp_path: Path, wrapped: str) -> None:
    folder = tmp_path / "images" / wrapped
    folder.mkdir(parents=True)
    lines = ["image,MEL,NV,BCC,AKIEC,BKL,DF,VASC"]
    for place, name in enumerate(ISIC):
        (folder / f"ISIC_00{place}.jpg").write_bytes(image_bytes(place))
        flags = ["1.0" if other == name else "0.0" for other in ISIC]
        lines.append(",".join([f"ISIC_00{place}", *flags]))
    table = tmp_path / "ISIC2018_Task3_Training_GroundTruth.csv"
    table.write_text("\n".join(lines) + "\n")
    found = find_images(tmp_path / "images", [LabelTable(table)])
    assert [item.label for item in found.items] == list(ISIC)


def test_a_folder_per_class_gives_the_same(tmp_path: Path) -> None:
    for place, name in enumerate(ISIC):
        (tmp_path / name).mkdir()
        (tmp_path / name / f"{place}.jpg").write_bytes(image_bytes(place))
    assert {item.label for item in find_images(tmp_path).items} == set(ISIC)


def test_images_that_do_not_fit_into_memory_get_classes_too(
    seven: Features, comparison: Comparison
) -> None:
    found = compare_heads(seven, Options(heads=QUICK, folds=3, jobs=1, memory=1 << 15))
    assert any("block by block" in note for note in found.notes)
    streamed = classes_of(found).evaluations["logistic_regression"]
    for split, known in classes_of(comparison).evaluations["logistic_regression"].items():
        assert known.macro_auc is not None
        area = streamed[split].macro_auc
        assert area is not None
        assert area.value == pytest.approx(known.macro_auc.value, abs=0.01)
