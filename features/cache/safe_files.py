"""Files that are there whole or not at all, also on a full disk and after a power cut."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType

import h5py

from features.cache.seal import SEAL_SIZE

__all__ = ["GuardedFile", "flush_folder", "new_hdf5", "publish"]


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
