"""Which images there are: path, label, split and group, from folders and from tables."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Final

from features.datasets.splits import SPLIT_NAMES
from features.datasets.tables import LabelTable
from features.errors import DatasetError
from features.images.decoding import IMAGE_SUFFIXES

__all__ = ["SYNTHETIC_MARK", "Dataset", "Item", "find_images"]

SYNTHETIC_MARK: Final = "SYNTHETIC.txt"


@dataclass(frozen=True)
class Item:
    """One image file.

    Parameters
    ----------
    path : str
        Relative to the image folder, with forward slashes.
    label : str
        Class name; empty if unknown.
    split : {"train", "valid", "test", ""}
    group : str
        What must stay together, such as a patient or a lesion; empty if unknown.
    """

    path: str
    label: str = ""
    split: str = ""
    group: str = ""


@dataclass(frozen=True)
class Dataset:
    """The images below a folder.

    Parameters
    ----------
    root : Path
    items : tuple of Item
        Sorted by path.
    ignored : int
        How many other files lie among them.
    synthetic : bool
        Whether the images are drawn.
    notes : tuple of str
        What a person should know of how the folder was read.
    """

    root: Path
    items: tuple[Item, ...]
    ignored: int = 0
    synthetic: bool = False
    notes: tuple[str, ...] = ()

    def counts(self) -> dict[tuple[str, str], int]:
        """Count images by split and label."""
        return dict(sorted(Counter((item.split, item.label) for item in self.items).items()))


def find_images(root: str | Path, tables: Sequence[LabelTable] = ()) -> Dataset:
    """List the images below a folder with what is known of each.

    Understood are ``SPLIT/CLASS/image`` (splits in any case; ``val`` and ``validation`` too),
    ``CLASS/image``, ``SPLIT/image`` and plain folders; `tables` give labels by image name and
    take precedence over class folders.

    Parameters
    ----------
    root : str or Path
    tables : sequence of LabelTable, optional

    Returns
    -------
    Dataset

    Raises
    ------
    DatasetError
        If there is no such folder, no image in it, or no row of a table fits an image.
    """
    folder = Path(root)
    if not folder.is_dir():
        raise DatasetError(f"there is no folder {folder}: give the folder that holds the images")
    files = sorted(path.relative_to(folder).as_posix() for path in _walk(folder))
    paths = [path for path in files if PurePosixPath(path).suffix.lower() in IMAGE_SUFFIXES]
    if not paths:
        known = " ".join(sorted(IMAGE_SUFFIXES))
        raise DatasetError(
            f"no images found below {folder} ({len(files)} other files): "
            f"expected files that end in {known}"
        )
    items = _from_folders(paths)
    notes: list[str] = []
    if tables:
        items, notes = _from_tables(items, tables)
    synthetic = any((place / SYNTHETIC_MARK).is_file() for place in (folder, folder.parent))
    items.sort(key=lambda item: item.path)
    return Dataset(folder, tuple(items), len(files) - len(paths), synthetic, tuple(notes))


def _walk(root: Path) -> Iterator[Path]:
    seen: set[str] = set()
    for folder, folders, files in os.walk(root, followlinks=True):
        real = os.path.realpath(folder)
        if real in seen:
            folders.clear()
            continue
        seen.add(real)
        folders[:] = sorted(name for name in folders if not _hidden(name))
        yield from (Path(folder, name) for name in files if not _hidden(name))


def _hidden(name: str) -> bool:
    return name.startswith(".") or name == "__MACOSX"


def _from_folders(paths: Sequence[str]) -> list[Item]:
    parts = [PurePosixPath(path).parts for path in paths]
    depth = _split_depth(parts)
    found = [
        Item(path, label=_part(part, depth + 1), split=SPLIT_NAMES[part[depth].lower()])
        if depth is not None and len(part) > depth + 1 and part[depth].lower() in SPLIT_NAMES
        else Item(path, label=_part(part, depth or 0))
        for path, part in zip(paths, parts, strict=True)
    ]
    # "Melanoma" and "melanoma" in two splits are one class, spelt as it comes first.
    spelling: dict[str, str] = {}
    return [
        replace(item, label=spelling.setdefault(item.label.lower(), item.label)) for item in found
    ]


def _split_depth(parts: Sequence[tuple[str, ...]]) -> int | None:
    # An archive often wraps everything in one folder of its own, so that the splits lie deeper.
    for depth in range(3):
        names = {part[depth].lower() for part in parts if len(part) > depth + 1}
        if names & set(SPLIT_NAMES):
            return depth
        if len(names) != 1:
            return None
    return None


def _part(parts: tuple[str, ...], depth: int) -> str:
    return parts[depth] if len(parts) > depth + 1 else ""


def _from_tables(
    items: Sequence[Item], tables: Sequence[LabelTable]
) -> tuple[list[Item], list[str]]:
    names: dict[str, list[int]] = {}
    for number, item in enumerate(items):
        for key in _keys(item.path):
            names.setdefault(key, []).append(number)
    labelled = [replace(item, label="") for item in items]
    notes = []
    for table in tables:
        rows = table.rows(names)
        matched = 0
        for row in rows:
            numbers = names.get(row.id, [])
            matched += bool(numbers)
            for number in numbers:
                old = labelled[number]
                labelled[number] = replace(
                    old, label=row.label, split=row.split or old.split, group=row.group or old.group
                )
        if not matched:
            raise DatasetError(
                f"none of the {len(rows)} ids in {table.path} fits any of the {len(items)} images: "
                f"ids look like {_examples([row.id for row in rows])}, "
                f"images like {_examples([item.path for item in items])}; "
                "choose another --id-column"
            )
        notes.append(f"{table.path.name}: {matched} of {len(rows)} ids fit an image")
    without = sum(not item.label for item in labelled)
    if without:
        notes.append(
            f"{without} of {len(items)} images are in no table of labels and stay unlabelled"
        )
    return labelled, notes


def _keys(path: str) -> set[str]:
    pure = PurePosixPath(path)
    return {path, pure.name, pure.stem}


def _examples(values: Sequence[str]) -> str:
    return ", ".join(repr(value) for value in values[:2])
