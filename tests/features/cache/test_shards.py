"""A folder of shards is taken for a feature file: the same content, or one clear sentence."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from features.__main__ import main
from features.cache.contents import Failure, Features, Items, read_features, write_features
from features.cache.export import export_features
from features.cache.merge import merge_features
from features.cache.shards.folder import open_shards
from features.cache.shards.marks import Mark
from features.cache.summary import summarise
from features.cache.verification import verify
from features.errors import CacheError, CacheMismatch
from tests.features.cache.test_contents import SPEC

WIDTH = SPEC.width
ROWS = (3, 0, 5)


def features_of(part: int, rows: int) -> Features:
    rng = np.random.default_rng(part)
    failed = [Failure("f" * 64, f"{part}/broken.jpg", "truncated", "it ends too soon")] * (
        part == 2
    )
    items = Items.from_rows(
        (
            row,
            hashlib.sha256(f"{part} {row}".encode()).hexdigest(),
            f"{part}/{row}.jpg",
            "melanoma" if row % 2 else "nevus",
            "train" if row else "test",
            f"p{row}",
            100 + part,
            80,
        )
        for row in range(rows)
    )
    embeddings = rng.normal(size=(rows, WIDTH)).astype(np.float32)
    return Features(
        SPEC, embeddings, items, tuple(failed), images="/photos", created="2026-01-01T00:00:00"
    )


def write_shard(folder: Path, number: int, features: Features, of: int = len(ROWS)) -> Path:
    folder.mkdir(exist_ok=True)
    path = folder / f"shard-{number:05d}-of-{of:05d}.h5"
    write_features(path, features)
    data = path.read_bytes()
    there = int((features.items.path != "").sum())
    mark = Mark(
        number=number, of=of, key="0" * 64, sha256=hashlib.sha256(data).hexdigest(),
        bytes=len(data), extractor=features.spec.as_dict(), dtype="float32",
        rows=len(features.embeddings), items=there, gone=len(features.items) - there,
        failures=len(features.failures), images_sha256="0" * 64, images=features.images,
        created=features.created,
    )  # fmt: skip
    path.with_suffix(".json").write_text(mark.as_text())
    return path


@pytest.fixture
def parts() -> list[Features]:
    found = [features_of(part, rows) for part, rows in enumerate(ROWS)]
    # The first image of the first shard lies in the third, too, under another name.
    found[2].items.sha256[4] = found[0].items.sha256[0]
    return found


@pytest.fixture
def folder(parts: list[Features], tmp_path: Path) -> Path:
    for number, part in enumerate(parts, start=1):
        write_shard(tmp_path / "shards", number, part)
    return tmp_path / "shards"


# In memory as float32, as they are stored, and left in the files.
SIZES = [{}, {"small": 0}, {"small": 0, "held": 0}]


@pytest.mark.parametrize("sizes", SIZES, ids=["float32", "held", "in the files"])
def test_a_folder_reads_as_its_shards_one_under_the_other(
    folder: Path, parts: list[Features], sizes: dict[str, int]
) -> None:
    found = read_features(folder, **sizes)
    assert len(found.items) == 8
    for name in ("sha256", "path", "label", "split", "group", "width", "height"):
        expected = np.concatenate([getattr(part.items, name) for part in parts])
        np.testing.assert_array_equal(getattr(found.items, name), expected)
    # The copy has the row of the first.
    assert found.items.row.tolist() == [0, 1, 2, 3, 4, 5, 6, 0]
    expected = np.concatenate(
        [parts[0].embeddings, parts[2].embeddings[:4], parts[0].embeddings[:1]]
    )
    np.testing.assert_array_equal(found.embedded(found.items), expected)
    assert found.failures[0].path == "2/broken.jpg"
    assert len(found.failures) == 1
    assert (found.spec, found.images, found.marks) == (SPEC, "/photos", ("untrained",))


def test_columns_of_some_items_are_read_where_those_are(
    folder: Path, parts: list[Features], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("features.cache.shards.folder._PIECE", 2)
    few = read_features(folder).items.take(np.array([7, 3, 4, 3]))
    places = [4, 0, 1, 0]
    for name in ("sha256", "path", "label", "width"):
        np.testing.assert_array_equal(getattr(few, name), getattr(parts[2].items, name)[places])
    assert few.row.tolist() == [0, 3, 4, 3]
    few.row[:] = 9
    assert read_features(folder).items.row.tolist() == [0, 1, 2, 3, 4, 5, 6, 0]
    # None of these is in the first shard, so nobody looks whether it is still whole.
    few = read_features(folder).items.take(np.array([3, 5]))
    (folder / "shard-00001-of-00003.h5").write_bytes(b"damaged")
    assert few.path.tolist() == ["2/0.jpg", "2/2.jpg"]


def test_rows_are_read_across_shards_in_any_order(folder: Path, parts: list[Features]) -> None:
    found = read_features(folder, small=0, held=0)
    every = np.concatenate([part.embeddings for part in parts])
    rows = found.rows(found.items)
    every = every[found.items.row]
    for where in (slice(2, 5), np.array([7, 0, 6, 6]), np.array([5]), slice(0, 0)):
        np.testing.assert_array_equal(rows.take(where).whole(), every[where])
    assert [len(block) for block in rows.blocks(3)] == [3, 3, 2]


def test_items_are_selected_and_replaced_as_those_of_a_file(folder: Path) -> None:
    items = read_features(folder).items
    test = items.take(items.split == "test")
    assert test.path.tolist() == ["0/0.jpg", "2/0.jpg"]
    assert test.take(np.array([1])).path.tolist() == ["2/0.jpg"]
    assert len(test.take(np.array([False, True]))) == 1
    again = replace(items, label=np.full(8, "x"))
    assert (len(again), set(again.label), again.path[0]) == (8, {"x"}, "0/0.jpg")
    assert again.take(np.array([3])).path.tolist() == ["2/0.jpg"]
    assert items.there() is items
    assert [len(piece) for piece in items.pieces()] == list(ROWS)
    with pytest.raises(AttributeError):
        _ = items.nothing


def test_what_is_gone_is_not_there(folder: Path, parts: list[Features]) -> None:
    parts[0].items.path[1] = ""
    write_shard(folder, 1, parts[0])
    items = read_features(folder).items
    assert items.there().path.tolist() == ["0/0.jpg", "0/2.jpg", *(f"2/{n}.jpg" for n in range(5))]
    assert summarise(folder)["gone"] == 1


def test_files_are_looked_at_when_their_rows_are(folder: Path) -> None:
    found = read_features(folder, small=0, held=0)
    damaged = bytearray((folder / "shard-00003-of-00003.h5").read_bytes())
    damaged[-1] ^= 1
    (folder / "shard-00003-of-00003.h5").write_bytes(damaged)
    assert found.embeddings[:3].shape == (3, WIDTH)
    with pytest.raises(
        CacheError, match=r"00003-of-00003.h5 is not the file that .* is of: make it"
    ):
        _ = found.embeddings[2:4]
    with pytest.raises(CacheError, match="is not the file that"):
        _ = found.items.path


def test_a_file_that_changes_while_it_is_read_is_refused(
    folder: Path, parts: list[Features]
) -> None:
    found = read_features(folder, small=0, held=0)
    assert found.items.path[0] == "0/0.jpg"
    write_shard(folder, 1, parts[0])
    with pytest.raises(CacheError, match="was replaced or altered while it was being read"):
        _ = found.embeddings[:1]


def edit(folder: Path, shard: int, /, **values: object) -> None:
    path = folder / f"shard-{shard:05d}-of-00003.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


def other_fingerprint(folder: Path) -> None:
    write_shard(folder, 2, replace(features_of(1, 0), spec=replace(SPEC, precision="bf16")))


REFUSED: dict[str, tuple[Callable[[Path], object], str]] = {
    "one missing": (
        lambda folder: (folder / "shard-00002-of-00003.json").unlink(),
        r"lacks 1 of 3 shards \(2\): make them with `python extract_features.py /photos --out .* "
        "--shards 3` and the options of the others",
    ),
    "two missing": (
        lambda folder: [(folder / f"shard-0000{n}-of-00003.json").unlink() for n in (1, 3)],
        r"lacks 2 of 3 shards \(1 and 3\)",
    ),
    "none done": (
        lambda folder: [place.unlink() for place in folder.glob("*.json")],
        "none of the shards in .* is done: run the command again",
    ),
    "mark without file": (
        lambda folder: (folder / "shard-00003-of-00003.h5").unlink(),
        "00003-of-00003.h5 is missing, although its mark is there: make it again",
    ),
    "cut file": (
        lambda folder: (folder / "shard-00003-of-00003.h5").write_bytes(b"cut"),
        "00003-of-00003.h5 was altered, although its mark is there",
    ),
    "damaged mark": (
        lambda folder: (folder / "shard-00001-of-00003.json").write_text("{"),
        "00001-of-00003.json is not the mark of a shard .*: delete it and make the shard again",
    ),
    "mark that is all brackets": (
        lambda folder: (folder / "shard-00001-of-00003.json").write_text("[" * 200_000),
        "00001-of-00003.json is not the mark of a shard",
    ),
    "mark without a field": (
        lambda folder: (folder / "shard-00001-of-00003.json").write_text(
            '{"format": "lesion-features-shard", "version": 1}'
        ),
        "00001-of-00003.json is not the mark of a shard .'number'.",
    ),
    "mark with a wrong type": (
        lambda folder: edit(folder, 1, rows="3"),
        "is not the mark of a shard .its rows is '3'.",
    ),
    "mark of a later version": (
        lambda folder: edit(folder, 1, version=9),
        "its version is 9, this program's is 1",
    ),
    "mixed up": (
        lambda folder: edit(folder, 1, number=2),
        "00001-of-00003.json is the mark of shard 2 of 3: files were renamed or mixed up",
    ),
    "another number": (
        lambda folder: write_shard(folder, 1, features_of(0, 3), of=2),
        "00001-of-00002.h5 is one of 2 shards and shard-00001-of-00003.h5 one of 3",
    ),
    "another fingerprint": (other_fingerprint, "precision fp32 against bf16"),
    "another type": (
        lambda folder: edit(folder, 3, dtype="float16"),
        "00001-of-00003.h5 holds float32 and shard-00003-of-00003.h5 float16: make one",
    ),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_what_is_no_whole_set_of_shards_is_refused_in_a_sentence(folder: Path, kind: str) -> None:
    spoil, told = REFUSED[kind]
    spoil(folder)
    with pytest.raises(CacheError, match=told) as caught:
        read_features(folder)
    assert isinstance(caught.value, CacheMismatch) == kind.startswith("another")


def test_commands_take_the_folder(folder: Path, parts: list[Features], tmp_path: Path) -> None:
    one = tmp_path / "one.h5"
    merged = merge_features([folder], one)
    assert (merged.images, merged.rows, merged.repeated) == (8, 7, 1)
    whole, shards = summarise(one), summarise(folder)
    differing = {name for name in whole if whole[name] != shards[name]}
    # The copy's second row stays in its file.
    assert differing == {"file", "bytes", "embeddings", "created", "software"}
    assert (shards["shards"], shards["duplicates"]) == ({"of": 3, "missing": []}, 1)
    for suffix in ("csv", "npz", "parquet"):
        out, same = tmp_path / f"a.{suffix}", tmp_path / f"b.{suffix}"
        assert export_features(folder, out) == export_features(one, same) == 8
    lines = [(tmp_path / name).read_text().splitlines() for name in ("a.csv", "b.csv")]
    assert sorted(lines[0]) == sorted(lines[1])
    assert verify(folder).whole


def test_an_unfinished_folder_is_inspected_and_the_missing_are_named(folder: Path) -> None:
    (folder / "shard-00003-of-00003.json").unlink()
    done = CliRunner().invoke(main, ["inspect", str(folder)])
    assert done.exit_code == 0
    assert "shards       2 of 3; missing: 3" in done.output.splitlines()
    assert "images       3 from /photos" in done.output.splitlines()


def test_verify_says_in_which_shard_damage_is(folder: Path, parts: list[Features]) -> None:
    path = folder / "shard-00003-of-00003.h5"
    data = path.read_bytes()
    row = parts[2].embeddings[1].tobytes()
    path.write_bytes(data.replace(row, row[:-1] + bytes([row[-1] ^ 1])))
    found = verify(folder)
    assert (found.whole, found.altered) == (
        False,
        ("shard-00003-of-00003.h5: embeddings, rows 0 to 4",),
    )


def test_an_empty_folder_of_shards_is_none(tmp_path: Path) -> None:
    with pytest.raises(CacheError, match="is a folder, and here a feature file is expected"):
        read_features(tmp_path)


def test_failures_and_bounds_need_no_file(folder: Path) -> None:
    shards = open_shards(folder)
    for path in shards.files:
        path.unlink()
    assert (shards.row_bounds, shards.part_bounds) == ([(0, 3), (3, 3), (3, 8)],) * 2
    assert shards.failures(0) == []
