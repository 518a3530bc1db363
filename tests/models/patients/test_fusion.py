"""Age, sex and site beside the image: fitted, judged, bundled and used."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from sklearn.metrics import roc_auc_score

from features.embedding.extractor import load_extractor
from features.embedding.joined import JoinedExtractor
from models.__main__ import main
from models.bundle.loading import Bundle, load_bundle
from models.bundle.manifest import BundleRefused, seal
from models.inference.assessment import evaluate_bundle
from models.inference.classifier import Classifier
from models.inference.verdict import Verdict
from models.inference.wording import not_used
from models.patients.encoding import PatientError, Unused, kinds_in, numbers, read_patient
from models.patients.fusion import FUSION, cross_fit, fit_fusion
from models.patients.tables import Metadata
from models.report.publishing import publish_bundle
from models.training.comparison import compare_heads
from models.training.options import Options
from models.training.results import Comparison
from tests.models.data.cached import cluster_features, spec_of
from tests.pictures import image_bytes

FEATURES = cluster_features(240, spec=spec_of(None))
BOTH = ("age", "sex")


def known() -> Metadata:
    """Age tells the class; every seventh image lacks its age, every fifth its sex."""
    rng = np.random.default_rng(0)
    rows = {}
    for number, label in enumerate(FEATURES.items.label.tolist()):
        age = float(np.clip(rng.normal(68 if label == "melanoma" else 42, 13), 1, 90).round())
        rows[f"images/{number}.jpg"] = {
            "age": None if number % 7 == 0 else age,
            "sex": None if number % 5 == 0 else ("female", "male")[int(rng.integers(2))],
        }
    return Metadata(rows, BOTH)


def compared(metadata: Metadata | None) -> Comparison:
    return compare_heads(
        FEATURES, Options(heads=["logistic_regression"], folds=3, jobs=1), metadata=metadata
    )


@pytest.fixture(scope="module")
def comparison() -> Comparison:
    return compared(known())


@pytest.fixture(scope="module")
def folder(comparison: Comparison, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("fused") / "bundle"
    publish_bundle(folder, comparison, FEATURES)
    return folder


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("plain") / "bundle"
    publish_bundle(folder, compared(None), FEATURES)
    return folder


@pytest.fixture(scope="module")
def classifier(folder: Path) -> Classifier:
    return Classifier(
        load_bundle(folder),
        JoinedExtractor([load_extractor("inception_v3", "untrained", input_size=75)]),
    )


def rows_of(rng: np.random.Generator, n: int, sites: int) -> list[dict[str, Any]]:
    return [
        {"age": float(rng.integers(20, 90)), "site": f"site {rng.integers(sites):03}"}
        for _ in range(n)
    ]


def test_random_labels_give_no_more_than_chance() -> None:
    areas = []
    for seed in range(12):
        rng = np.random.default_rng(seed)
        n = 300
        labels, scores = (rng.random(n) < 0.3).astype(int), rng.normal(size=n)
        # As many sites as to learn nearly every image by heart.
        rows = rows_of(rng, n, sites=150)
        folds = np.array_split(rng.permutation(n), 5)
        fused = cross_fit(scores, rows, labels, ("age", "site"), folds)
        areas.append(roc_auc_score(labels, fused))
        inside = fit_fusion(scores, rows, labels, ("age", "site")).score(scores, rows)
        assert roc_auc_score(labels, inside) > 0.75
    assert abs(np.mean(areas) - 0.5) < 0.03


def test_a_fold_is_judged_without_its_labels_and_categories() -> None:
    rng = np.random.default_rng(1)
    n = 90
    labels, scores = (np.arange(n) % 3 == 0).astype(int), rng.normal(size=n)
    rows = rows_of(rng, n, sites=4)
    folds = np.array_split(np.arange(n), 3)
    before = cross_fit(scores, rows, labels, ("age", "site"), folds)
    changed, others = labels.copy(), [*rows]
    changed[folds[0]] = 1 - changed[folds[0]]
    others[folds[0][0]] = {**rows[0], "site": "a site of its own"}
    after = cross_fit(scores, others, changed, ("age", "site"), folds)
    np.testing.assert_array_equal(after[folds[0][1:]], before[folds[0][1:]])
    assert not np.allclose(after[folds[1]], before[folds[1]])
    unknown = cross_fit(scores, [{**rows[0], "site": None}, *rows[1:]], labels, BOTH[:1], folds)
    assert np.isfinite(unknown).all()


def test_it_gains_where_metadata_tells_and_the_test_says_so(comparison: Comparison) -> None:
    alone, fused = comparison.best, comparison.heads[FUSION]
    assert list(comparison.heads) == ["logistic_regression", "metadata", FUSION]
    assert fused.title == "Logistic regression + age, sex"
    for split, judged in fused.evaluations.items():
        np.testing.assert_array_equal(judged.labels, alone.evaluations[split].labels)
    before, after = (h.evaluations["cross-validation"].auc for h in (alone, fused))
    assert before is not None
    assert after is not None
    assert after.value > before.value + 0.02
    test = next(
        t
        for t in comparison.tests
        if (t.split, t.first, t.second) == ("cross-validation", alone.title, fused.title)
    )
    assert test.auc.value == pytest.approx(before.value - after.value)
    assert test.told_apart
    # It is calibrated as well as any: these are cross-validated.
    slope = fused.evaluations["cross-validation"].slope
    assert slope is not None
    assert slope.low < 1 < slope.high
    assert comparison.chosen == "logistic_regression"


def test_what_is_missing_counts_as_average() -> None:
    rng = np.random.default_rng(2)
    n = 400
    labels = (np.arange(n) % 2).astype(int)
    scores = rng.normal(size=n) + labels
    rows: list[dict[str, Any]] = [
        {"sex": "male" if rng.random() < 0.75 else "female"} for _ in labels
    ]
    # Positives lack it far more often, as a collection would that doesn't note it.
    for number in np.flatnonzero((labels == 1) & (rng.random(n) < 0.6)):
        rows[number] = {"sex": None}
    fusion = fit_fusion(scores, rows, labels, ("sex",))
    assert fusion.coefficients[-1] > 0.5
    female, male, missing, nothing = fusion.score(
        np.zeros(4), [{"sex": "female"}, {"sex": "male"}, {"sex": None}, {}]
    )
    assert missing == nothing
    given = [row["sex"] for row in rows if row["sex"]]
    share = given.count("male") / len(given)
    assert missing == pytest.approx(share * male + (1 - share) * female)


def test_the_stored_numbers_give_the_same_probabilities(
    comparison: Comparison, folder: Path
) -> None:
    fused, loaded = comparison.heads[FUSION], load_bundle(folder).fusion
    assert loaded is not None
    assert loaded.fusion == fused.estimator
    assert (loaded.decision, loaded.title) == (fused.decision, fused.title)
    items = comparison.images["valid"]
    scores = comparison.best.evaluations["valid"].scores
    np.testing.assert_array_equal(
        loaded.probability(scores, known().of(items)), fused.evaluations["valid"].probabilities
    )
    assert loaded.metrics["valid"]["auc"]["value"] == fused.evaluations["valid"].auc.value  # type: ignore[union-attr]


def test_without_metadata_nothing_is_added(folder: Path, plain: Path) -> None:
    with_it, without = (json.loads((each / "bundle.json").read_text()) for each in (folder, plain))
    assert set(with_it) - set(without) == {FUSION}
    assert load_bundle(plain).fusion is None
    for name in ("threshold", "zone", "calibration", "settings", "metrics"):
        assert with_it[name] == without[name]


def spoil(name: str, value: Any) -> Callable[[dict[str, Any]], None]:
    def edit(fusion: dict[str, Any]) -> None:
        fusion[name] = value

    return edit


@pytest.mark.parametrize(
    "edit",
    [
        spoil("threshold", 1.5),
        spoil("threshold", "0.1"),
        spoil("zone", {"lower": 0.9, "upper": 0.95, "alpha": 0.1}),
        spoil("intercept", 1e12),
        spoil("intercept", True),
        spoil("more", 1),
        spoil("kinds", {"sex": ["male", "female"], "age": []}),
        spoil("kinds", {"age": [], "weight": []}),
        spoil("kinds", {}),
        spoil("kinds", {"age": ["old"], "sex": ["female", "male"]}),
        spoil("title", None),
        spoil("log_odds", {"method": "isotonic", "scores": [0.0], "probabilities": [0.5]}),
        spoil("calibration", {"method": "platt", "slope": -1.0, "intercept": 0.0}),
        lambda fusion: fusion["coefficients"].pop(),
        lambda fusion: fusion["scales"].__setitem__(0, 0.0),
        lambda fusion: fusion["means"].__setitem__(0, "1"),
        lambda fusion: fusion.pop("typical"),
    ],
)
def test_an_altered_fusion_is_refused(
    edit: Callable[[dict[str, Any]], object], folder: Path, tmp_path: Path
) -> None:
    for path in folder.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    values = json.loads((tmp_path / "bundle.json").read_text())
    del values["sealed"]
    edit(values[FUSION])
    (tmp_path / "bundle.json").write_bytes(seal(values))
    with pytest.raises(BundleRefused, match="fusion without sense"):
        load_bundle(tmp_path)


def test_a_verdict_with_and_without(classifier: Classifier) -> None:
    images = [(str(number), image_bytes(number)) for number in range(4)]
    patients = [{"age": 80, "sex": "F"}, None, {"age": "unknown", "sex": ""}, {"age": 80.0}]
    found = classifier.classify(images, metadata=patients)
    alone = classifier.classify(images)
    assert all(isinstance(one, Verdict) for one in (*found, *alone))
    assert [one.inputs for one in found] == [  # type: ignore[union-attr]
        {"age": 80.0, "sex": "female"}, None, None, {"age": 80.0},
    ]  # fmt: skip
    bundle = classifier.bundle
    assert bundle.fusion is not None
    for one, without in zip(found, alone, strict=True):
        assert isinstance(one, Verdict)
        assert isinstance(without, Verdict)
        if one.inputs is None:
            assert one == without
            assert "inputs" not in one.as_dict()
            continue
        assert one.threshold == bundle.fusion.decision.threshold
        assert one.probability != without.probability
        assert one.label == bundle.labels[one.probability >= one.threshold]
        assert one.as_dict()["inputs"] == one.inputs


def test_an_older_patient_is_more_at_risk_where_training_says_so(classifier: Classifier) -> None:
    images = [("one", image_bytes(1))] * 3
    patients = [{"age": age} for age in (20, 50, 90)]
    found = [one.probability for one in classifier.classify(images, metadata=patients)]  # type: ignore[union-attr]
    assert found == sorted(found)
    assert found[0] < found[-1]


def test_a_bundle_of_images_alone_says_that_it_used_nothing(plain: Path) -> None:
    extractor = JoinedExtractor([load_extractor("inception_v3", "untrained", input_size=75)])
    plainly = Classifier(load_bundle(plain), extractor)
    (found,) = plainly.classify([("a", image_bytes(1))], metadata=[{"age": 60}])
    (alone,) = plainly.classify([("a", image_bytes(1))])
    assert isinstance(found, Verdict)
    assert isinstance(alone, Verdict)
    assert found.probability == alone.probability
    assert found.inputs is None
    assert found.warnings[-1] == not_used(Unused("age", None, ()))


KINDS = {"age": (), "sex": ("female", "male"), "site": ("back", "head/neck")}


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"age": -1}, "got age '-1', expected years from 0 to 120"),
        ({"age": "121"}, "got age '121'"),
        ({"age": math.inf}, "got age 'inf'"),
        ({"age": "old"}, "got age 'old'"),
        ({"age": True}, "got age 'true'"),
        ({"sex": "x"}, "got sex 'x', expected female or male"),
        ({"weight": 70}, "got weight of a patient, expected age, sex, site"),
    ],
)
def test_what_can_not_be_is_refused(given: dict[str, Any], message: str) -> None:
    with pytest.raises(PatientError, match=message):
        read_patient(given, KINDS)


def test_what_is_not_known_is_said_and_left_out() -> None:
    assert read_patient({"age": " 55 ", "sex": "Woman", "site": "Back"}, KINDS) == (
        {"age": 55.0, "sex": "female", "site": "back"},
        (),
    )
    assert read_patient({"age": "nan", "sex": "?", "site": None}, KINDS) == ({}, ())
    assert read_patient({"site": "tail"}, KINDS) == (
        {},
        (Unused("site", "tail", ("back", "head/neck")),),
    )
    known, unused = read_patient({"age": 5, "site": "back"}, {"age": ()})
    assert known == {"age": 5.0}
    assert unused == (Unused("site", None, ("age",)),)
    assert read_patient({"sex": "m"}, {"sex": ("f", "m")}) == ({"sex": "m"}, ())
    assert read_patient({"sex": "male"}, {"sex": ("f", "m")}) == ({"sex": "m"}, ())


def test_categories_come_from_the_rows_they_are_given() -> None:
    rows: list[dict[str, Any]] = [{"age": 40.0, "site": "back"}, {"site": None}, {}]
    kinds = kinds_in(("age", "site"), rows)
    assert kinds == {"age": (), "site": ("back",)}
    encoded = numbers(kinds, [*rows, {"age": 7.0, "site": "elsewhere"}])
    assert encoded.tolist() == [[40, 0, 1, 0], [50, 1, 0, 1], [50, 1, 0, 1], [7, 0, 0, 1]]


def test_a_feature_file_is_judged_as_in_the_comparison(
    comparison: Comparison, folder: Path, plain: Path
) -> None:
    bundle: Bundle = load_bundle(folder)
    found = evaluate_bundle(bundle, FEATURES, "valid", metadata=known())
    expected = comparison.heads[FUSION].evaluations["valid"]
    np.testing.assert_allclose(found.evaluation.scores, expected.scores, rtol=1e-6, atol=1e-6)
    assert found.evaluation.operating_point == expected.operating_point
    assert any("of 48 images" in note for note in found.notes)
    with pytest.raises(BundleRefused, match="judges by the image alone"):
        evaluate_bundle(load_bundle(plain), FEATURES, "valid", metadata=known())


def test_the_command_takes_age_and_sex(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(image_bytes(1))

    def classify(*options: str) -> Any:
        words = ["classify", str(folder), str(tmp_path / "a.jpg"), *options]
        return CliRunner().invoke(main, words)

    done = classify("--age", "71", "--sex", "f", "--json")
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["results"][0]["inputs"] == {"age": 71.0, "sex": "female"}
    (row,) = csv.DictReader(io.StringIO(classify("--age", "71", "--sex", "f", "--csv").stdout))
    assert row["inputs"] == "age=71.0; sex=female"
    assert "; with age 71, sex female" in classify("--age", "71", "--sex", "f").stdout
    told = classify("--site", "back")
    assert not_used(Unused("site", None, ("age", "sex"))).text in told.stderr
    assert "; with" not in told.stdout
    wrong = classify("--age", "200")
    assert wrong.exit_code == 1
    assert "got age '200', expected years from 0 to 120" in wrong.output
