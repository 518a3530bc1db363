"""What files contained when they were last read: those that are as they were aren't read again.

It is kept in the user's cache folder, a file for each folder of images. Without it, nothing is
lost but time.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import sqlite3
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Final

from features.images.reading import FileState, file_state, remote_state
from features.storage.addresses import full_name, is_remote
from features.storage.listing import learn, states_of
from features.storage.user_cache import user_cache

__all__ = ["Remembered"]

# A file that changed so shortly before it was read may change again within one tick of the file
# system's clock, or of another machine's, without a trace: as in git's index, it is not trusted.
_RACY_NS: Final = 2_000_000_000
_LOOKED_UP: Final = 500
_KEPT_AT_ONCE: Final = 2_000
_TABLE: Final = (
    "CREATE TABLE IF NOT EXISTS files (path BLOB PRIMARY KEY, size INTEGER, mtime INTEGER, "
    "ctime INTEGER, inode INTEGER, sha256 BLOB) WITHOUT ROWID"
)
_FIND: Final = "SELECT path, size, mtime, ctime, inode, sha256 FROM files WHERE path IN "


class Remembered:
    """Hashes of the files below a folder; use it as a context manager.

    Parameters
    ----------
    root : Path
        The folder that names are relative to.
    """

    def __init__(self, root: Path) -> None:
        self._root = full_name(root)
        self._database: sqlite3.Connection | None = None
        self._new: list[tuple[bytes, int, int, int, int, bytes]] = []

    def __enter__(self) -> Remembered:
        name = hashlib.sha256(os.fsencode(self._root)).hexdigest()[:32]
        folder = user_cache("hashes")
        with contextlib.suppress(OSError, sqlite3.Error):
            folder.mkdir(parents=True, exist_ok=True)
            self._database = sqlite3.connect(folder / f"{name}.sqlite", timeout=1)
            self._database.execute("PRAGMA journal_mode=WAL")
            # What a power cut takes is made again; that the file stays whole is seen to all the
            # same.
            self._database.execute("PRAGMA synchronous=NORMAL")
            self._database.execute(_TABLE)
        return self

    def __exit__(self, *_: object) -> None:
        if self._database is not None:
            self._keep()
            self._database.close()

    def hashes(self, names: list[str]) -> Iterator[str]:
        """Give the hash of each file, or nothing (``""``) where it must be read.

        Parameters
        ----------
        names : list of str
            Relative to the folder.
        """
        if is_remote(self._root) and self._find_any():
            learn(self._root, names)
        places = iter(names)
        while some := list(islice(places, _LOOKED_UP)):
            known = self._find(some)
            asked = [name for name in some if name in known]
            now = dict(zip(asked, self._states(asked), strict=True))
            for name in some:
                state, sha256 = known.get(name, (None, b""))
                same = state is not None and state == now[name]
                yield sha256.hex() if same else ""

    def keep(self, name: str, state: FileState, sha256: str) -> None:
        """Remember what a file contains that was in that state before it was read."""
        if time.time_ns() - max(state.mtime_ns, state.ctime_ns) < _RACY_NS:
            return
        row = (state.size, state.mtime_ns, state.ctime_ns, state.inode % 2**63)
        self._new.append((os.fsencode(name), *row, bytes.fromhex(sha256)))
        if len(self._new) >= _KEPT_AT_ONCE:
            self._keep()

    def _states(self, names: list[str]) -> list[FileState | None]:
        if is_remote(self._root):
            return [remote_state(mark) for mark in states_of(self._root, names)]
        return [file_state(os.path.join(self._root, name)) for name in names]

    def _keep(self) -> None:
        new, self._new = self._new, []
        if self._database is not None:
            with contextlib.suppress(sqlite3.Error), self._database:
                self._database.executemany(
                    "INSERT OR REPLACE INTO files VALUES (?, ?, ?, ?, ?, ?)", new
                )

    def _find_any(self) -> bool:
        if self._database is not None:
            with contextlib.suppress(sqlite3.Error):
                return self._database.execute("SELECT 1 FROM files LIMIT 1").fetchone() is not None
        return False

    def _find(self, names: list[str]) -> dict[str, tuple[FileState, bytes]]:
        if self._database is None:
            return {}
        marks = ", ".join("?" * len(names))
        with contextlib.suppress(sqlite3.Error):
            rows = self._database.execute(f"{_FIND}({marks})", list(map(os.fsencode, names)))
            return {os.fsdecode(path): (FileState(*state), sha256) for path, *state, sha256 in rows}
        return {}
