"""What a worker does with a file: read it once, hash it, decode it into memory that is shared.

Pixels are as large as they are many; sent through pipes they would keep one process busy with
nothing else. So they are written where the process that asked for them finds them.
"""

from __future__ import annotations

import functools
import hashlib
import mmap
import os
import secrets
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from features.errors import UnreadableImage
from features.images.decoding import Frame, Pixels, decode
from features.images.quality import is_nearly_black
from features.images.sources.files import read_file
from features.images.sources.remote import READS_AT_ONCE, Fetched, fetched
from features.storage.addresses import is_remote

__all__ = [
    "AHEAD_IN_THE_CLOUD",
    "Asked",
    "Board",
    "FileState",
    "Read",
    "SharedBoard",
    "file_state",
    "read_all",
    "remote_state",
]

# Beginnings of hashes, as numbers, are told apart by eight bytes well enough to skip work by.
_BEGINNING: Final = 16
# What a worker is asked for at once of images in the cloud: while some are decoded, others come.
AHEAD_IN_THE_CLOUD: Final = 2 * READS_AT_ONCE


@dataclass(frozen=True)
class FileState:
    """What changes when a file does, without reading it."""

    size: int
    mtime_ns: int
    ctime_ns: int
    inode: int


@dataclass(frozen=True)
class Asked:
    """A file that is to be read, and in which row of the board its pixels go.

    Parameters
    ----------
    number : int
        By which the one who asks knows it.
    path : str
    row : int
    known : bool
        Whether one that the board lists as known need not be decoded.
    """

    number: int
    path: str
    row: int
    known: bool


@dataclass(frozen=True)
class Read:
    """What came of a file.

    Parameters
    ----------
    number : int
        As of `Asked`.
    sha256 : str
        In hexadecimal; empty if not even the bytes could be read.
    state : FileState, optional
        Of the file before it was read; None of one in an archive.
    code, reason : str
        Why it could not be read or decoded; else empty.
    decoded : bool
        Whether there are pixels; if there are neither they nor a reason, the image is known.
    width, height : int
        Of the original in pixels, upright.
    notes : tuple of str
        What a person should know of how it was read.
    black : bool
        Whether hardly anything can be seen.
    """

    number: int
    sha256: str = ""
    state: FileState | None = None
    code: str = ""
    reason: str = ""
    decoded: bool = False
    width: int = 0
    height: int = 0
    notes: tuple[str, ...] = ()
    black: bool = False


@dataclass(frozen=True)
class Board:
    """Where shared memory lies and what is in it: known hashes, a mark a row, and rows of frames.

    Parameters
    ----------
    path : str
        A file of that length.
    frames : tuple of Frame
    rows : int
        How many images have room.
    known : int
        How many beginnings of hashes are listed, in order.
    token : str
        Of this memory alone: another may come to lie at the same path when this one is gone.
    """

    path: str
    frames: tuple[Frame, ...]
    rows: int
    known: int
    token: str

    @property
    def length(self) -> int:
        """In bytes."""
        return 8 * self.known + self.rows * (1 + self._row)

    @property
    def _row(self) -> int:
        return sum(3 * frame.size**2 for frame in self.frames)

    def parts(
        self, memory: Any
    ) -> tuple[npt.NDArray[np.uint64], npt.NDArray[np.uint8], npt.NDArray[np.uint8]]:
        """Show the known hashes, the marks and the rows of the memory that was mapped."""
        known = np.frombuffer(memory, np.uint64, self.known)
        marks = np.frombuffer(memory, np.uint8, self.rows, 8 * self.known)
        rows = np.frombuffer(memory, np.uint8, self.rows * self._row, 8 * self.known + self.rows)
        return known, marks, rows.reshape(self.rows, self._row)

    def split(self, row: npt.NDArray[np.uint8]) -> tuple[Pixels, ...]:
        """Show the frames in a row."""
        ends = np.cumsum([3 * frame.size**2 for frame in self.frames])
        return tuple(
            part.reshape(frame.size, frame.size, 3)
            for frame, part in zip(self.frames, np.split(row, ends[:-1]), strict=True)
        )


class SharedBoard:
    """The memory that is shared with workers; nothing of it is left when the process is gone.

    Parameters
    ----------
    frames : sequence of Frame
    rows : int
        How many images have room.
    known : iterable of str
        Hashes of images that need not be decoded.

    Raises
    ------
    OSError
        If there is not as much memory or space.
    """

    def __init__(self, frames: Sequence[Frame], rows: int, known: Iterable[str] = ()) -> None:
        listed = np.array(sorted(_beginning(sha256) for sha256 in known), np.uint64)
        self._named: Path | None = None
        # Not in /dev/shm, which containers keep small.
        if hasattr(os, "memfd_create"):
            self._file = os.memfd_create("lesion-pixels")
            path = f"/proc/{os.getpid()}/fd/{self._file}"
        if not hasattr(os, "memfd_create") or not os.path.exists(path):
            self._file, path = tempfile.mkstemp(prefix="lesion-pixels-")
            self._named = Path(path)
        self.board = Board(path, tuple(frames), rows, len(listed), secrets.token_hex(8))
        try:
            os.truncate(self._file, self.board.length)
            if self._named is not None and hasattr(os, "posix_fallocate"):
                # Else a full disk would be met by a signal, when pixels are written.
                os.posix_fallocate(self._file, 0, self.board.length)
            self._memory = mmap.mmap(self._file, self.board.length)
        except BaseException:
            self.close()
            raise
        known_here, self.marks, self.rows = self.board.parts(self._memory)
        known_here[:] = listed

    def pixels(self, row: int) -> tuple[Pixels, ...]:
        """Show the frames in a row; they stay as they are until the row is used again."""
        return self.board.split(self.rows[row])

    def close(self) -> None:
        """Give the memory back, as soon as no array shows it any more."""
        os.close(self._file)
        if self._named is not None:
            self._named.unlink(missing_ok=True)


def read_all(board: Board, asked: Sequence[Asked]) -> list[Read]:
    """Read files, each once; those that are not known are decoded into their rows."""
    known, marks, rows = _mapped(board)
    found: dict[int, Read] = {}
    for at, came in fetched([each.path for each in asked]):
        each = asked[at]
        # If the decoder takes the process down, it can be told at which file.
        marks[each.row] = 1
        found[at] = _read(each, board, known, rows[each.row], came)
        marks[each.row] = 0
    return [found[at] for at in range(len(asked))]


def file_state(path: str) -> FileState | None:
    """Ask the file system about a file; None of one in an archive, or that is not there."""
    if is_remote(path):
        return None
    try:
        state = os.stat(path)
    except OSError:
        return None
    return FileState(state.st_size, state.st_mtime_ns, state.st_ctime_ns, state.st_ino)


def remote_state(mark: int) -> FileState | None:
    """Give what is kept of an object's state, which is the same only if its etag and size are."""
    return FileState(0, 0, 0, mark) if mark else None


@functools.lru_cache(maxsize=1)
def _mapped(
    board: Board,
) -> tuple[npt.NDArray[np.uint64], npt.NDArray[np.uint8], npt.NDArray[np.uint8]]:
    with open(board.path, "r+b") as file:
        return board.parts(mmap.mmap(file.fileno(), board.length))


def _read(
    asked: Asked,
    board: Board,
    known: npt.NDArray[np.uint64],
    row: npt.NDArray[np.uint8],
    came: Fetched | None,
) -> Read:
    state = file_state(asked.path) if came is None else remote_state(came.mark)
    try:
        data = read_file(Path(asked.path)) if came is None else came.given()
    except UnreadableImage as error:
        return Read(asked.number, code=error.code, reason=str(error))
    sha256 = hashlib.sha256(data).hexdigest()
    if asked.known and _is_listed(known, sha256):
        return Read(asked.number, sha256, state)
    try:
        image = decode(data, *board.frames)
    except UnreadableImage as error:
        return Read(asked.number, sha256, state, error.code, str(error))
    for place, pixels in zip(board.split(row), image.frames, strict=True):
        place[:] = pixels
    return Read(
        asked.number,
        sha256,
        state,
        decoded=True,
        width=image.width,
        height=image.height,
        notes=image.notes,
        black=is_nearly_black(image.pixels),
    )


def _beginning(sha256: str) -> int:
    return int(sha256[:_BEGINNING], 16)


def _is_listed(known: npt.NDArray[np.uint64], sha256: str) -> bool:
    wanted = np.uint64(_beginning(sha256))
    place = int(np.searchsorted(known, wanted))
    return place < len(known) and known[place] == wanted
