"""`python -m models evaluate`, and what is behind it."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result

from features.cache.contents import Features, write_features
from features.errors import CacheMismatch, LesionError
from models.__main__ import main
from models.bundle.loading import Bundle, load_bundle
from models.inference.assessment import against, evaluate_bundle
from models.inference.rivals import read_scores
from models.report.publishing import publish_bundle
from models.training.comparison import compare_heads
from models.training.options import Options
from tests.models.data.cached import SMALL, cluster_features, spec_of

FEATURES = cluster_features(240)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    comparison = compare_heads(FEATURES, Options(heads=["logistic_regression"], folds=3, jobs=1))
    return publish_bundle(tmp_path_factory.mktemp("bundle") / "bundle", comparison, FEATURES)


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    write_features(tmp_path / "features.h5", FEATURES)
    return tmp_path / "features.h5"


def invoke(*words: object) -> Result:
    return CliRunner().invoke(main, ["evaluate", *map(str, words)])


def relabelled(**columns: Any) -> Features:
    return replace(FEATURES, items=replace(FEATURES.items, **columns))


def test_a_split_is_judged_as_the_comparison_judged_it(bundle: Bundle) -> None:
    for split in ("valid", "test"):
        found = evaluate_bundle(bundle, FEATURES, split).evaluation.as_dict()
        known = bundle.metrics[split]
        assert {name: found[name] for name in known} == known


def test_json_has_every_figure(bundle: Bundle, cache: Path) -> None:
    done = invoke(bundle.folder, cache, "--json")
    assert done.exit_code == 0, done.output
    values = json.loads(done.stdout)
    assert values["split"] == "test"
    for name in ("auc", "average_precision_interval", "auc_sens_80", "pauc_above_80"):
        assert set(values[name]) == {"value", "low", "high"}
    assert set(values["specificity_at"]) == {"0.82", "0.89", "0.95"}
    assert set(values["calibration"]) >= {"slope", "intercept", "ece", "ece_groups"}
    assert set(values["operating_point"]) >= {"sensitivity", "specificity", "ppv", "npv"}
    assert values["zone"] == bundle.decision.zone.as_dict()  # type: ignore[union-attr]
    assert values["marks"] == ["untrained", "synthetic"]


def test_text_names_figures_intervals_and_notes(bundle: Bundle, cache: Path) -> None:
    done = invoke(bundle.folder, cache, "--split", "all")
    assert done.exit_code == 0, done.output
    for told in (
        "auc_sens_80 (ISIC scorer)",
        "pAUC above 80 % TPR (ISIC 2024)",
        "specificity at 89 % sensitivity",
        "calibration slope",
        "DeLong, score",
        "note: The bundle may have been fitted on some of these images",
        "UNTRAINED",
        "Decision support, not a diagnosis.",
    ):
        assert told in done.stdout


def test_scores_are_written_and_come_back_as_equal(
    bundle: Bundle, cache: Path, tmp_path: Path
) -> None:
    out = tmp_path / "scores.csv"
    assert invoke(bundle.folder, cache, "--scores", out).exit_code == 0
    with out.open() as file:
        rows = list(csv.DictReader(file))
    found = evaluate_bundle(bundle, FEATURES, "test").evaluation
    assert [float(row["score"]) for row in rows] == found.scores.tolist()
    assert [int(row["suspicious"]) for row in rows] == found.suspicious.astype(int).tolist()
    done = invoke(bundle.folder, cache, "--against", out, "--json")
    assert done.exit_code == 0, done.output
    test = json.loads(done.stdout)["against"]["test"]
    assert (test["auc"]["value"], test["p_holm"], test["told_apart"]) == (0, 1, False)
    assert test["mcnemar"] == {"sensitivity": 1, "specificity": 1}
    assert "can't be told apart" in invoke(bundle.folder, cache, "--against", out).stdout


def test_better_scores_are_told_apart(bundle: Bundle, tmp_path: Path) -> None:
    path = tmp_path / "oracle.csv"
    truth = FEATURES.items.label == "melanoma"
    lines = [f"{n},{float(t) + n / 1e4},{int(t)}" for n, t in enumerate(truth)]
    path.write_text("\n".join(["image_id,melanoma,label", *lines]))
    mine, theirs, test, notes = against(evaluate_bundle(bundle, FEATURES, "all"), "Mine", path)
    assert theirs.auc is not None
    assert theirs.auc.value == 1
    assert test.told_apart
    assert test.auc.high < 0
    assert mine.suspicious.sum() == theirs.suspicious.sum()
    assert notes[-1].startswith("oracle.csv ranks these images better than Mine")


def test_half_the_images_and_other_labels_are_told(bundle: Bundle, tmp_path: Path) -> None:
    path = tmp_path / "half.csv"
    lines = [f"{number}.jpg,{number % 7},{number % 2}" for number in range(0, 240, 2)]
    path.write_text("\n".join(["name,score,label", *lines]))
    assessment = evaluate_bundle(bundle, FEATURES, "test")
    *_, notes = against(assessment, "Mine", path)
    assert any("only these are compared" in note for note in notes)
    assert any("another label" in note for note in notes)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("image,score\nnobody,0.5\n", "has scores of 0 of the images"),
        ("image,first,second\n4,0.5,0.2\n", "several columns of numbers"),
        ("image,score\n4,high\n", "no column of numbers"),
        ("image,score\n4,0.1\n4.jpg,0.2\n", "two scores of 4.jpg"),
        ("image,score\n4,nan\n", "no column of numbers"),
        ("", "has no rows"),
    ],
)
def test_scores_that_can_not_be_compared_are_refused(
    content: str, message: str, bundle: Bundle, cache: Path, tmp_path: Path
) -> None:
    (tmp_path / "s.csv").write_text(content)
    done = invoke(bundle.folder, cache, "--against", tmp_path / "s.csv")
    assert done.exit_code == 1
    assert message in done.output
    assert done.output.count("\n") <= 1


def test_another_extractor_is_refused_with_the_difference(bundle: Bundle) -> None:
    other = cluster_features(spec=spec_of(SMALL + 1))
    with pytest.raises(CacheMismatch, match=rf"dim {SMALL} against {SMALL + 1}"):
        evaluate_bundle(bundle, other, "test")


def test_what_can_not_be_judged_is_said(bundle: Bundle) -> None:
    nothing = relabelled(split=np.array(["train"] * 240))
    with pytest.raises(LesionError, match=r"no labelled image in the test split: .* train"):
        evaluate_bundle(bundle, nothing, "test")
    with pytest.raises(LesionError, match=r"tells melanoma from benign, .* labelled cat"):
        evaluate_bundle(bundle, relabelled(label=np.array(["cat"] * 240)), "test")


def test_repeated_and_contradicting_images_are_left_out(bundle: Bundle) -> None:
    row, label = FEATURES.items.row.copy(), FEATURES.items.label.copy()
    test = np.flatnonzero(FEATURES.items.split == "test")
    row[test[1]], label[test[1]] = row[test[0]], label[test[0]]
    row[test[3]] = row[test[2]]
    label[test[2]], label[test[3]] = "benign", "melanoma"
    found = evaluate_bundle(bundle, relabelled(row=row, label=label), "test")
    assert found.evaluation.n == len(test) - 3
    assert found.notes == (
        "Repeated images used only once: 1.",
        "Images left out because of contradicting labels: 1.",
        found.notes[2],
    )
    assert found.notes[2].startswith("Probabilities agree with these images as far as")


def test_one_class_is_judged_as_far_as_it_goes(bundle: Bundle, cache: Path) -> None:
    label = FEATURES.items.label.copy()
    label[FEATURES.items.split == "test"] = "benign"
    write_features(cache, relabelled(label=label))
    done = invoke(bundle.folder, cache)
    assert done.exit_code == 0, done.output
    assert "All images are of one class" in done.stdout
    assert json.loads(invoke(bundle.folder, cache, "--json").stdout)["auc"] is None


def test_the_same_seed_gives_the_same_bundle(tmp_path: Path) -> None:
    folders = []
    for name in ("one", "two"):
        found = compare_heads(FEATURES, Options(folds=3, seed=3))
        publish_bundle(tmp_path / name, found, FEATURES)
        folders.append(tmp_path / name)
    assert load_bundle(folders[0]).settings == load_bundle(folders[1]).settings

    def timeless(folder: Path) -> dict[str, Any]:
        values = json.loads((folder / "comparison.json").read_text())
        for head in values["heads"].values():
            assert head.pop("seconds") > 0
        manifest = json.loads((folder / "bundle.json").read_text())
        for name in ("created", "sealed"):
            manifest.pop(name)
        hashes = manifest.pop("files")
        head = [name for name in hashes if name.startswith("head.")]
        assert len(head) == 1
        return {
            "comparison": values,
            "manifest": manifest,
            "head": (folder / head[0]).read_bytes(),
        }

    assert timeless(folders[0]) == timeless(folders[1])


@pytest.mark.parametrize("word", ["MEL", "mel", "Malignant melanoma", "MELANOMA"])
def test_the_positive_class_is_known_by_its_other_names(bundle: Bundle, word: str) -> None:
    label = np.where(FEATURES.items.label == "melanoma", word, "nv")
    found = evaluate_bundle(bundle, relabelled(label=label), "test")
    same = evaluate_bundle(bundle, FEATURES, "test")
    assert found.evaluation.auc == same.evaluation.auc
    told = "Classes that the bundle was not fitted on count as not melanoma: nv ("
    assert any(note.startswith(told) for note in found.notes)


@pytest.mark.parametrize("word", ["Malignant", "melanoma (in situ)", "1", "target"])
def test_what_may_be_the_positive_class_is_asked_for(
    bundle: Bundle, cache: Path, word: str
) -> None:
    label = np.where(FEATURES.items.label == "melanoma", word, "benign")
    write_features(cache, relabelled(label=label))
    done = invoke(bundle.folder, cache)
    assert done.exit_code == 1
    assert f"say --positive {word}" in done.output
    done = invoke(bundle.folder, cache, "--positive", word, "--json")
    assert done.exit_code == 0, done.output
    same = evaluate_bundle(bundle, FEATURES, "test").evaluation
    assert json.loads(done.stdout)["auc"]["value"] == same.auc.value  # type: ignore[union-attr]


def test_some_of_the_positives_under_another_name_are_not_negatives(bundle: Bundle) -> None:
    label = FEATURES.items.label.copy().astype("U20")
    label[np.flatnonzero(label == "melanoma")[::2]] = "Malignant"
    with pytest.raises(LesionError, match="labelled Malignant, of which the bundle doesn't know"):
        evaluate_bundle(bundle, relabelled(label=label), "test")


def scores_of(path: Path, header: str, *, start: int = 0, **columns: Any) -> Path:
    """Scores that are wrong for every image, beside the truth."""
    truth = (FEATURES.items.label == "melanoma").astype(int)
    lines = [f"{n},{t},{(1 - t) * 0.5 + n / 1e4:.5f}" for n, t in enumerate(truth)]
    path.write_text("\n".join([header, *lines[start:]]))
    return path


@pytest.mark.parametrize(
    "header",
    [
        "image,target,model",
        "image,melanoma,prob",
        "image_name,benign_malignant,p",
        "image,y_true,s",
    ],
)
def test_the_truth_is_no_score(bundle: Bundle, tmp_path: Path, header: str) -> None:
    path = scores_of(tmp_path / "rival.csv", header)
    _, theirs, test, notes = against(evaluate_bundle(bundle, FEATURES, "all"), "Mine", path)
    assert theirs.auc is not None
    assert theirs.auc.value < 0.1
    column = header.split(",")[2]
    assert any(f"scores from {column}" in note for note in notes)
    assert -1 <= test.auc.low <= test.auc.high <= 1


def test_a_column_that_is_the_truth_by_its_values_is_refused(
    bundle: Bundle, tmp_path: Path
) -> None:
    truth = (FEATURES.items.label == "melanoma").astype(int)
    path = tmp_path / "rival.csv"
    path.write_text("\n".join(["image,answer", *(f"{n},{t}" for n, t in enumerate(truth))]))
    with pytest.raises(LesionError, match="that is the truth, not a score"):
        against(evaluate_bundle(bundle, FEATURES, "all"), "Mine", path)


def test_of_several_columns_of_numbers_one_is_asked_for(bundle: Bundle, tmp_path: Path) -> None:
    path = tmp_path / "rival.csv"
    lines = [f"{n},{n / 300:.4f},{1 - n / 300:.4f},{n % 90}" for n in range(240)]
    path.write_text("\n".join(["image,first,second,age", *lines]))
    with pytest.raises(LesionError, match=r"several columns of numbers.*--score-column"):
        against(evaluate_bundle(bundle, FEATURES, "all"), "Mine", path)
    mine = evaluate_bundle(bundle, FEATURES, "all")
    one = against(mine, "Mine", path, column="first")[1]
    other = against(mine, "Mine", path, column="second")[1]
    assert one.auc.value == pytest.approx(1 - other.auc.value)  # type: ignore[union-attr]


def test_the_score_of_another_image_is_never_taken(tmp_path: Path) -> None:
    items = FEATURES.items.take(np.arange(2))
    items = replace(items, path=np.array(["a/1.jpg", "b/1.jpg"]))
    path = tmp_path / "s.csv"
    path.write_text("image,score\n1,0.5\n")
    with pytest.raises(LesionError, match=r"'1' fits 'a/1.jpg' and 'b/1.jpg'"):
        read_scores(path, items, np.array([0, 1], np.int8))
    path.write_text("image,score\nb/1.jpg,0.5\nc/1.jpg,0.7\n")
    found, _ = read_scores(path, items, np.array([0, 1], np.int8))
    np.testing.assert_array_equal(found, [np.nan, 0.5])


def test_a_collection_with_other_names_and_another_share_is_judged(
    bundle: Bundle, tmp_path: Path
) -> None:
    kept = np.flatnonzero((FEATURES.items.label == "melanoma") | (np.arange(240) % 6 == 0))
    items = FEATURES.items.take(kept)
    label = np.where(items.label == "melanoma", "malignant", "naevus")
    other = replace(FEATURES, items=replace(items, label=label, split=np.full(len(kept), "")))
    write_features(tmp_path / "other.h5", other)
    words = (bundle.folder, tmp_path / "other.h5", "--split", "all")
    refused = invoke(*words)
    assert refused.exit_code == 1
    assert "say --positive malignant" in refused.output
    done = invoke(*words, "--positive", "malignant")
    assert done.exit_code == 0, done.output
    assert "note: ATTENTION: calibration has drifted: probabilities are too low" in done.output
    assert "of these images are melanoma, of those it was calibrated on" in done.output
