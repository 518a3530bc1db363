from __future__ import annotations

import csv
import json
import resource
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from filelock import FileLock

from features.cache.contents import Failure, Features, Items, read_features, write_features
from features.cache.verification import verify
from features.datasets.folders import find_images
from features.extraction import extract
from tests.conftest import ROOT, Run
from tests.features.cache.old_version import as_version_1
from tests.features.cache.test_contents import SPEC, example
from tests.features.embedding.pooling_run import pooling_extractor
from tests.pictures import image_bytes

Row = tuple[str, str, str, str, str]


def made(path: Path, rows: Sequence[Row], images: str = "/images", **more: object) -> Path:
    """Write a feature file of (sha256, path, label, split, group); equal images, equal numbers."""
    distinct = list(dict.fromkeys(row[0] for row in rows))
    embeddings = [
        np.random.default_rng(list(sha256.encode())).normal(size=5).astype(np.float32)
        for sha256 in distinct
    ]
    features = Features(
        spec=SPEC,
        embeddings=np.array(embeddings, np.float32).reshape(-1, 5),
        items=Items.from_rows((distinct.index(row[0]), *row, 640, 480) for row in rows),
        images=images,
    )
    dtype = more.pop("dtype", np.float32)
    write_features(path, replace(features, **more), dtype=dtype)
    return path


def ask(run: Run, *words: object) -> subprocess.CompletedProcess[str]:
    """By `run` in a process of its own, by `run_here` in this one."""
    done = run("-m", "features", *words)
    assert "Traceback" not in done.stderr
    if done.returncode:
        assert done.stderr.splitlines()[-1].startswith("error: ")
    return done


@pytest.fixture
def written(tmp_path: Path) -> Path:
    path = tmp_path / "features.h5"
    write_features(path, example(200))
    return path


def test_verify_says_whether_and_where_a_byte_was_altered(run: Run, written: Path) -> None:
    done = ask(run, "verify", written)
    assert (done.returncode, done.stdout) == (0, f"{written}: every byte is as it was written\n")
    content = bytearray(written.read_bytes())
    content[content.index(example(200).embeddings[70].tobytes()) + 2] ^= 1
    written.write_bytes(content)
    done = ask(run, "verify", written)
    assert done.returncode == 1
    assert "damaged: embeddings, rows 64 to 127" in done.stderr
    found = json.loads(ask(run, "verify", written, "--json").stdout)
    assert found["altered"] == ["embeddings, rows 64 to 127"]
    assert found["whole"] is False
    for command in ("inspect", "verify"):
        assert ask(run, command, written).returncode == 1


def test_verify_says_that_an_old_file_holds_no_checksums_and_merge_adds_them(
    run_here: Run, written: Path, tmp_path: Path
) -> None:
    as_version_1(written)
    done = ask(run_here, "verify", written)
    assert done.returncode == 1
    assert "version 1 and holds no checksums" in done.stderr
    new = tmp_path / "new.h5"
    assert ask(run_here, "merge", written, "--out", new).returncode == 0
    assert ask(run_here, "verify", new).returncode == 0
    merged = read_features(new)
    order = np.argsort(merged.items.sha256)
    np.testing.assert_array_equal(
        merged.embedded(merged.items.take(order)), example(200).embeddings
    )


def test_inspect_tells_what_a_person_wants_to_know(run_here: Run, tmp_path: Path) -> None:
    path = made(
        tmp_path / "f.h5",
        [
            ("a", "train/melanoma/1.jpg", "melanoma", "train", "g1"),
            ("b", "train/nevus/2.jpg", "nevus", "train", "g2"),
            ("b", "valid/nevus/2.jpg", "nevus", "valid", ""),
            ("c", "", "", "", ""),
        ],
        failures=(Failure("f" * 64, "x.jpg", "truncated", "cut"),),
        synthetic=True,
    )
    told = ask(run_here, "inspect", path).stdout
    for words in (
        "inception_v3, 75 pixels",
        SPEC.fingerprint,
        "train      1 melanoma, 1 nevus",
        "valid      1 nevus",
        "duplicates   1 file with",
        "gone         1 embeddings",
        "failures     1 (1 truncated)",
        "UNTRAINED: The network's weights are random",
        "SYNTHETIC: It was made from drawn images",
        "640 x 480",
        "numpy",
    ):
        assert words in told
    found = json.loads(ask(run_here, "inspect", path, "--json").stdout)
    assert found["counts"] == {"train": {"melanoma": 1, "nevus": 1}, "valid": {"nevus": 1}}
    assert (found["images"], found["duplicates"], found["gone"], found["groups"]) == (3, 1, 1, 2)
    assert found["marks"] == ["untrained", "synthetic"]
    assert found["embeddings"] == {"rows": 3, "dim": 5, "dtype": "float32"}


def test_export_gives_the_same_numbers_in_every_format(run_here: Run, tmp_path: Path) -> None:
    rows = [(f"{n % 7}", f"é{n:04d}.jpg", "nevus", "train", "") for n in range(2500)]
    path = made(tmp_path / "f.h5", [*rows, ("gone", "", "", "", "")])
    features = read_features(path)
    expected = features.embedded(features.items)[:2500]
    for suffix in ("npz", "csv", "parquet"):
        if suffix == "parquet":
            pytest.importorskip("pyarrow")
        done = ask(run_here, "export", path, tmp_path / f"out.{suffix}")
        assert done.returncode == 0, done.stderr
        assert "2,500 images" in done.stdout
        assert "UNTRAINED" in done.stdout

    with np.load(tmp_path / "out.npz") as archive:
        np.testing.assert_array_equal(archive["embeddings"], expected)
        assert archive["path"].tolist() == [row[1] for row in rows]
        assert str(archive["fingerprint"]) == SPEC.fingerprint
        assert json.loads(str(archive["extractor"])) == SPEC.as_dict()
        assert str(archive["marks"]) == "untrained"

    with (tmp_path / "out.csv").open(encoding="utf-8", newline="") as file:
        read = list(csv.DictReader(file))
    numbers = np.array([[row[f"e{n}"] for n in range(5)] for row in read], np.float32)
    np.testing.assert_array_equal(numbers, expected)
    assert read[3]["path"] == "é0003.jpg"
    assert read[3]["marks"] == "untrained"

    parquet = pytest.importorskip("pyarrow.parquet")
    table = parquet.read_table(tmp_path / "out.parquet")
    np.testing.assert_array_equal(np.array(table["embedding"].to_pylist(), np.float32), expected)
    assert table["path"].to_pylist() == [row[1] for row in rows]
    assert table.schema.metadata[b"fingerprint"].decode() == SPEC.fingerprint


def test_parquet_without_its_library_is_told_and_leaves_nothing(
    written: Path, tmp_path: Path
) -> None:
    hide = "import sys; sys.modules['pyarrow'] = None; sys.argv[0] = 'features'; "
    start = "import runpy; runpy.run_module('features', run_name='__main__')"
    out = tmp_path / "out.parquet"
    done = subprocess.run(
        [sys.executable, "-c", hide + start, "export", str(written), str(out)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "Parquet needs the library pyarrow" in done.stderr
    assert "Traceback" not in done.stderr
    assert {path.name for path in tmp_path.iterdir()} == {"features.h5"}


@pytest.mark.parametrize("suffix", ["npz", "csv", "parquet", "h5"])
def test_a_full_disk_is_told_and_leaves_nothing_half_written(
    run: Run, tmp_path: Path, suffix: str
) -> None:
    if suffix == "parquet":
        pytest.importorskip("pyarrow")
    rows = [(f"{n}", f"{n:04d}.jpg", "nevus", "train", "") for n in range(1000)]
    path = made(tmp_path / "f.h5", rows)
    out = tmp_path / f"out.{suffix}"
    words = ["merge", path, "--out", out] if suffix == "h5" else ["export", path, out]

    def limited() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))

    done = run("-m", "features", *words, preexec_fn=limited)
    assert (done.returncode, done.stderr) == (
        1,
        f"error: {out} can't be written (the disk is full): "
        "free some space and run the same command again\n",
    )
    assert {each.name for each in tmp_path.iterdir()} <= {"f.h5", ".out.h5.lock"}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["export", "{file}", "{folder}/out.xls"], "one of .npz, .parquet, .csv"),
        (["export", "{file}", "{file}"], "exists: give another name, or --overwrite"),
        (["export", "{file}", "{folder}/none/out.csv"], "there is no folder"),
        (["export", "{folder}/none.h5", "{folder}/out.csv"], "none.h5 does not exist"),
        (["merge", "{file}", "--out", "{file}"], "exists: give another name, or --overwrite"),
        (["merge", "{folder}/none.h5", "--out", "{folder}/m.h5"], "none.h5 does not exist"),
        (["inspect", "{folder}"], "is a folder, and here a feature file is expected"),
        (["verify", "{folder}/none.h5"], "does not exist"),
    ],
)
def test_bad_input_gets_one_sentence_and_leaves_nothing(
    run_here: Run, written: Path, tmp_path: Path, words: list[str], message: str
) -> None:
    before = written.read_bytes()
    done = ask(run_here, *(word.format(file=written, folder=tmp_path) for word in words))
    assert done.returncode == 1
    assert message in done.stderr
    assert written.read_bytes() == before
    left = {path.name for path in tmp_path.iterdir()} - {".m.h5.lock"}
    assert left == {"features.h5"}


def test_merge_keeps_every_image_once(run_here: Run, tmp_path: Path) -> None:
    a = made(
        tmp_path / "a.h5",
        [("1", "b.jpg", "nevus", "train", ""), ("2", "d.jpg", "", "", "")],
        dtype=np.float16,
    )
    b = made(
        tmp_path / "b.h5",
        [
            ("3", "a.jpg", "melanoma", "train", ""),
            ("1", "b.jpg", "melanoma", "valid", "g"),
            ("1", "c.jpg", "nevus", "train", ""),
            ("2", "d.jpg", "nevus", "test", ""),
            ("4", "", "", "", ""),
        ],
        failures=(Failure("f" * 64, "x.jpg", "truncated", "cut"),),
    )
    out = tmp_path / "c.h5"
    done = ask(run_here, "merge", a, b, "--out", out)
    assert done.returncode == 0, done.stderr
    assert "4 images and 4 embeddings" in done.stdout
    assert f"b.jpg: label melanoma in {b}, nevus before; the first is kept" in done.stderr
    assert f"b.jpg: split valid in {b}, train before; the first is kept" in done.stderr
    assert done.stderr.count("note:") == 2
    merged = read_features(out)
    items = merged.items
    assert items.path.tolist() == ["a.jpg", "b.jpg", "c.jpg", "d.jpg", ""]
    assert items.row.tolist() == [0, 1, 1, 2, 3]
    assert items.label.tolist() == ["melanoma", "nevus", "nevus", "nevus", ""]
    assert items.group.tolist() == ["", "g", "", "", ""]
    assert [failure.path for failure in merged.failures] == ["x.jpg"]
    other = read_features(b)
    np.testing.assert_array_equal(merged.embeddings[0], other.embeddings[0])
    np.testing.assert_allclose(merged.embeddings[1], other.embeddings[1], rtol=1e-3)
    assert verify(out).whole
    again = ask(run_here, "merge", a, b, "--out", out, "--overwrite")
    assert again.returncode == 0, again.stderr


def test_merge_of_different_folders_tells_their_files_apart(run_here: Run, tmp_path: Path) -> None:
    a = made(tmp_path / "a.h5", [("1", "x.jpg", "nevus", "", "")], images="/data/one")
    b = made(
        tmp_path / "b.h5",
        [("2", "x.jpg", "nevus", "", ""), ("1", "y.jpg", "nevus", "", "")],
        images="/data/two/deep",
    )
    out = tmp_path / "c.h5"
    assert ask(run_here, "merge", a, b, "--out", out).returncode == 0
    merged = read_features(out)
    assert merged.images == "/data"
    assert merged.items.path.tolist() == ["one/x.jpg", "two/deep/x.jpg", "two/deep/y.jpg"]
    assert merged.items.row.tolist() == [0, 1, 0]


def test_merge_of_different_extractors_is_refused_with_the_difference(
    run_here: Run, tmp_path: Path
) -> None:
    a = made(tmp_path / "a.h5", [("1", "x.jpg", "", "", "")])
    b = made(tmp_path / "b.h5", [("2", "y.jpg", "", "", "")], spec=replace(SPEC, input_size=80))
    done = ask(run_here, "merge", a, b, "--out", tmp_path / "c.h5")
    assert done.returncode == 1
    assert "input size 75 against 80" in done.stderr
    assert not (tmp_path / "c.h5").exists()


def test_merge_waits_for_no_other_writer(run_here: Run, written: Path, tmp_path: Path) -> None:
    with FileLock(tmp_path / ".c.h5.lock"):
        done = ask(run_here, "merge", written, "--out", tmp_path / "c.h5")
    assert done.returncode == 1
    assert "another process is writing" in done.stderr


def test_images_of_merged_files_are_known_to_the_next_run(run_here: Run, tmp_path: Path) -> None:
    for part in ("one", "two"):
        (tmp_path / "images" / part / "nevus").mkdir(parents=True)
        for seed in range(3):
            image = image_bytes(seed if part == "one" else 10 + seed)
            (tmp_path / "images" / part / "nevus" / f"{seed}.jpg").write_bytes(image)
        found = find_images(tmp_path / "images" / part)
        extract(found, pooling_extractor(), tmp_path / f"{part}.h5")
    out = tmp_path / "both.h5"
    assert (
        ask(run_here, "merge", tmp_path / "one.h5", tmp_path / "two.h5", "-o", out).returncode == 0
    )
    outcome = extract(find_images(tmp_path / "images"), pooling_extractor(), out)
    assert (outcome.embedded, outcome.known) == (0, 6)
