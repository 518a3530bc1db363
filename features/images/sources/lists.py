"""Text files and tables that name images: one path or address a line."""

from __future__ import annotations

import csv
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from features.errors import DatasetError, StorageError
from features.images.formats import IMAGE_SUFFIXES
from features.numbers import count
from features.presenting import NAME_ERRORS
from features.storage.addresses import RemotePath, address_of, full_name, is_remote

__all__ = ["is_list", "is_table", "listed", "tabled"]

_SUFFIXES: Final = frozenset({".txt", ".lst", ".list"})
_TABLES: Final = {".csv": ",;\t|", ".tsv": "\t"}
_SNIFFED: Final = 1 << 16
Names = tuple[Path, list[str]]


def is_list(file: Path) -> bool:
    """Tell whether a file is a list of paths, by its name."""
    return file.suffix.lower() in _SUFFIXES


def is_table(file: Path) -> bool:
    """Tell whether a file is a table that may hold paths, by its name."""
    return file.suffix.lower() in _TABLES


def tabled(file: Path, place: Path) -> Names:
    """Read the column of a table in which paths or addresses of images are.

    Parameters
    ----------
    file : Path
        A table with a header.
    place : Path
        Where it came from, which relative paths start at.

    Returns
    -------
    root : Path
    names : list of str
        As of `listed`.

    Raises
    ------
    DatasetError
        If no column holds paths, or several do.
    """
    try:
        with file.open(encoding="utf-8-sig", errors=NAME_ERRORS, newline="") as opened:
            delimiters = _TABLES[file.suffix.lower()]
            start = opened.readline(_SNIFFED)
            opened.seek(0)
            between = max(delimiters, key=start.count)
            rows = [row for row in csv.reader(opened, delimiter=between, strict=True) if any(row)]
    except (OSError, csv.Error) as error:
        raise DatasetError(f"{place} can't be read as a table ({error})") from error
    columns = list(zip(*rows, strict=False))
    found = [
        column
        for column in columns
        if len(column) > 1 and (all(map(is_remote, column[1:])) or _are_paths(column[1:], place))
    ]
    if not found:
        raise DatasetError(
            f"{place} is a table without a column of images' paths or addresses, and here images "
            "are expected: give their folder, and the table with --labels"
        )
    if len(found) > 1:
        raise DatasetError(
            f"{place} has several columns of images' paths, {found[0][0]} and {found[1][0]}: "
            "leave one, or give a list of one path a line (.txt)"
        )
    return _named(list(found[0][1:]), place)


def listed(file: Path, place: Path) -> Names:
    """Read a list of paths.

    Parameters
    ----------
    file : Path
        One path or address a line, or, as `find -print0` writes them, with zero bytes between;
        paths are absolute or relative to the list's folder or to the current one.
    place : Path
        Where the list came from.

    Returns
    -------
    root : Path
        The folder that holds them all.
    names : list of str
        Relative to it, with forward slashes, each once.

    Raises
    ------
    DatasetError
        If it names nothing that is there.
    """
    data = file.read_bytes().removeprefix(b"\xef\xbb\xbf")
    lines = data.split(b"\0") if b"\0" in data else data.replace(b"\r\n", b"\n").split(b"\n")
    texts = [line.decode("utf-8", NAME_ERRORS) for line in lines if line.strip()]
    if not texts:
        raise DatasetError(f"{place} is empty: expected one path of an image a line")
    return _named(texts, place)


def _are_paths(column: Sequence[str], place: Path) -> bool:
    start = place.parent
    if is_remote(place):
        return all(os.path.splitext(text)[1].lower() in IMAGE_SUFFIXES for text in column)
    return any(os.path.splitext(text)[1] and (start / text).is_file() for text in column[:20])


def _named(texts: list[str], file: Path) -> Names:
    away = [text for text in texts if is_remote(text)]
    if away or is_remote(file):
        if away and len(away) < len(texts):
            path = next(text for text in texts if not is_remote(text))
            raise DatasetError(
                f"{file} names addresses and paths, such as {full_name(away[0])} and {path!r}: "
                "give two lists"
            )
        return _named_away(away or [f"{full_name(file.parent)}/{text}" for text in texts], file)
    starts = (file.parent, Path())
    start = next((place for place in starts if (place / texts[0]).exists()), None)
    if start is None:
        start = next((place for place in starts for text in texts if (place / text).exists()), None)
    if start is None:
        raise DatasetError(
            f"no path in {file} ({count(len(texts), 'line')}) is there, such as {texts[0]!r}: "
            "expected paths from the list's folder, from the current one, or absolute ones"
        )
    paths = list(dict.fromkeys(os.path.abspath(start / text) for text in texts))
    inside = os.path.abspath(start)
    if not all(os.path.commonpath([inside, path]) == inside for path in paths):
        inside = os.path.commonpath([os.path.dirname(path) for path in paths])
    return Path(inside), [Path(os.path.relpath(path, inside)).as_posix() for path in paths]


def _named_away(addresses: list[str], file: Path) -> Names:
    try:
        addresses = list(dict.fromkeys(str(address_of(text)) for text in addresses))
    except StorageError as error:
        raise DatasetError(f"{file}: {error}") from error
    folders = {address.rpartition("/")[0] for address in addresses}
    common = os.path.commonpath(folders)
    root = full_name(common).rstrip("/")
    if not all(address.startswith(f"{root}/") for address in addresses):
        root = f"{common.partition(':')[0]}:/"
    if not is_remote(root):
        raise DatasetError(
            f"{file} names addresses of several kinds, such as {addresses[0]} and "
            f"{next(one for one in addresses if one[:3] != addresses[0][:3])}: give a list of each"
        )
    return RemotePath(root), [address[len(root) + 1 :].lstrip("/") for address in addresses]
