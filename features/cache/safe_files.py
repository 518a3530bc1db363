"""Files that are there whole or not at all, and that HDF5 is only given if they are sound."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType

import h5py

from features.cache.checks.seal import SEAL_SIZE, is_intact, sealed_version
from features.errors import CacheError

__all__ = [
    "CACHE_FORMAT",
    "CACHE_VERSION",
    "GuardedFile",
    "flush_folder",
    "new_hdf5",
    "open_features",
    "publish",
    "require_feature_file",
]

CACHE_FORMAT = "lesion-features"
CACHE_VERSION = 2
# Version 1 had neither seal nor checksums; it is read, and written anew as version 2.
_READABLE_VERSIONS = (1, CACHE_VERSION)
# What reading a damaged file that no seal protects may raise.
_DAMAGED = (LookupError, ValueError, TypeError, AttributeError, OSError, RuntimeError)


def publish(aside: Path, target: Path) -> None:
    """Rename a finished file into place so that it survives a power cut."""
    with aside.open("r+b") as written:
        os.fsync(written.fileno())
    aside.replace(target)
    flush_folder(target.parent)


def flush_folder(folder: Path) -> None:
    """Make the names in a folder survive a power cut."""
    if os.name == "posix":
        opened = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(opened)
        finally:
            os.close(opened)


class GuardedFile:
    """A new file that remembers the first write error instead of raising it.

    From then on nothing is written; `require_sound` raises the error where it does no harm.

    Parameters
    ----------
    path : Path
        Emptied if it exists.
    """

    def __init__(self, path: Path) -> None:
        self._file = path.open("w+b", buffering=0)
        self._error: OSError | None = None

    def __enter__(self) -> GuardedFile:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._file.close()

    def require_sound(self) -> None:
        """Raise the write error, if there was one.

        Raises
        ------
        OSError
        """
        if self._error is not None:
            raise self._error

    def write(self, data: memoryview) -> int:
        """Write all of `data` at the present place."""
        view = memoryview(data).cast("B")
        done = 0
        while done < len(view):
            done += self._attempt(view[done:])
        return len(view)

    def _attempt(self, data: memoryview) -> int:
        if self._error is None:
            try:
                return self._file.write(data)
            except OSError as error:
                self._error = error
        return len(data)

    def read(self, size: int) -> bytes:
        """Read from the present place; h5py asks for this method but uses `readinto`."""
        buffer = bytearray(size)
        self.readinto(memoryview(buffer))
        return bytes(buffer)

    def readinto(self, buffer: memoryview) -> int:
        """Read from the present place; what was never written reads as zeros."""
        got = self._file.readinto(buffer) or 0
        buffer[got:] = bytes(len(buffer) - got)
        return len(buffer)

    def truncate(self, size: int) -> int:
        """Cut or lengthen the file."""
        if self._error is None:
            try:
                return self._file.truncate(size)
            except OSError as error:
                self._error = error
        return size

    def seek(self, place: int, whence: int = 0) -> int:
        """Go to a place."""
        return self._file.seek(place, whence)

    def tell(self) -> int:
        """Tell the present place."""
        return self._file.tell()

    def flush(self) -> None:
        """Do nothing: nothing is buffered."""


@contextlib.contextmanager
def new_hdf5(path: Path) -> Iterator[tuple[h5py.File, GuardedFile]]:
    """Open a new HDF5 file with room for a seal; write errors are raised when it is closed.

    Parameters
    ----------
    path : Path

    Yields
    ------
    tuple of h5py.File and GuardedFile
        Ask the second, now and then, whether going on makes sense.

    Raises
    ------
    OSError
        If the file could not be written.
    """
    with GuardedFile(path) as guarded:
        try:
            with h5py.File(guarded, "w", userblock_size=SEAL_SIZE) as file:
                yield file, guarded
        finally:
            guarded.require_sound()


@contextlib.contextmanager
def open_features(path: Path) -> Iterator[h5py.File]:
    """Open a feature file for reading, or say why it can't be.

    Raises
    ------
    CacheError
        If the file is missing, altered, not HDF5, of another format, or of a newer version.
    """
    _require_sound(path)
    try:
        file = h5py.File(path, "r")
    except OSError as error:
        raise CacheError(
            f"{path} can't be opened as an HDF5 file ({error}): create it again"
        ) from error
    with file:
        if file.attrs.get("format") != CACHE_FORMAT:
            raise CacheError(
                f"{path} is an HDF5 file but not a feature file: "
                "give one that extract_features.py made"
            )
        _require_known(path, int(file.attrs["version"]))
        try:
            yield file
        except _DAMAGED as error:
            raise CacheError(f"{path} is damaged ({error}): create it again") from error


def require_feature_file(path: Path) -> None:
    """Refuse a file of another kind, without reading more than its start.

    Raises
    ------
    CacheError
    """
    try:
        sealed = sealed_version(path) is not None
    except OSError as error:
        raise CacheError(f"{path} can't be read ({error.strerror}): fix that") from error
    except ValueError as error:
        raise CacheError(
            f"{path} exists and is no feature file ({error}), and is not written over: "
            "choose another name"
        ) from error
    if not sealed:
        # Files of the first version have no seal.
        with open_features(path):
            pass


def _require_sound(path: Path) -> None:
    """Keep altered files from HDF5, which may crash on them."""
    if path.is_dir():
        if (path / "bundle.json").is_file():
            raise CacheError(
                f"{path} is a bundle, and here a feature file is expected: "
                "give the file that extract_features.py made"
            )
        raise CacheError(
            f"{path} is a folder, and here a feature file is expected: embed the images in it "
            f"with `python extract_features.py {path} --out features.h5`, and give features.h5"
        )
    if not path.is_file():
        raise CacheError(
            f"{path} does not exist: make it with `python extract_features.py IMAGES --out {path}`"
        )
    try:
        version = sealed_version(path)
        if version is None:
            return
        _require_known(path, version)
        intact = is_intact(path)
    except ValueError as error:
        raise CacheError(
            f"{path} is no feature file, or can't be opened as an HDF5 file ({error}): give the "
            "file that extract_features.py made, or create it again"
        ) from error
    except OSError as error:
        raise CacheError(f"{path} can't be read ({error.strerror}): fix that") from error
    if not intact:
        raise CacheError(
            f"{path} was altered after it was written: put a copy in its place or create it again; "
            f"`python -m features verify {path}` shows where it is damaged"
        )


def _require_known(path: Path, version: int) -> None:
    if version not in _READABLE_VERSIONS:
        newer = version > CACHE_VERSION
        raise CacheError(
            f"{path} has format version {version}, this program reads up to version "
            f"{CACHE_VERSION}: " + ("update the program" if newer else "extract the features again")
        )
