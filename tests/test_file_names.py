"""Every name that an operating system allows goes through every command, and leads to its file."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import click
import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import extract_features
import features.__main__
import models.__main__
from features.cache.contents import Failure, Features, Items, read_features, write_features
from features.cache.export import export_features
from features.cache.verification import verify
from features.datasets.folders import find_images
from features.datasets.tables import LabelTable
from features.presenting import json_text, shown
from tests.conftest import ROOT, Run
from tests.models.data.cached import spec_of
from tests.pictures import image_bytes

ODD = (
    b"M\xfcller.jpg",  # from an archive of the nineties
    b"two\nlines.jpg",
    b"carriage\rreturn.jpg",
    "e\u0301.jpg".encode(),  # decomposed, beside the same name composed
    "\u00e9.jpg".encode(),
    b"a" * 251 + b".jpg",
    b"--out.jpg",
    b"-h.jpg",
    b"<b>&\"'.jpg",
    "\u202egpj.\U0001f600.jpg".encode(),
    b"back\\slash \x1b[31m\x7f.jpg",
    b"\xed\xa0\x80.jpg",  # half of a surrogate pair, as Windows has them
    b"=1+1,;\t.jpg",
)
# Anything but a slash and a zero byte, as Linux has it.
NAMES = st.binary(min_size=1, max_size=255).filter(
    lambda name: b"/" not in name and b"\0" not in name and name not in (b".", b"..")
)


def sha256_of(path: str | bytes) -> str:
    with open(path, "rb") as file:
        return hashlib.sha256(file.read()).hexdigest()


def features_named(names: list[str]) -> Features:
    rows = len(names)
    return Features(
        spec=spec_of(3),
        embeddings=np.zeros((rows, 3), np.float32),
        items=Items.from_rows(
            (row, f"{row:064x}", name, name, "train", name, 9, 9) for row, name in enumerate(names)
        ),
        failures=tuple(Failure("", name, "unreadable", name) for name in names),
        images=f"/{names[0]}",
    )


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.lists(NAMES, min_size=1, max_size=6))
def test_any_name_is_read_from_a_feature_file_as_it_was_written(
    tmp_path: Path, names: list[bytes]
) -> None:
    path = tmp_path / "features.h5"
    texts = [os.fsdecode(name) for name in names]
    write_features(path, features_named(texts))
    assert verify(path).whole
    found = read_features(path)
    for column in (found.items.path, found.items.label, found.items.group):
        assert [os.fsencode(text) for text in column.tolist()] == names
    assert [os.fsencode(failure.path) for failure in found.failures] == names
    assert os.fsencode(found.images) == b"/" + names[0]
    assert json.loads(json_text(texts)) == texts
    json_text(texts).encode()
    for text in texts:
        assert shown(text).isprintable()
        shown(text).encode()


@settings(
    max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.lists(NAMES, min_size=1, max_size=4, unique=True))
def test_any_name_is_exported_without_loss(tmp_path: Path, names: list[bytes]) -> None:
    arrow = pytest.importorskip("pyarrow.parquet")
    path = tmp_path / "features.h5"
    write_features(path, features_named([os.fsdecode(name) for name in names]))
    for suffix in ("npz", "csv", "parquet"):
        export_features(path, tmp_path / f"out.{suffix}")
    with np.load(tmp_path / "out.npz") as archive:
        # NumPy's text has no zeros at its end, and names have none at all.
        assert [os.fsencode(text) for text in archive["path"].tolist()] == names
    text = (tmp_path / "out.csv").read_bytes().decode("utf-8", "surrogateescape")
    rows = list(csv.DictReader(io.StringIO(text, newline="")))
    assert [os.fsencode(row["path"]) for row in rows] == names
    table = arrow.read_table(tmp_path / "out.parquet").to_pydict()
    column = "path_bytes" if "path_bytes" in table else "path"
    assert [name if isinstance(name, bytes) else name.encode() for name in table[column]] == names


@pytest.fixture
def odd_folder(tmp_path: Path) -> Path:
    root = tmp_path / "images"
    seed = 0
    for split in ("train", "valid"):
        for label in ("melanoma", "nevus"):
            folder = os.fsencode(root / split / label)
            os.makedirs(folder)
            for name in (*ODD, b"plain.jpg"):
                seed += 1
                try:
                    with open(os.path.join(folder, name), "wb") as file:
                        file.write(image_bytes(seed))
                except OSError:
                    pytest.skip("this file system does not allow such names")
    with open(os.path.join(os.fsencode(root), b"train", b"nevus", b"bad\xff\n.jpg"), "wb") as file:
        file.write(b"nothing")
    return root


def test_odd_names_are_found_and_lead_to_their_files(odd_folder: Path) -> None:
    found = find_images(odd_folder)
    assert len(found.items) == 4 * (len(ODD) + 1) + 1
    for item in found.items:
        assert (odd_folder / item.path).is_file()


@pytest.mark.slow
def test_odd_names_go_through_every_command(odd_folder: Path, tmp_path: Path) -> None:
    files = {
        sha256_of(path): os.fsencode(path)
        for path in odd_folder.rglob("*")
        if path.is_file() and path.stat().st_size > 10
    }

    def run(*words: object) -> bytes:
        """In a process of its own, with a terminal that refuses what it can't show."""
        done = subprocess.run(
            [sys.executable, *map(str, words)],
            cwd=ROOT,
            capture_output=True,
            check=False,
            timeout=300,
            env={**os.environ, "PYTHONIOENCODING": "utf-8:strict"},
        )
        assert done.returncode == 0, done.stderr.decode(errors="replace")
        assert b"Traceback" not in done.stderr
        return done.stdout

    def here(command: click.Command, *words: object) -> bytes:
        """Without the time that a process takes, on an output that is as strict."""
        done = CliRunner().invoke(command, [str(word) for word in words])
        assert done.exit_code == 0, done.stderr
        return done.stdout_bytes

    cache, bundle = tmp_path / os.fsdecode(b"f\xfc\n.h5"), tmp_path / os.fsdecode(b"-b\xfc")
    tiny = ("--weights", "untrained", "--recipe", "fast", "--size", "75")
    said = run("extract_features.py", odd_folder, *tiny, "--out", cache).decode()
    assert "56 embedded, 0 known before, 1 failed" in said
    again = here(extract_features.main, odd_folder, *tiny, "--out", cache).decode()
    assert "0 embedded, 56 known before" in again
    items = read_features(cache).items
    for path, sha256 in zip(items.path.tolist(), items.sha256.tolist(), strict=True):
        assert os.fsencode(odd_folder / path) == files[sha256]

    run("-m", "features", "inspect", cache)
    assert json.loads(here(features.__main__.main, "inspect", cache, "--json"))["images"] == 56
    here(features.__main__.main, "verify", cache)
    here(features.__main__.main, "merge", cache, "--out", tmp_path / "merged.h5")
    for suffix in ("npz", "csv", "parquet"):
        here(features.__main__.main, "export", cache, tmp_path / f"out.{suffix}")
    findings, page = tmp_path / "audit.json", tmp_path / "audit.html"
    here(features.__main__.main, "audit", cache, "--json", findings, "--html", page)
    troubles = json.loads(findings.read_bytes())["troubles"]
    assert [trouble["path"] for trouble in troubles] == ["train/nevus/bad\udcff\n.jpg"]
    page.read_bytes().decode()

    heads = ("--heads", "logistic_regression", "--folds", "3")
    run("fit_classifier.py", cache, "--out", bundle, *heads)
    (bundle / "report.html").read_bytes().decode()
    here(models.__main__.main, "show", bundle)
    told = run("-m", "models", "classify", bundle, odd_folder / "valid").decode()
    assert "M\\xfcller.jpg: " in told
    assert "two\\nlines.jpg: " in told
    classify = (models.__main__.main, "classify", bundle, odd_folder / "valid")
    listed = json.loads(here(*classify, "--json"))
    names = {os.fsencode(result["filename"]) for result in listed["results"]}
    assert names == {name for name in files.values() if b"/valid/" in name}
    text = here(*classify, "--csv")
    rows = csv.DictReader(io.StringIO(text.decode("utf-8", "surrogateescape"), newline=""))
    assert {os.fsencode(row["filename"]) for row in rows} == names
    scores = tmp_path / "scores.csv"
    evaluate = (models.__main__.main, "evaluate", bundle, cache, "--split", "valid")
    here(*evaluate, "--scores", scores)
    assert b"valid/melanoma/M\xfcller.jpg" in scores.read_bytes()
    against = ("--against", scores, "--score-column", "score")
    here(*evaluate, *against)


def test_a_name_of_an_old_archive_is_found_in_its_table(tmp_path: Path) -> None:
    """In the table of that time, in one of ours, and in one that was made anew."""
    images = tmp_path / "images"
    images.mkdir()
    for number, name in enumerate((b"M\xfcller_01.jpg", "Grün.jpg".encode(), b"plain.jpg")):
        with open(os.path.join(os.fsencode(images), name), "wb") as file:
            file.write(image_bytes(number))
    tables = {
        "old.csv": "image,label\nMüller_01,nevus\nGrün,melanoma\nplain,nevus\n".encode("cp1252"),
        "ours.csv": b"image,label\nM\xfcller_01.jpg,nevus\nGr\xc3\xbcn.jpg,melanoma\nplain,nevus\n",
        "new.csv": "image,label\nMüller_01.jpg,nevus\nGrün.jpg,melanoma\nplain,nevus\n".encode(),
    }
    for name, data in tables.items():
        (tmp_path / name).write_bytes(data)
        found = find_images(images, [LabelTable(tmp_path / name)])
        labels = {os.fsencode(item.path): item.label for item in found.items}
        assert labels == {
            b"M\xfcller_01.jpg": "nevus",
            "Grün.jpg".encode(): "melanoma",
            b"plain.jpg": "nevus",
        }, name


Bad = Callable[[Path], Path]


@pytest.mark.parametrize(
    ("out", "told"),
    [
        ("f.csv", "HDF5"),
        ("f.PARQUET", "HDF5"),
        ("x" * 250 + ".h5", "too long"),
        ("missing/f.h5", "no folder"),
        ("photo.h5", "no feature file"),
        (".", "folder"),
    ],
)
def test_a_place_that_can_t_hold_the_file_is_told_before_weights_are_read(
    run_here: Run,
    monkeypatch: pytest.MonkeyPatch,
    folder_of_images: Bad,
    tmp_path: Path,
    out: str,
    told: str,
) -> None:
    """The weights are no weights: whoever reads them first says so instead."""
    (tmp_path / "photo.h5").write_bytes(image_bytes(3))
    (tmp_path / "weights.h5").write_bytes(b"nothing")
    images = folder_of_images("a/1.jpg", "b/2.jpg")
    monkeypatch.chdir(tmp_path)
    done = run_here("extract_features.py", images, "--weights", "weights.h5", "--out", out)
    assert done.returncode == 1
    assert told in done.stderr
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["images", "photo.h5", "weights.h5"]
