"""Images in the cloud: listed below an address, read by many connections at a time."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from features.errors import StorageError, UnreadableImage
from features.images.sources.member import MAX_BYTES, Member, too_large
from features.storage.addresses import RemotePath, as_place, is_remote
from features.storage.fetching import kept
from features.storage.listing import list_below, told
from features.storage.objects import look_up, read_object

__all__ = [
    "READS_AT_ONCE",
    "Fetched",
    "fetched",
    "fetched_archive",
    "is_archive",
    "listed_below",
    "read_remote",
    "require_readable",
]

# Of one process: an answer takes many times as long to begin as an image to decode.
READS_AT_ONCE: Final = 16
_ARCHIVES: Final = (
    *(".zip", ".tar", ".tgz", ".tbz2", ".txz", ".tar.gz", ".tar.bz2", ".tar.xz"),
    *(".h5", ".hdf5"),
)


@dataclass(frozen=True)
class Fetched:
    """An image's bytes and the number of their state (0 if none is told), or why there are none."""

    data: bytes = b""
    mark: int = 0
    error: UnreadableImage | None = None

    def given(self) -> bytes:
        """Give the bytes.

        Raises
        ------
        UnreadableImage
            If there are none.
        """
        if self.error is not None:
            raise self.error
        return self.data


def listed_below(place: Path) -> tuple[list[Member], dict[str, str]]:
    """List what lies below an address.

    Returns
    -------
    members : list of Member
    refused : dict of str to str
        Names that no path can have, and why.

    Raises
    ------
    StorageError
        If it can't be listed.
    """
    members, refused = [], {}
    for name in list_below(place).names:
        if any(part in ("", ".", "..") for part in name.split("/")) or "\0" in name:
            refused[name] = "a name with empty parts or dots, which is no path"
        else:
            members.append(Member(name))
    return members, refused


def require_readable(place: Path) -> None:
    """Ask for one object of many that were named, so that wrong credentials are told at once.

    Raises
    ------
    StorageError
        If nobody could read any; not if this one is gone or damaged.
    """
    try:
        look_up(place)
    except StorageError as error:
        if error.kind in ("no_bucket", "refused", "unusable"):
            raise


def is_archive(place: str | os.PathLike[str]) -> bool:
    """Tell by its name whether what lies at an address is fetched as a whole and read here."""
    return os.fspath(place).lower().endswith(_ARCHIVES)


def fetched_archive(path: str) -> tuple[Path, str] | None:
    """Find the copy of the archive that an address leads into, and the name in it."""
    for above in RemotePath(path).parents:
        if is_archive(above):
            file = kept(above)
            if file is not None:
                return file, path[len(str(above)) + 1 :]
    return None


def read_remote(path: str) -> Fetched:
    """Read an image from an address; what goes wrong is in what is given."""
    try:
        found = read_object(as_place(path), MAX_BYTES)
    except StorageError as error:
        if error.kind == "too_large":
            return Fetched(error=too_large())
        return Fetched(error=UnreadableImage("unreadable", str(error)))
    return Fetched(found.data, told(found.state))


def fetched(paths: Sequence[str]) -> Iterator[tuple[int, Fetched | None]]:
    """Read those of the files that are at addresses, several at a time, in the order they come.

    No more than `READS_AT_ONCE` wait to be taken.

    Parameters
    ----------
    paths : sequence of str

    Yields
    ------
    number : int
        In `paths`.
    fetched : Fetched or None
        None where the path is of this machine.
    """
    away = []
    for at, path in enumerate(paths):
        if is_remote(path) and fetched_archive(path) is None:
            away.append(at)
        else:
            yield at, None
    if not away:
        return
    todo = iter(away)
    with ThreadPoolExecutor(min(READS_AT_ONCE, len(away)), "remote") as pool:
        coming: dict[Future[Fetched], int] = {}
        while True:
            while len(coming) < READS_AT_ONCE and (at := next(todo, -1)) >= 0:
                coming[pool.submit(read_remote, paths[at])] = at
            if not coming:
                return
            for future in wait(coming, return_when=FIRST_COMPLETED).done:
                yield coming.pop(future), future.result()
                # What was taken makes room for the next, before more are taken.
                if (at := next(todo, -1)) >= 0:
                    coming[pool.submit(read_remote, paths[at])] = at
