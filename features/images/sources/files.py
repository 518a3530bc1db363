"""One way to a file's bytes, whether it lies in a folder or in an archive."""

from __future__ import annotations

import functools
import hashlib
from pathlib import Path, PurePath
from typing import Final, Protocol

from features.errors import DatasetError, UnreadableImage
from features.images.formats import IMAGE_SUFFIXES
from features.images.sources.archives import Tar, Zip, is_tar, is_zip
from features.images.sources.hdf5 import Hdf5, is_hdf5
from features.images.sources.lists import is_list, is_table, listed, tabled
from features.images.sources.member import MAX_BYTES, Member
from features.images.sources.remote import (
    fetched_archive,
    is_archive,
    listed_below,
    read_remote,
    require_readable,
)
from features.storage.addresses import as_place, is_remote
from features.storage.fetching import fetch

__all__ = ["Container", "Source", "file_digest", "open_source", "read_file"]

_CHUNK: Final = 1 << 20
_OTHER_ARCHIVES: Final = {
    b"7z\xbc\xaf\x27\x1c": "a 7z archive",
    b"Rar!\x1a\x07": "a RAR archive",
    b"\x28\xb5\x2f\xfd": "compressed by Zstandard",
}
_TABLES: Final = frozenset({".xlsx", ".xls", ".json"})


class Container(Protocol):
    """A file that holds image files: read from several threads at once.

    Parameters
    ----------
    all_images : bool
        Whether everything in it is an image, whatever its name ends in.
    """

    all_images: bool

    def members(self) -> list[Member]:
        """List the files in it, by names that lead out of it nowhere."""

    def read(self, name: str) -> bytes:
        """Read one; `UnreadableImage` if that can't be done."""


class Source:
    """What a user named instead of a folder: an image, an archive, an HDF5 file or a list.

    Parameters
    ----------
    root : Path
        What the names are relative to: ``read_file(root / member.name)`` reads a member.
    members : list of Member
        In the order in which they lie there.
    all_images : bool
        Whether everything is to be taken for an image, whatever its name ends in.
    refused : dict of str to str, optional
        Names of what is there and can't be read under them, and why.
    """

    def __init__(
        self,
        root: Path,
        members: list[Member],
        *,
        all_images: bool,
        refused: dict[str, str] | None = None,
    ) -> None:
        self.root = root
        self.members = members
        self.all_images = all_images
        self.refused = refused or {}


def open_source(path: str | Path) -> Source:
    """List the images that a file holds or names.

    Parameters
    ----------
    path : str or Path
        An image; a zip or tar archive, which is read in place; an HDF5 file of encoded images by
        id; a text file of one path or address a line, or a table with a column of them; or an
        address of any of these, or of what begins so. Not a folder of this machine.

    Returns
    -------
    Source

    Raises
    ------
    DatasetError
        If the file can't be read, is none of these, or holds what could do harm.
    StorageError
        If an address can't be read or listed.
    """
    if is_remote(path):
        return _open_remote(as_place(path))
    file = Path(path)
    if not file.exists():
        raise DatasetError(
            f"there is no folder {file}, nor a file of that name: give the folder that holds the "
            "images, an image, an archive (.zip, .tar), an HDF5 file, or a text file of paths"
        )
    if not file.is_file():
        # Reading a pipe would wait for ever.
        raise DatasetError(f"{file} is not an ordinary file: give a folder, an image or an archive")
    try:
        with file.open("rb") as opened:
            start = opened.read(16)
    except OSError as error:
        raise DatasetError(f"{file} can't be read ({error.strerror}): fix that") from error
    for magic, what in _OTHER_ARCHIVES.items():
        if start.startswith(magic):
            raise DatasetError(f"{file} is {what}, which isn't read in place: unpack it")
    if file.suffix.lower() in _TABLES:
        raise DatasetError(
            f"{file} is a table, and here images are expected: give their folder, and the table "
            "with --labels"
        )
    found = _opened(file)
    if found is not None:
        return Source(file, found.members(), all_images=found.all_images)
    if is_list(file) or is_table(file):
        return _open_list(file, file)
    return Source(file.parent, [Member(file.name)], all_images=True)


def _open_remote(place: Path) -> Source:
    if is_archive(place):
        file = fetch(place)
        found = _opened(file)
        if found is None:
            raise DatasetError(f"{place} is not the archive that its name says: look what it is")
        return Source(place, found.members(), all_images=found.all_images)
    if is_list(place) or is_table(place):
        return _open_list(fetch(place), place)
    if place.suffix.lower() in _TABLES:
        raise DatasetError(f"{place} is a table, and here images are expected: save it as .csv")
    if place.suffix.lower() in IMAGE_SUFFIXES:
        require_readable(place)
        return Source(place.parent, [Member(place.name)], all_images=True)
    members, refused = listed_below(place)
    return Source(place, members, all_images=False, refused=refused)


def _open_list(file: Path, place: Path) -> Source:
    root, names = (listed if is_list(place) else tabled)(file, place)
    if is_remote(root):
        require_readable(root / names[0])
    return Source(root, [Member(name) for name in names], all_images=True)


def read_file(path: Path) -> bytes:
    """Read an image file's bytes, from a folder or from within an archive.

    Parameters
    ----------
    path : Path
        Of the file, or of the archive and on to a name in it.

    Returns
    -------
    bytes

    Raises
    ------
    UnreadableImage
        If there is no such file, it is no ordinary one, or it is too large for any image.
    """
    if is_remote(path):
        return _read_remote(path)
    try:
        # Reading a pipe would wait for ever.
        if path.exists() and not path.is_file():
            raise UnreadableImage("unreadable", "it is not an ordinary file: leave it out")
        if path.stat().st_size > MAX_BYTES:
            limit = f"{MAX_BYTES // 10**6} MB"
            raise UnreadableImage("too_large", f"the file is larger than the {limit} allowed")
        return path.read_bytes()
    except OSError as error:
        if (within := _within(path)) is not None:
            container, name = within
            return container.read(name)
        raise UnreadableImage("unreadable", f"the file can't be read ({error.strerror})") from error


def file_digest(path: Path) -> str:
    """Give the sha256 of an image file, in hexadecimal.

    Raises
    ------
    UnreadableImage
        As `read_file` does, but for a large file in a folder, which is read in pieces.
    """
    if is_remote(path):
        return hashlib.sha256(read_file(path)).hexdigest()
    digest = hashlib.sha256()
    try:
        if path.exists() and not path.is_file():
            raise UnreadableImage("unreadable", "it is not an ordinary file: leave it out")
        with path.open("rb") as file:
            while chunk := file.read(_CHUNK):
                digest.update(chunk)
    except OSError as error:
        if _within(path) is None:
            raise UnreadableImage(
                "unreadable", f"the file can't be read ({error.strerror})"
            ) from error
        digest.update(read_file(path))
    return digest.hexdigest()


def _read_remote(path: Path) -> bytes:
    if (inside := fetched_archive(str(as_place(path)))) is not None:
        file, name = inside
        container = _opened(file)
        if container is None:
            raise UnreadableImage("unreadable", f"{file} is no archive any more: run it again")
        return container.read(name)
    return read_remote(str(as_place(path))).given()


def _within(path: Path) -> tuple[Container, str] | None:
    """Find the archive that a path leads into, and the name in it."""
    for above in path.parents:
        try:
            if above.is_dir():
                return None
            if above.is_file():
                found = _opened(above)
                name = PurePath(path).relative_to(above).as_posix()
                return None if found is None else (found, name)
        except (OSError, DatasetError):
            return None
    return None


def _opened(file: Path) -> Container | None:
    state = file.stat()
    return _open(file.resolve(), state.st_size, state.st_mtime_ns)


@functools.lru_cache(maxsize=8)
def _open(file: Path, _size: int, _time: int) -> Container | None:
    if is_zip(file):
        return Zip(file)
    if is_tar(file):
        return Tar(file)
    if is_hdf5(file):
        return Hdf5(file)
    return None
