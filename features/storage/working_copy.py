"""A file in the cloud that is written on this machine first, and put there when it is whole.

HDF5 is not written in place on an object store: a block of it can't be changed there.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from features.errors import StorageError
from features.storage.addresses import address_of, is_remote
from features.storage.fetching import fetch, file_sha256, require_free_disk
from features.storage.objects import State, look_up, put_file, require_writable
from features.storage.user_cache import user_cache

__all__ = ["WorkingCopy", "is_there", "written"]

_NOTE: Final = "put.json"


class WorkingCopy:
    """Where to write what is to lie at a place: the place itself, if it is a path.

    What is at an address already is fetched first, so that it can be added to. A run that ends
    before `publish` leaves its work on this machine, and the next one goes on with it.

    Parameters
    ----------
    place : Path
        A path, or an address that can be written to.

    Raises
    ------
    StorageError
        If the address can't be read, or there is no room for a copy.
    """

    def __init__(self, place: Path) -> None:
        self._place = place
        self._before: State | None = None
        self.path = place
        if not is_remote(place):
            return
        address = address_of(place)
        require_writable(address)
        folder = user_cache("written") / hashlib.sha256(str(address).encode()).hexdigest()[:32]
        self.path = folder / (address.name or "features.h5")
        self._note = folder / _NOTE
        try:
            self._before = look_up(place)
        except StorageError as error:
            if error.kind != "missing":
                raise
        try:
            self._prepare(folder)
        except OSError as error:
            raise StorageError(
                "unusable", f"nothing can be written in {folder} ({error.strerror}): fix that"
            ) from error

    def publish(self) -> None:
        """Put the file at its address, by one request.

        Raises
        ------
        StorageError
            If it can't be put there, or something else was put there meanwhile. The file is kept.
        """
        if not is_remote(self._place):
            return
        now: State | None = None
        try:
            now = look_up(self._place)
        except StorageError as error:
            if error.kind != "missing":
                raise
        if now != self._before:
            raise StorageError(
                "unusable",
                f"{self._place} was written by somebody else meanwhile: what was made is in "
                f"{self.path}; merge both with `python -m features merge`",
            )
        try:
            state = put_file(self.path, self._place, sha256=file_sha256(self.path))
        except StorageError as error:
            raise StorageError(
                error.kind, f"{error}; what was made is in {self.path}, and is put there next time"
            ) from error
        self._before = state
        self._write_note(state)

    def _prepare(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        if self._before is None:
            # What was there is gone: it was to be.
            if self._note.exists():
                self._note.unlink()
                self.path.unlink(missing_ok=True)
            return
        note = self._read_note()
        if self.path.is_file():
            if (note.get("size"), note.get("etag")) == (self._before.size, self._before.etag):
                return
            if any(note.get(name) != value for name, value in _stamp(self.path).items()):
                raise StorageError(
                    "unusable",
                    f"{self.path} holds what an earlier run could not put at {self._place}, where "
                    "something else lies now: merge both with `python -m features merge`, or "
                    "delete the first",
                )
        # Twice: the copy, and the new file that is made from it.
        require_free_disk(folder, 2 * self._before.size, f"to add to {self._place}")
        fetched = fetch(self._place)
        self.path.unlink(missing_ok=True)
        try:
            os.link(fetched, self.path)
        except OSError:
            self.path.write_bytes(fetched.read_bytes())
        self._write_note(self._before)

    def _write_note(self, state: State) -> None:
        note = {"size": state.size, "etag": state.etag, **_stamp(self.path)}
        self._note.write_text(json.dumps(note), encoding="utf-8")

    def _read_note(self) -> dict[str, Any]:
        try:
            note = json.loads(self._note.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        return note if isinstance(note, dict) else {}


@contextlib.contextmanager
def written(place: Path) -> Iterator[Path]:
    """Give where to write a file anew: the place itself, or one that is put to its address.

    Parameters
    ----------
    place : Path
        A path, or an address that can be written to.

    Yields
    ------
    Path
        What lies there is put to the address if nothing was raised.

    Raises
    ------
    StorageError
        If it can't be put there; the file is kept on this machine.
    """
    if not is_remote(place):
        yield place
        return
    address = address_of(place)
    require_writable(address)
    folder = user_cache("written") / hashlib.sha256(f"new {address}".encode()).hexdigest()[:32]
    try:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StorageError(
            "unusable", f"nothing can be written in {folder} ({error.strerror}): fix that"
        ) from error
    file = folder / address.name
    yield file
    try:
        put_file(file, place, sha256=file_sha256(file))
    except StorageError as error:
        raise StorageError(error.kind, f"{error}; what was made is in {file}") from error
    shutil.rmtree(folder, ignore_errors=True)


def is_there(place: Path) -> bool:
    """Tell whether a file lies at a path or an address.

    Raises
    ------
    StorageError
        If an address can't be asked.
    """
    if not is_remote(place):
        return place.exists()
    try:
        look_up(place)
    except StorageError as error:
        if error.kind != "missing":
            raise
        return False
    return True


def _stamp(file: Path) -> dict[str, int]:
    state = file.stat()
    return {"local_size": state.st_size, "local_mtime_ns": state.st_mtime_ns}
