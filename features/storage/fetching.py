"""Copies of objects on this machine's disk, kept for as long as the objects stay as they are."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

from features.errors import StorageError
from features.storage.addresses import Address, address_of, is_remote
from features.storage.listing import list_below
from features.storage.objects import State, download, look_up
from features.storage.user_cache import user_cache

__all__ = ["fetch", "fetch_folder", "file_sha256", "kept", "named", "require_free_disk"]

_UNSAFE: Final = re.compile(r"[^\w.-]")
_CURRENT: Final = "current"
_NOTE: Final = "states.json"
_AT_ONCE: Final = 8
# Of this process: where copies are, and of what.
_COPIES: Final[dict[str, str]] = {}


def fetch(place: str | os.PathLike[str]) -> Path:
    """Give a file on this machine with an object's content, fetched unless it is as it was.

    Parameters
    ----------
    place : str or PathLike
        An address; with ``#sha256=…`` behind it, content of another hash is refused. A path is
        given back as it is.

    Returns
    -------
    Path
        Below the user's cache folder, called as the object is.

    Raises
    ------
    StorageError
        If it can't be fetched, is not what the address says, or there is no room for it.
    """
    if not is_remote(place):
        return Path(place)
    address = address_of(place)
    state = look_up(place)
    folder = _folder(address)
    file = folder / _key(state) / (_UNSAFE.sub("_", address.name) or "object")
    if not state.etag or not file.is_file() or file.stat().st_size != state.size:
        _bring(place, address, state, file)
    _require_hash(address, file)
    (folder / _CURRENT).write_text(f"{file.parent.name}/{file.name}", encoding="utf-8")
    _COPIES[str(file)] = str(address)
    return file


def fetch_folder(place: str | os.PathLike[str]) -> Path:
    """Give a folder on this machine with all that lies below an address.

    What has not changed since is not fetched again.

    Parameters
    ----------
    place : str or PathLike
        An address; a path is given back as it is.

    Returns
    -------
    Path
        Below the user's cache folder, called as the address ends.

    Raises
    ------
    StorageError
        If nothing lies there, it can't be fetched, or there is no room for it.
    """
    if not is_remote(place):
        return Path(place)
    address = address_of(place)
    found = list_below(place)
    if not found.names:
        raise StorageError("missing", f"nothing lies below {address}: check the address")
    names = set(found.names)
    if odd := next((name for name in names if not _is_plain(name)), None):
        raise StorageError(
            "unusable",
            f"{address} holds {odd!r}, which is no path: rename it",
        )
    folder = _folder(address) / "all" / (address.name or "bucket")
    note = folder.parent / _NOTE
    try:
        folder.mkdir(parents=True, exist_ok=True)
        before = _read_note(note)
        now = {name: mark for name in found.names if (mark := found.mark(name))}
        wanted = [
            name
            for name in found.names
            if before.get(name) is None
            or before[name] != now.get(name)
            or not (folder / name).is_file()
        ]
        note.unlink(missing_ok=True)
        with ThreadPoolExecutor(_AT_ONCE, "fetch") as pool:
            list(pool.map(lambda name: _bring_to(address / name, folder / name), wanted))
        for file in [each for each in folder.rglob("*") if each.is_file()]:
            if file.relative_to(folder).as_posix() not in names:
                file.unlink()
        note.write_text(json.dumps(now), encoding="utf-8")
    except OSError as error:
        raise StorageError(
            "unusable", f"no copy of {address} can be kept in {folder} ({error.strerror})"
        ) from error
    _COPIES[str(folder)] = str(address).rstrip("/")
    return folder


def named(text: str) -> str:
    """Let a text name the addresses that were given where it names copies of what is there.

    Parameters
    ----------
    text : str
        Such as an error of a function that was given a copy.

    Returns
    -------
    str
    """
    for copy, address in _COPIES.items():
        # Not of a file beside the copy, which is on this machine alone.
        text = re.sub(rf"{re.escape(copy)}(?![\w.-]*[\w-])", address.replace("\\", r"\\"), text)
    return text


def kept(place: str | os.PathLike[str]) -> Path | None:
    """Give the copy that was fetched last, without asking whether it is still right."""
    folder = _folder(address_of(place))
    try:
        file = folder / (folder / _CURRENT).read_text(encoding="utf-8")
    except OSError:
        return None
    return file if file.is_file() else None


def require_free_disk(folder: Path, needed: int, what: str) -> None:
    """Refuse to begin what the disk has no room for.

    Raises
    ------
    StorageError
    """
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise StorageError(
            "unusable",
            f"{what} needs {needed / 1e9:,.1f} GB of disk in {folder}, where {free / 1e9:,.1f} are "
            "free: make room, or name another folder with LESION_CACHE",
        )


def file_sha256(path: Path) -> str:
    """Hash a file's bytes."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def _is_plain(name: str) -> bool:
    return not any(part in ("", ".", "..") or "\0" in part for part in name.split("/"))


def _read_note(note: Path) -> dict[str, int]:
    try:
        found = json.loads(note.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _bring_to(address: Address, file: Path) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    part = file.with_name(f".{file.name}.part")
    try:
        download(str(address), part)
        os.replace(part, file)
    finally:
        part.unlink(missing_ok=True)


def _folder(address: Address) -> Path:
    return user_cache("fetched") / hashlib.sha256(str(address).encode()).hexdigest()[:32]


def _key(state: State) -> str:
    return hashlib.sha256(f"{state.size} {state.etag}".encode()).hexdigest()[:16]


def _bring(place: str | os.PathLike[str], address: Address, state: State, file: Path) -> None:
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        require_free_disk(file.parent, state.size, f"a copy of {address}")
        handle, part = tempfile.mkstemp(dir=file.parent, suffix=".part")
        os.close(handle)
        try:
            download(place, Path(part))
            os.replace(part, file)
        finally:
            Path(part).unlink(missing_ok=True)
    except OSError as error:
        raise StorageError(
            "unusable", f"no copy of {address} can be kept in {file.parent} ({error.strerror})"
        ) from error


def _require_hash(address: Address, file: Path) -> None:
    if not address.sha256:
        return
    if (found := file_sha256(file)) != address.sha256:
        file.unlink()
        raise StorageError(
            "unusable",
            f"{address} has the sha256 {found[:16]}…, expected "
            f"{address.sha256[:16]}…: it is not the file that was meant",
        )
