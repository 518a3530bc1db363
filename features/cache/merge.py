"""Several feature files of the same fingerprint to one."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import filelock
import numpy as np

from features.cache.contents import (
    Failure,
    Features,
    Items,
    read_without_embeddings,
    write_features,
)
from features.cache.safe_files import open_features
from features.cache.shards.folder import open_shards
from features.cache.shards.places import is_shard_folder
from features.cache.writer import explained, gathered
from features.errors import CacheError

__all__ = ["Merged", "merge_features"]

# Row, sha256, path, label, split, group, width, height.
_Entry = tuple[int, str, str, str, str, str, int, int]


@dataclass(frozen=True)
class Merged:
    """What a merge did.

    Parameters
    ----------
    images : int
        Image files in the merged feature file.
    rows : int
        Embeddings in it.
    repeated : int
        Images that several feature files held.
    notes : tuple of str
        What contradicts itself, in sentences.
    """

    images: int
    rows: int
    repeated: int
    notes: tuple[str, ...] = ()


@dataclass
class _Union:
    """The images of the files seen so far."""

    entries: dict[tuple[str, str], _Entry] = field(default_factory=dict)
    by_path: dict[str, str] = field(default_factory=dict)
    places: dict[str, tuple[Path, int]] = field(default_factory=dict)
    sizes: dict[str, tuple[int, int]] = field(default_factory=dict)
    failures: dict[tuple[str, str], Failure] = field(default_factory=dict)
    repeated: int = 0
    notes: list[str] = field(default_factory=list)

    def add(self, file: Path, features: Features, prefix: str) -> None:
        """Take in the images of one more file; `prefix` goes before its paths."""
        before = set(self.places)
        items = features.items
        columns = (getattr(items, name).tolist() for name in Items.__dataclass_fields__)
        for entry in zip(*columns, strict=True):
            row, sha256, path = entry[:3]
            self.repeated += sha256 in before
            self.places.setdefault(sha256, (file, row))
            self.sizes.setdefault(sha256, (entry[6], entry[7]))
            if path:
                self._add_file(file, entry, prefix)
        for failure in features.failures:
            moved = replace(failure, path=prefix + failure.path)
            self.failures.setdefault((failure.sha256, failure.path), moved)

    def _add_file(self, file: Path, entry: _Entry, prefix: str) -> None:
        sha256, path = entry[1:3]
        known = self.entries.get((sha256, path))
        if known is not None:
            told = [self._agreed(file, known, entry, column) for column in (3, 4, 5)]
            self.entries[sha256, path] = (*known[:3], told[0], told[1], told[2], *known[6:])
            return
        full = prefix + path
        if self.by_path.setdefault(full, sha256) != sha256:
            self.notes.append(
                f"{path}: another image in {file} than before; the first is kept under this path"
            )
            return
        self.entries[sha256, path] = (*entry[:2], full, *entry[3:])

    def _agreed(self, file: Path, known: _Entry, entry: _Entry, column: int) -> str:
        ours, theirs = str(known[column]), str(entry[column])
        if ours and theirs and ours != theirs:
            name = tuple(Items.__dataclass_fields__)[column]
            self.notes.append(
                f"{entry[2]}: {name} {theirs} in {file}, {ours} before; the first is kept"
            )
        return ours or theirs

    def items(self) -> tuple[Items, list[tuple[Path, int]]]:
        """Give the entries in the order of their paths, and where each row comes from."""
        listed = sorted(self.entries.values(), key=lambda entry: entry[2])
        there = {entry[1] for entry in listed}
        listed += [
            (0, sha256, "", "", "", "", *self.sizes[sha256])
            for sha256 in sorted(self.places.keys() - there)
        ]
        rows: dict[str, int] = {}
        numbered = [(rows.setdefault(entry[1], len(rows)), *entry[1:]) for entry in listed]
        return Items.from_rows(numbered), [self.places[sha256] for sha256 in rows]


def merge_features(files: Sequence[str | Path], out: str | Path) -> Merged:
    """Join feature files of the same fingerprint; memory does not grow with their embeddings.

    An image that several files hold is kept once. Where the files were made from different
    folders, paths become relative to the folder that holds them all.

    Parameters
    ----------
    files : sequence of str or Path
        At least one; folders of shards, too. Where they contradict each other, the first is right.
    out : str or Path
        Replaced in one step if it exists; it may be one of `files`.

    Returns
    -------
    Merged

    Raises
    ------
    CacheMismatch
        If the files were made by different extractors; every difference is named.
    CacheError
        If a file can't be read or `out` can't be written.
    """
    target = Path(out)
    with _locked(target):
        described = [_describe(file) for given in files for file in _files_of(Path(given))]
        first, features = described[0][0], described[0][1]
        for file, other, _ in described[1:]:
            features.spec.require(other.spec, mine=str(first), others=str(file))
        folder, prefixes = _common_folder([other.images for _, other, _ in described])
        union = _Union()
        for (file, other, _), prefix in zip(described, prefixes, strict=True):
            union.add(file, other, prefix)
        items, places = union.items()
        paths = set(items.path.tolist())
        merged = Features(
            spec=features.spec,
            embeddings=np.empty((0, features.spec.width), np.float32),
            items=items,
            failures=tuple(
                failure
                for failure in sorted(union.failures.values(), key=lambda each: each.path)
                if failure.sha256 not in union.places and failure.path not in paths
            ),
            reader=min(other.reader for _, other, _ in described),
            synthetic=any(other.synthetic for _, other, _ in described),
            images=folder,
            weights_path=next((o.weights_path for _, o, _ in described if o.weights_path), ""),
            trained_on=", ".join(
                dict.fromkeys(o.trained_on for _, o, _ in described if o.trained_on)
            ),
        )
        with explained(target, kept=False):
            write_features(
                target,
                merged,
                blocks=gathered(places, features.spec.width),
                rows=len(places),
                dtype=np.result_type(*(dtype for _, _, dtype in described)),
            )
    return Merged(
        images=int(np.count_nonzero(items.path != "")),
        rows=len(places),
        repeated=union.repeated,
        notes=tuple(union.notes),
    )


def _files_of(place: Path) -> tuple[Path, ...]:
    if not is_shard_folder(place):
        return (place,)
    shards = open_shards(place)
    for part in range(len(shards.files)):
        shards.require_sound(part)
    return shards.files


def _describe(file: Path) -> tuple[Path, Features, np.dtype[np.floating]]:
    with open_features(file) as opened:
        return file, read_without_embeddings(opened), opened["embeddings"].dtype


def _common_folder(folders: Sequence[str]) -> tuple[str, list[str]]:
    """Find the folder that holds all others, and what leads from it to each."""
    if len(set(folders)) == 1 or not all(folders):
        return folders[0] if len(set(folders)) == 1 else "", [""] * len(folders)
    try:
        common = os.path.commonpath(folders)
    except ValueError:
        # On different drives; the paths then hold the whole way.
        return "", [f"{Path(folder).as_posix()}/" for folder in folders]
    ways = (Path(folder).relative_to(common).as_posix() for folder in folders)
    return common, ["" if way == "." else f"{way}/" for way in ways]


@contextlib.contextmanager
def _locked(target: Path) -> Iterator[None]:
    lock = filelock.FileLock(target.with_name(f".{target.name}.lock"), timeout=0)
    try:
        with lock:
            yield
    except filelock.Timeout:
        raise CacheError(
            f"another process is writing {target}: wait for it, or write to another file"
        ) from None
