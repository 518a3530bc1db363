from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from features.datasets.folders import Item
from features.errors import DatasetError
from features.extraction.shards.planning import into_shards, number_of_shards, state_of_file

NAMES = [f"train/melanoma/ISIC_{number:07d}.jpg" for number in range(2_000)]


def dealt(names: list[str], of: int, **more: object) -> list[set[str]]:
    items = [Item(name) for name in names]
    shards = into_shards(items, "f" * 64, root="/nowhere", of=of, **more)
    assert [shard.number for shard in shards] == list(range(1, of + 1))
    return [{item.path for item in shard.items} for shard in shards]


def test_the_shard_is_the_hash_s_place_on_a_line_cut_in_equal_pieces() -> None:
    for number, names in enumerate(dealt(NAMES, 7)):
        for name in names:
            place = int(hashlib.sha256(name.encode()).hexdigest()[:16], 16)
            assert place * 7 // 2**64 == number


def test_every_image_is_in_one_shard_and_they_are_about_as_large() -> None:
    shards = dealt(NAMES, 16)
    assert sorted(name for shard in shards for name in shard) == NAMES
    # Five standard deviations about 125.
    assert all(71 <= len(shard) <= 179 for shard in shards)


def test_an_image_more_or_less_and_another_order_touch_one_shard() -> None:
    before = dealt(NAMES, 16)
    after = dealt([*NAMES[1:][::-1], "train/nevus/new.jpg"], 16)
    touched = [one ^ other for one, other in zip(before, after, strict=True)]
    assert set().union(*touched) == {NAMES[0], "train/nevus/new.jpg"}


def test_twice_as_many_shards_are_halves_of_those_before() -> None:
    halves, whole = dealt(NAMES, 16), dealt(NAMES, 8)
    assert [halves[2 * at] | halves[2 * at + 1] for at in range(8)] == whole


def test_a_size_gives_a_power_of_two_that_lasts() -> None:
    assert [number_of_shards(n, 100) for n in (0, 1, 100, 101, 399, 400, 401)] == [
        1, 1, 1, 2, 4, 4, 8,
    ]  # fmt: skip
    with pytest.raises(DatasetError, match="got shards of 0 images"):
        number_of_shards(10, 0)
    with pytest.raises(DatasetError, match="got 0 shards, expected 1 to 99,999"):
        dealt(NAMES, 0)


def test_the_key_is_of_all_that_the_shard_is_made_of(tmp_path: Path) -> None:
    for name in ("a.jpg", "c.jpg"):
        (tmp_path / name).write_bytes(b"one")
        os.utime(tmp_path / name, ns=(10**18, 10**18))
    items = [Item("a.jpg", "nevus", "train", "p1"), Item("c.jpg", "nevus", "train", "p2")]

    def keys(items: list[Item] = items, of: int = 2, fingerprint: str = "f") -> list[str]:
        shards = into_shards(items, fingerprint, root=tmp_path, of=of)
        found = [[item.path for item in shard.items] for shard in shards]
        assert found == [["a.jpg"], ["c.jpg"]]
        return [shard.key for shard in shards]

    first = keys()
    assert keys() == first
    assert keys(fingerprint="g")[0] != first[0]
    for other in (
        Item("a.jpg", "melanoma", "train", "p1"),
        Item("a.jpg", "nevus", "valid", "p1"),
        Item("a.jpg", "nevus", "train", "p3"),
    ):
        changed = keys([other, items[1]])
        assert (changed[0] == first[0], changed[1] == first[1]) == (False, True)
    os.utime(tmp_path / "a.jpg", ns=(10**18, 10**18 + 1))
    assert (keys()[0] == first[0], keys()[1] == first[1]) == (False, True)


def test_the_key_of_a_shard_stays_what_it_was_when_first_looked_at(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(b"one")
    (shard,) = into_shards([Item("a.jpg")], "f", root=tmp_path, of=1)
    key = shard.key
    (tmp_path / "a.jpg").write_bytes(b"three")
    assert shard.key == key
    assert into_shards([Item("a.jpg")], "f", root=tmp_path, of=1)[0].key != key


def test_a_member_of_an_archive_is_as_old_as_the_archive(tmp_path: Path) -> None:
    packed = tmp_path / "images.zip"
    packed.write_bytes(b"12345")
    assert state_of_file(f"{packed}/train/a.jpg") == f"5 {packed.stat().st_mtime_ns}"
    assert state_of_file(str(tmp_path / "gone.jpg")) == ""
