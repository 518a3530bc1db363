"""`python -m models classify | show`, as a user runs it."""

from __future__ import annotations

import csv
import io
import json
import zipfile
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from models.__main__ import main
from models.bundle.loading import load_bundle
from models.report.publishing import publish_bundle
from models.training.comparison import compare_heads
from models.training.options import Options
from tests.conftest import Run
from tests.models.data.cached import cluster_features, spec_of
from tests.pictures import image_bytes

NOTICE = "Decision support, not a diagnosis."


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    features = cluster_features(spec=spec_of(None))
    comparison = compare_heads(features, Options(heads=["logistic_regression"], folds=3, jobs=1))
    folder = tmp_path_factory.mktemp("cli") / "bundle"
    publish_bundle(folder, comparison, features)
    return folder


@pytest.fixture
def images(tmp_path: Path) -> Path:
    folder = tmp_path / "images"
    (folder / "more").mkdir(parents=True)
    for seed, name in enumerate(("b.jpg", "a.JPG", "more/c, d.jpg")):
        (folder / name).write_bytes(image_bytes(seed))
    (folder / "notes.txt").write_text("not an image")
    (folder / ".hidden.jpg").write_bytes(image_bytes(9))
    return folder


def invoke(*words: object) -> Result:
    return CliRunner().invoke(main, [str(word) for word in words])


def test_plain_text_from_a_process_is_nothing_but_results(
    run: Run, bundle: Path, images: Path
) -> None:
    done = run("-m", "models", "classify", bundle, images)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    names = [str(images / name) for name in ("a.JPG", "b.jpg", "more/c, d.jpg")]
    assert [line.split(": ")[0] for line in lines[:-1]] == names
    threshold = load_bundle(bundle).decision.threshold
    for line in lines[:-1]:
        assert f"threshold {threshold:.3f}" in line
        probability = float(line.split("probability ")[1].split(",")[0])
        assert ("not suspicious" in line) == (probability < threshold)
    assert lines[-1] == NOTICE
    assert [line.split(":")[0] for line in done.stderr.splitlines()] == ["warning", "warning"]


def test_json_is_what_the_api_gives(bundle: Path, images: Path) -> None:
    done = invoke("classify", bundle, images / "b.jpg", images / "notes.txt", "--json")
    assert done.exit_code == 1
    good, bad = json.loads(done.stdout.split("error: ")[0])["results"]
    assert set(good) == {
        "filename", "label", "probability", "threshold", "decision", "flagged", "reasons",
        "warnings", "distance",
    }  # fmt: skip
    assert good["decision"] in {"suspicious", "not suspicious"}
    assert set(bad) == {"filename", "error"}
    assert bad["error"]["code"] == "not_an_image"
    assert NOTICE in done.stderr


def test_csv_has_a_line_for_every_image(bundle: Path, images: Path) -> None:
    done = invoke("classify", bundle, images, images / "gone.jpg", "--csv")
    assert done.exit_code == 1
    rows = list(csv.DictReader(io.StringIO(done.stdout.split("error: ")[0])))
    assert [Path(row["filename"]).name for row in rows] == [
        "a.JPG", "b.jpg", "c, d.jpg", "gone.jpg",
    ]  # fmt: skip
    assert all(0 <= float(row["probability"]) <= 1 for row in rows[:3])
    assert all(row["inputs"] == "" for row in rows)
    assert rows[3]["error"].startswith("unreadable: ")
    assert rows[3]["decision"] == ""


def test_text_names_what_could_not_be_read(bundle: Path, images: Path) -> None:
    done = invoke("classify", bundle, images / "notes.txt", images / "b.jpg")
    assert done.exit_code == 1
    assert "notes.txt: not read: " in done.stderr
    assert "b.jpg: " in done.stdout
    assert "1 of 2 images could not be read" in done.output


def test_an_archive_is_judged_in_place(bundle: Path, images: Path, tmp_path: Path) -> None:
    archive = tmp_path / "images.zip"
    with zipfile.ZipFile(archive, "w") as opened:
        opened.write(images / "b.jpg", "in/b.jpg")
        opened.writestr("../a.jpg", b"")
    assert "leads out of the archive" in invoke("classify", bundle, archive).output
    with zipfile.ZipFile(archive, "w") as opened:
        opened.write(images / "b.jpg", "in/b.jpg")
        opened.writestr("bad.jpg", b"nothing")
    done = invoke("classify", bundle, archive, images / "b.jpg", "--csv")
    bad, inside, alone = csv.DictReader(io.StringIO(done.stdout.split("error: ")[0]))
    assert bad["error"].startswith("not_an_image")
    assert inside["filename"] == str(archive / "in/b.jpg")
    assert inside["probability"] == alone["probability"]


def test_folders_without_images_and_bundles_that_are_none(bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    done = invoke("classify", bundle, tmp_path / "empty")
    assert done.exit_code == 1
    assert "there are no images in the folder" in done.output
    done = invoke("classify", tmp_path / "none", tmp_path / "a.jpg")
    assert done.exit_code == 1
    assert done.output.startswith("error: there is no bundle")


def test_a_file_is_told_from_a_bundle(tmp_path: Path) -> None:
    for name, told in (("features.h5", "fit_classifier.py {} --out"), ("head.skops", "FEATURES")):
        (tmp_path / name).write_bytes(b"something")
        done = CliRunner().invoke(main, ["show", str(tmp_path / name)])
        assert done.exit_code == 1
        assert "is a file, and a bundle is a folder" in done.output
        assert told.format(tmp_path / name) in done.output


def test_show_says_what_a_bundle_is(bundle: Path) -> None:
    done = invoke("show", bundle)
    assert done.exit_code == 0
    found = load_bundle(bundle)
    for told in (
        "melanoma (positive) against benign",
        found.fingerprint,
        found.decision.threshold_rule,
        "Logistic regression",
        "UNTRAINED: ",
        "cross-validation",
        NOTICE,
    ):
        assert told in done.stdout


def test_show_refuses_an_altered_bundle(bundle: Path, tmp_path: Path) -> None:
    for path in bundle.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    (tmp_path / "report.html").write_text("better figures")
    done = invoke("show", tmp_path)
    assert done.exit_code == 1
    assert "report.html has 14 bytes" in done.output
