from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from features.extraction import remembered as module
from features.extraction.remembered import Remembered
from features.images.reading import file_state
from features.images.sources.files import file_digest


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LESION_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(module, "_RACY_NS", 0)
    return tmp_path / "cache"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "images"
    folder.mkdir()
    for number in range(1200):
        (folder / f"{number}.jpg").write_bytes(str(number).encode())
    # A name that is no UTF-8.
    (folder / os.fsdecode(b"\xff.jpg")).write_bytes(b"odd")
    return folder


def keep(folder: Path) -> list[str]:
    names = sorted(os.listdir(folder))
    with Remembered(folder) as kept:
        assert list(kept.hashes(names)) == [""] * len(names)
        for name in names:
            state = file_state(str(folder / name))
            assert state is not None
            kept.keep(name, state, file_digest(folder / name))
    return names


def known(folder: Path, names: list[str]) -> dict[str, str]:
    with Remembered(folder) as kept:
        return dict(zip(names, kept.hashes(names), strict=True))


def test_files_that_did_not_change_are_known(folder: Path) -> None:
    names = keep(folder)
    assert known(folder, names) == {name: file_digest(folder / name) for name in names}


def test_what_changed_in_any_way_is_read_again(folder: Path, tmp_path: Path) -> None:
    names = keep(folder)
    before = (folder / "1.jpg").stat()
    # As long as before, and with its old time of change put back.
    (folder / "1.jpg").write_bytes(b"2")
    os.utime(folder / "1.jpg", ns=(before.st_atime_ns, before.st_mtime_ns))
    (folder / "2.jpg").write_bytes(b"longer")
    (folder / "3.jpg").unlink()
    shutil.copy2(folder / "4.jpg", tmp_path / "other.jpg")
    os.replace(tmp_path / "other.jpg", folder / "4.jpg")
    found = known(folder, names)
    assert {name for name in names if not found[name]} == {"1.jpg", "2.jpg", "3.jpg", "4.jpg"}


def test_a_file_changed_just_before_it_was_read_is_not_trusted(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_RACY_NS", 2_000_000_000)
    names = keep(folder)
    assert not any(known(folder, names).values())


def test_folders_are_kept_apart(folder: Path, tmp_path: Path) -> None:
    names = keep(folder)
    other = tmp_path / "others"
    shutil.copytree(folder, other)
    assert not any(known(other, names).values())


@pytest.mark.parametrize("damage", ["damaged", "no folder"])
def test_without_a_place_to_remember_files_are_read(folder: Path, cache: Path, damage: str) -> None:
    names = keep(folder)
    if damage == "damaged":
        for file in (cache / "hashes").iterdir():
            file.write_bytes(b"no database" * 1000)
    else:
        shutil.rmtree(cache)
        cache.write_text("a file where the folder should be")
    assert not any(known(folder, names).values())
