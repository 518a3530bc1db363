"""Text files that name images, one path a line."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from features.errors import DatasetError
from features.numbers import count
from features.presenting import NAME_ERRORS

__all__ = ["is_list", "listed"]

_SUFFIXES: Final = frozenset({".txt", ".lst", ".list"})


def is_list(file: Path) -> bool:
    """Tell whether a file is a list of paths, by its name."""
    return file.suffix.lower() in _SUFFIXES


def listed(file: Path) -> tuple[Path, list[str]]:
    """Read a list of paths.

    Parameters
    ----------
    file : Path
        One path a line, or, as `find -print0` writes them, with zero bytes between, absolute or
        relative to the list's folder or to the current one.

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
        raise DatasetError(f"{file} is empty: expected one path of an image a line")
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
