"""`extract_features.py --dry-run`, and what a run says and keeps of how files were read."""

from __future__ import annotations

import csv
import io
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from features.cache.contents import read_features
from features.cache.summary import as_text, summarise
from features.cache.verification import verify
from features.console import report
from features.datasets.folders import Choices, find_images
from features.datasets.tables import LabelTable
from features.errors import CacheError
from features.extraction import extract
from features.extraction.additions import require_nothing_lost
from features.extraction.job import Job
from features.networks.registry import NETWORKS, Recipe
from tests.conftest import ROOT, Run
from tests.features.embedding.pooling_run import pooling_extractor

Make = Callable[..., Path]


@pytest.fixture
def isic(folder_of_images: Make) -> Path:
    return folder_of_images(
        *(f"train/{name}.jpg" for name in "abc"),
        *("valid/d.jpg", "valid/e.jpg", "masks/a.png", "@eaDir/a.jpg"),
    )


@pytest.fixture
def truth(tmp_path: Path) -> Path:
    path = tmp_path / "truth.csv"
    path.write_text("image;MEL;NV;lesion_id\na;1;0;L1\nb;0;1;L2\nc;0;1;L2\nd;1;0;L1\nz;1;0;L9\n")
    return path


def test_the_plan_is_told_and_no_network_is_loaded(
    isic: Path, truth: Path, tmp_path: Path, run_here: Run
) -> None:
    out = tmp_path / "features.h5"
    done = run_here("extract_features.py", isic, "--labels", truth, "--out", out, "--dry-run")
    assert done.returncode == 0, done.stderr
    for told in (
        "train: 1 MEL, 2 NV",
        "valid: 1 unlabelled, 1 MEL",
        "4 of 5 rows matched, 1 unmatched",
        "ids from image, labels from MEL and NV, groups from lesion_id",
        "folder train: the train split, by its name",
        "left out: 1 x in a folder of masks or the like",
        "groups: 4 images in 2 groups, 1 of which is in several splits",
    ):
        assert told in done.stdout
    assert not out.exists()
    code = (
        "import sys, extract_features as e\n"
        f"e.main([{str(isic)!r}, '--dry-run', '--out', {str(out)!r}], standalone_mode=False)\n"
        "print(sorted({'tensorflow', 'keras', 'openvino', 'torch'} & set(sys.modules)))"
    )
    words = [sys.executable, "-c", code]
    loaded = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=True)
    assert loaded.stdout.splitlines()[-1] == "[]"


def test_every_file_is_written_with_its_sources(isic: Path, truth: Path, run: Run) -> None:
    words = ("extract_features.py", isic, "--labels", truth, "--dry-run")
    found = json.loads(run(*words, "--json", "-").stdout)
    files = {file["path"]: file for file in found["files"]}
    assert files["train/a.jpg"] == {
        "path": "train/a.jpg",
        "label": "MEL",
        "split": "train",
        "group": "L1",
        "label_from": "truth.csv, line 2",
        "split_from": "folder train",
        "group_from": "truth.csv, line 2, lesion_id",
    }
    assert found["tables"][0]["unmatched"] == ["z"]
    assert {left["path"] for left in found["left_out"]} == {"masks/a.png", "@eaDir"}
    rows = list(csv.DictReader(io.StringIO(run(*words, "--csv", "-").stdout)))
    assert [row["label"] for row in rows if not row["left_out"]] == ["MEL", "NV", "NV", "MEL", ""]


def test_a_doubt_is_in_the_plan_and_fails(isic: Path, tmp_path: Path, run_here: Run) -> None:
    shutil.copy(isic / "train/a.jpg", isic / "valid/a.jpg")
    truth = tmp_path / "all.csv"
    truth.write_text("image,dx\na,mel\nb,nv\nb,mel\nc,nv\n")
    plan = tmp_path / "plan.json"
    done = run_here("extract_features.py", isic, "--labels", truth, "--dry-run", "--json", plan)
    assert done.returncode == 1
    last = done.stderr.splitlines()[-1]
    assert last.startswith("error: ")
    assert "has 1 id for several images" in last
    assert "Traceback" not in done.stderr
    table = json.loads(plan.read_text())["tables"][0]
    assert table["ambiguous"] == [{"id": "a", "files": ["train/a.jpg", "valid/a.jpg"]}]
    assert table["contradicting"][0].startswith("train/b.jpg is 'nv' by all.csv, line 3")


def test_an_hour_is_not_spent_on_a_doubt(isic: Path, tmp_path: Path, run_here: Run) -> None:
    (tmp_path / "t.csv").write_text("image,dx\na,mel\na,nv\n")
    weights = tmp_path / "none.h5"
    words = ("--labels", tmp_path / "t.csv", "--weights", weights, "--out", tmp_path / "f.h5")
    done = run_here("extract_features.py", isic, *words)
    assert "several differing rows" in done.stderr
    assert "none.h5" not in done.stderr


def test_the_summary_is_kept_in_the_feature_file(isic: Path, truth: Path, tmp_path: Path) -> None:
    out = tmp_path / "features.h5"
    found = find_images(isic, [LabelTable(truth)])
    extract(found, pooling_extractor(), out)
    assert verify(out).whole
    plan = read_features(out).plan
    assert plan["tables"][0]["columns"]["labels"] == ["MEL", "NV"]
    assert plan["sources"]["label"] == {"nothing": 1, "tables": 4}
    told = as_text(summarise(out))
    assert "table truth.csv: 4 of 5 rows matched" in told


def test_a_run_that_takes_something_away_needs_a_word(
    isic: Path, truth: Path, tmp_path: Path, folder_of_images: Make
) -> None:
    out = tmp_path / "features.h5"
    labelled = find_images(isic, [LabelTable(truth)])
    extract(labelled, pooling_extractor(), out)
    assert require_nothing_lost(labelled, out) == []
    with pytest.raises(CacheError, match=r"4 images would lose the label .*--replace"):
        require_nothing_lost(find_images(isic), out)
    with pytest.raises(CacheError, match="2 images would no longer be listed although still there"):
        require_nothing_lost(find_images(isic / "train", [LabelTable(truth)]), out)
    other = folder_of_images("melanoma/x.jpg", root="other")
    with pytest.raises(CacheError, match="4 images would no longer be listed"):
        require_nothing_lost(find_images(other), out)
    no_lesions = tmp_path / "no_lesions.csv"
    no_lesions.write_text("image,MEL,NV\na,1,0\nb,0,1\nc,0,1\nd,1,0\n")
    with pytest.raises(CacheError, match="this run 4 images would lose the group"):
        require_nothing_lost(find_images(isic, [LabelTable(no_lesions)]), out)
    flat = tmp_path / "flat"
    flat.mkdir()
    for item in labelled.items:
        shutil.copy(isic / item.path, flat)
    # A copy of the images elsewhere is the same data set, but tells no splits.
    with pytest.raises(CacheError, match="with this run 5 images would lose the split") as caught:
        require_nothing_lost(find_images(flat, [LabelTable(truth)]), out)
    assert "listed" not in str(caught.value)
    assert require_nothing_lost(find_images(isic), out, replace=True)
    # Both folders together lose nothing.
    both = find_images([isic, other], [LabelTable(truth)], settled=False)
    assert require_nothing_lost(both, out) == []
    # What will be otherwise than before is told.
    moved = tmp_path / "moved.csv"
    moved.write_text("image,MEL,NV\na,0,1\nb,0,1\nc,0,1\nd,1,0\n")
    changed = find_images(isic, [LabelTable(moved)], Choices({"valid": "test"}), settled=False)
    told = require_nothing_lost(changed, out, replace=True)
    assert any("1 image will have another label than before" in line for line in told)
    assert any("another split" in line and "valid, now test" in line for line in told)
    # What is gone from the disk is not this run's doing.
    shutil.rmtree(isic / "valid")
    assert require_nothing_lost(find_images(isic, [LabelTable(truth)]), out) == []


def test_both_plans_are_not_mixed(isic: Path, run_here: Run) -> None:
    done = run_here("extract_features.py", isic, "--dry-run", "--json", "-", "--csv", "-")
    assert (done.returncode, done.stdout) == (1, "")
    assert "--json and --csv can't both go to standard output" in done.stderr


def test_the_next_command_names_the_tables_of_age_and_sex(
    folder_of_images: Make, capsys: pytest.CaptureFixture[str]
) -> None:
    images = folder_of_images("a.jpg", "b.jpg")
    table = images.parent / "my table.csv"
    table.write_text("image,dx,sex,age\na,mel,M,30\nb,nv,F,40\n")
    found = find_images(images, [LabelTable(table)])
    extractor = pooling_extractor()
    outcome = extract(found, extractor, images.parent / "f.h5")
    made_by = (NETWORKS["mobilenet"], "untrained", Recipe(("out_relu",), "mean", ("identity",), 32))
    job = Job(*made_by, "auto", "auto", "", extractor.spec, found, images.parent / "f.h5")
    assert report(job, outcome) == 0
    last = capsys.readouterr().out.splitlines()[-1]
    assert last.endswith(f"--out bundle --metadata '{table}'")


def test_the_command_refuses_before_anything_is_loaded(
    isic: Path, truth: Path, tmp_path: Path, run_here: Run
) -> None:
    out = tmp_path / "features.h5"
    extract(find_images(isic, [LabelTable(truth)]), pooling_extractor(), out)
    before = out.read_bytes()
    done = run_here(
        "extract_features.py", isic / "train", "--out", out, "--weights", tmp_path / "none"
    )
    assert done.returncode == 1
    assert "would no longer be listed" in done.stderr
    assert "none" not in done.stderr.splitlines()[-1].split("--replace")[-1]
    assert out.read_bytes() == before
