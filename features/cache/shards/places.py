"""Where shards lie: what their files are called, and which folders are theirs."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

from features.errors import CacheError

__all__ = [
    "UNFINISHED",
    "file_name",
    "is_shard_file",
    "is_shard_folder",
    "listed",
    "mark_name",
    "require_place_for_shards",
    "shard_name",
]

# Within a folder of shards: what is being made, and the locks.
UNFINISHED: Final = ".unfinished"
_NAME: Final = re.compile(r"shard-(\d{5})-of-(\d{5})\.(h5|json|h5\.blocks)")


def shard_name(number: int, of: int) -> str:
    """Name a shard, such as ``shard-00003-of-00016``."""
    return f"shard-{number:05d}-of-{of:05d}"


def file_name(number: int, of: int) -> str:
    """Name a shard's feature file."""
    return f"{shard_name(number, of)}.h5"


def mark_name(number: int, of: int) -> str:
    """Name a shard's mark."""
    return f"{shard_name(number, of)}.json"


def listed(folder: Path, kind: str) -> list[tuple[int, int]]:
    """List which shards have a file there, as (number, of), in order.

    Parameters
    ----------
    folder : Path
        Need not exist.
    kind : {"h5", "json", "h5.blocks"}
        Feature files, marks, or what waits to be joined to a feature file.
    """
    if not folder.is_dir():
        return []
    matches = (_NAME.fullmatch(place.name) for place in folder.iterdir())
    return sorted((int(found[1]), int(found[2])) for found in matches if found and found[3] == kind)


def is_shard_file(name: str) -> bool:
    """Tell by its name whether a file is a shard's, or the mark of one."""
    return _NAME.fullmatch(name) is not None


def is_shard_folder(place: Path) -> bool:
    """Tell whether a folder holds shards, or the beginnings of some."""
    return place.is_dir() and (
        (place / UNFINISHED).is_dir() or bool(listed(place, "json") or listed(place, "h5"))
    )


def require_place_for_shards(folder: str | Path) -> None:
    """Fail early if shards could not be written there.

    Raises
    ------
    CacheError
        If it is a file, called like one, can't be written, or holds something else.
    """
    place = Path(folder)
    if place.is_file() or place.suffix.lower() in {".h5", ".hdf5"}:
        raise CacheError(
            f"{place} would be a file, and shards lie in a folder: give one, such as --out "
            f"{place.with_suffix('') if place.suffix else 'shards'}"
        )
    if not place.exists() and not place.parent.is_dir():
        raise CacheError(
            f"{place} can't be made, since there is no folder {place.parent}: make that, or choose "
            "another place"
        )
    try:
        if place.is_dir() and not is_shard_folder(place):
            others = sorted(each.name for each in place.iterdir() if each.name[0] != ".")
            if others:
                raise CacheError(
                    f"{place} holds other files (such as {others[0]}) and no shards: choose a "
                    "folder of their own for them"
                )
        (place / UNFINISHED).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise CacheError(
            f"{place} can't be written to ({error.strerror}): choose another place"
        ) from error
