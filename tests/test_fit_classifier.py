"""`python fit_classifier.py`, as a user runs it."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from features.cache.contents import read_features, write_features
from fit_classifier import main
from models.bundle.loading import load_bundle
from tests.conftest import Run
from tests.models.data.cached import cluster_features, spec_of
from tests.models.data.networks import changed, seen, shuffled

SCRIPT = "fit_classifier.py"
FAST = ("--heads", "logistic_regression", "--folds", "3", "--jobs", "1")


def invoke(*words: object) -> Result:
    return CliRunner().invoke(main, [str(word) for word in words])


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    write_features(tmp_path / "features.h5", cluster_features())
    return tmp_path / "features.h5"


def test_a_folder_is_told_from_a_feature_file(run: Run, tmp_path: Path) -> None:
    images, bundle = tmp_path / "images", tmp_path / "bundle"
    for folder in (images, bundle):
        folder.mkdir()
    (bundle / "bundle.json").write_text("{}")
    told = {folder: invoke(folder, "--out", tmp_path / "out").output for folder in (images, bundle)}
    assert f"python extract_features.py {images} --out features.h5" in told[images]
    assert "is a bundle, and here a feature file is expected" in told[bundle]
    assert not (tmp_path / "out").exists()


def test_a_bundle_that_could_not_be_written_is_told_before_the_work(
    cache: Path, tmp_path: Path
) -> None:
    for out in (tmp_path / ("x" * 250), cache / "bundle"):
        done = invoke(cache, "--out", out, *FAST)
        assert done.exit_code == 1
        assert "can't be written" in done.output
        assert "cross-validation" not in done.output.lower()


def test_two_commands_make_a_bundle_and_a_report(run: Run, cache: Path, tmp_path: Path) -> None:
    out = tmp_path / "bundle"
    done = run(SCRIPT, cache, "--out", out, "--folds", "3")
    assert done.returncode == 0, done.stderr
    assert {path.name for path in out.iterdir()} >= {
        "bundle.json", "comparison.json", "report.html", "MODEL_CARD.md",
    }  # fmt: skip
    lines = done.stdout.splitlines()
    tables = [place for place, line in enumerate(lines) if line.startswith("head ")]
    assert [lines[place - 1].split(":")[0] for place in tables] == [
        "Cross-validation",
        "Validation split",
        "Test split",
    ]
    for column in ("ROC AUC (95 %)", "sensitivity (95 %)", "specificity (95 %)", "Brier"):
        assert column in lines[tables[0]]
    assert lines[tables[0]].endswith("seconds")
    for place in tables:
        for row, title in enumerate(("Logistic regression", "SVM (RBF)", "XGBoost"), start=1):
            assert lines[place + row].startswith(title)
            assert len(lines[place + row]) == len(lines[place])
    for told in (
        "chosen: ",
        "UNTRAINED: ",
        "SYNTHETIC: ",
        "Decision support, not a diagnosis.",
        f"report: {out / 'report.html'}",
        f"python -m service --bundle {out}",
    ):
        assert told in done.stdout
    assert "SVM (RBF): 16 candidates on 3 folds" in done.stderr
    bundle = load_bundle(out)
    figures = json.loads((out / "comparison.json").read_text())
    assert figures["chosen"] == bundle.head_name
    areas = {
        name: head["evaluations"]["cross-validation"]["auc"]["value"]
        for name, head in figures["heads"].items()
    }
    assert bundle.head_name == max(areas, key=lambda name: areas[name])


def test_head_and_heads_are_obeyed(cache: Path, tmp_path: Path) -> None:
    done = invoke(
        cache, "--out", tmp_path / "b", "--heads", "svm, logistic_regression",
        "--head", "svm", "--folds", 3, "--seed", 5,
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    bundle = load_bundle(tmp_path / "b")
    assert (bundle.head_name, bundle.folds, bundle.seed) == ("svm", 3, 5)
    assert "XGBoost" not in done.output
    assert "chosen: SVM (RBF) (asked for)" in done.output


def test_help_starts_at_once(run: Run) -> None:
    heavy = {"numpy", "sklearn", "xgboost", "keras", "tensorflow", "h5py", "skops"}
    for module in ("fit_classifier", "models.__main__"):
        done = run("-c", f"import sys, {module}; print(sorted({heavy} & set(sys.modules)))")
        assert done.stdout.strip() == "[]", done.stderr
    assert "--overwrite" in run(SCRIPT, "--help").stdout


def test_an_output_folder_that_exists_is_refused_before_the_work(
    run_here: Run, cache: Path, tmp_path: Path
) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine").write_text("")
    done = run_here(SCRIPT, cache, "--out", tmp_path / "out", *FAST)
    assert done.returncode == 1
    assert done.stderr.startswith("error: the folder")
    assert "exists and is not empty" in done.stderr
    assert "candidates" not in done.stderr
    assert done.stderr.count("\n") == 1
    done = run_here(SCRIPT, cache, "--out", tmp_path / "out", *FAST, "--overwrite")
    assert done.returncode == 1
    assert "is not a bundle" in done.stderr
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["mine"]


def test_a_bundle_is_replaced_when_asked(cache: Path, tmp_path: Path) -> None:
    for extra in ((), ("--overwrite",)):
        done = invoke(cache, "--out", tmp_path / "out", *FAST, *extra)
        assert done.exit_code == 0, done.output
    assert load_bundle(tmp_path / "out")


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--positive", "nevus"), "no class is called 'nevus'"),
        (("--heads", "forest"), "no head is called 'forest'"),
        (("--heads", "svm", "--head", "xgboost"), "not among those to train"),
        (("--folds", "90"), "fewer than the 90 folds"),
        (("--heads", ","), "no head to train"),
    ],
)
def test_what_cannot_be_done_is_said_in_one_sentence(
    words: tuple[str, ...], told: str, cache: Path, tmp_path: Path
) -> None:
    done = invoke(cache, "--out", tmp_path / "out", *words)
    assert done.exit_code == 1
    assert done.output.startswith("error: ")
    assert told in done.output
    assert done.output.count("\n") <= 1
    assert not (tmp_path / "out").exists()


def test_features_that_are_none_are_refused(tmp_path: Path) -> None:
    (tmp_path / "text.h5").write_text("no features")
    for name in ("none.h5", "text.h5"):
        done = invoke(tmp_path / name, "--out", tmp_path / "out")
        assert done.exit_code == 1
        assert done.output.startswith(f"error: {tmp_path / name}")


@pytest.mark.usefixtures("no_openvino")
def test_lost_weights_are_asked_for_before_the_work(tmp_path: Path) -> None:
    content = b"weights"
    spec = spec_of(weights="pretrained", weights_sha256=hashlib.sha256(content).hexdigest())
    cache, here = tmp_path / "features.h5", tmp_path / "here.h5"
    gone = tmp_path / "gone.h5"
    write_features(cache, cluster_features(spec=spec, weights_path=str(gone)))
    done = invoke(cache, "--out", tmp_path / "out", *FAST)
    assert done.exit_code == 1
    assert "--weights PATH" in done.output
    assert "candidates" not in done.output
    here.write_bytes(b"others")
    done = invoke(cache, "--out", tmp_path / "out", *FAST, "--weights", here)
    assert done.exit_code == 1
    assert "is not the weights file" in done.output
    here.write_bytes(content)
    done = invoke(cache, "--out", tmp_path / "out", *FAST, "--weights", here)
    assert done.exit_code == 0, done.output
    assert (tmp_path / "out" / "network.h5").read_bytes() == content
    assert "UNTRAINED" not in done.output


def test_decisions_are_made_as_asked(cache: Path, tmp_path: Path) -> None:
    table = tmp_path / "m.csv"
    table.write_text("id,age\n" + "".join(f"{n},{10 + n % 50}\n" for n in range(150)))
    done = invoke(
        cache, "--out", tmp_path / "b", *FAST, "--calibration", "isotonic",
        "--threshold", "cost:9/1", "--alpha", "0.2", "--metadata", table,
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    bundle = load_bundle(tmp_path / "b")
    assert bundle.decision.calibration.method == "isotonic"
    assert bundle.decision.threshold == pytest.approx(0.1)
    assert bundle.decision.zone is not None
    assert bundle.decision.zone.alpha == 0.2
    assert bundle.head_name == "logistic_regression"
    assert "Metadata alone" in done.output


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--threshold", "best"), "got --threshold 'best'"),
        (("--alpha", "0.7"), "got alpha 0.7"),
        (("--metadata", "none.csv"), "none.csv can't be read"),
    ],
)
def test_decisions_that_make_no_sense_are_refused(
    words: tuple[str, ...], told: str, cache: Path, tmp_path: Path
) -> None:
    done = invoke(cache, "--out", tmp_path / "out", *FAST, *words)
    assert done.exit_code == 1
    assert told in done.output
    assert done.output.startswith("error: ")


@pytest.fixture
def networks(tmp_path: Path) -> list[Path]:
    made = [seen("a", distance=0.7), shuffled(seen("b", d=30, seed=1), without=(3,))]
    paths = [tmp_path / "one.h5", tmp_path / "two.h5"]
    for path, features in zip(paths, made, strict=True):
        write_features(path, features)
    return paths


def test_several_networks_are_compared_and_the_best_go_into_the_bundle(
    networks: list[Path], tmp_path: Path
) -> None:
    out = tmp_path / "b"
    done = invoke(*networks, "--out", out, *FAST, "--combine")
    assert done.exit_code == 0, done.output
    figures = json.loads((out / "comparison.json").read_text())
    ranking, bundle = figures["ranking"], load_bundle(out)
    names = ["one", "two"] if ranking["served"].startswith("all ") else [ranking["served"]]
    assert [each.name for each in bundle.networks] == names
    assert bundle.spec.networks == tuple(
        read_features(tmp_path / f"{name}.h5").spec for name in names
    )
    rows = [(row["representation"], row["auc"]["cross-validation"]) for row in ranking["rows"]]
    assert {name for name, _ in rows} == {"one", "two", "all side by side", "all averaged"}
    assert ranking["served"] == rows[0][0]
    page = (out / "report.html").read_text()
    lines = done.output.splitlines()
    for name, auc in rows:
        assert any(
            line.startswith(f"{name}  ") and f"{auc['value']:.3f} ({auc['low']:.3f}" in line
            for line in lines
        )
        assert name in page
    for told in (
        "1 of 150 images of one left out, because not all feature files have it (such as 3.jpg).",
        "nothing (untrained weights)",
        f"of {ranking['served']}: best cross-validated ROC AUC",
    ):
        assert told in done.output
        assert told in page
    assert "Representations compared" in page
    assert "Representations compared" not in " ".join(lines)
    counts = {split: sum(row.values()) for split, row in figures["counts"].items()}
    assert counts == {"train": 90, "valid": 29, "test": 30}


def test_the_representation_for_the_bundle_can_be_named(
    networks: list[Path], tmp_path: Path
) -> None:
    for name in ("one", "two"):
        out = tmp_path / f"b-{name}"
        done = invoke(*networks, "--out", out, *FAST, "--representation", name)
        assert done.exit_code == 0, done.output
        assert load_bundle(out).fingerprint == read_features(tmp_path / f"{name}.h5").fingerprint


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("one.h5", "one.h5"), "one.h5 is given 2 times: give each feature file once"),
        (("one.h5", "copy.h5"), "one and copy were made by the same network in the same way"),
        (("one.h5", "two.h5", "--representation", "three"), "is one of one, two"),
        (("one.h5", "two.h5", "--representation", "all averaged"), "with --combine: add it"),
        (("one.h5", "--combine"), "there is one alone"),
        (("one.h5", "two.h5", "--feedback", "store.db"), "leave --feedback out"),
        (("one.h5", "other.h5"), "contradict each other on the split of 1 image: 0.jpg is 'train'"),
        (("one.h5", "two.h5", "--weights", "none.h5"), "there is no weights file none.h5"),
        (("one.h5", "two.h5", "--weights", "one.h5"), "is not the weights file of any network"),
    ],
)
def test_what_can_not_be_compared_is_said_in_one_sentence_before_the_work(
    words: tuple[str, ...],
    told: str,
    networks: list[Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "copy.h5").write_bytes(networks[0].read_bytes())
    other = seen("c")
    split = other.items.split.copy()
    split[0] = "test"
    write_features(tmp_path / "other.h5", changed(other, split=split))
    done = invoke(*words, *FAST, "--out", tmp_path / "out")
    assert done.exit_code == 1
    assert done.output.startswith("error: ")
    assert told in done.output
    assert done.output.count("\n") == 1
    assert not (tmp_path / "out").exists()


@pytest.mark.usefixtures("no_openvino")
def test_each_network_finds_its_weights_among_those_given(tmp_path: Path) -> None:
    paths = []
    for name in ("a", "b"):
        (tmp_path / f"{name}.weights.h5").write_bytes(name.encode())
        sha256 = hashlib.sha256(name.encode()).hexdigest()
        features = seen(name, weights="pretrained", weights_sha256=sha256)
        write_features(tmp_path / f"{name}.h5", features)
        paths.append(tmp_path / f"{name}.h5")
    weights = [word for n in "ba" for word in ("--weights", tmp_path / f"{n}.weights.h5")]
    for name in ("a", "b"):
        done = invoke(*paths, *FAST, "--out", tmp_path / name, *weights, "--representation", name)
        assert done.exit_code == 0, done.output
        assert (tmp_path / name / "network.weights.h5").read_bytes() == name.encode()
    done = invoke(*paths, *FAST, "--out", tmp_path / "c", *weights[:2])
    assert done.exit_code == 1
    assert "give their file with --weights PATH" in done.output
