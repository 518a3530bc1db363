"""A bundle in the cloud: brought here file by file, by the hashes in its manifest, or put there."""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final

from features.errors import StorageError
from features.storage.addresses import Address, address_of, is_remote
from features.storage.fetching import require_free_disk
from features.storage.objects import download, look_up, put_file, read_object, require_writable
from features.storage.user_cache import user_cache
from models.bundle.manifest import MANIFEST, BundleRefused, read_manifest, verify_files

__all__ = ["BundlePlace", "fetch_bundle"]

_SIZE_LIMIT: Final = 16 << 20
_AT_ONCE: Final = 8
# A bundle may be replaced while it is read.
_TRIES: Final = 2


def fetch_bundle(place: str | os.PathLike[str]) -> Path:
    """Give the folder of a bundle, brought here if it is at an address and not here yet.

    Parameters
    ----------
    place : str or PathLike
        A folder, or its address; ``#sha256=…`` behind that is the hash of its ``bundle.json``,
        which names the hash of every other file.

    Returns
    -------
    Path
        The folder, or the copy of it in the user's cache folder, one for each ``bundle.json``.

    Raises
    ------
    StorageError
        If it can't be read, or there is no room for it.
    BundleRefused
        If it is not the one whose hash was given, incomplete, or altered.
    """
    if not is_remote(place):
        return Path(place)
    address = address_of(place)
    for tried in range(1, _TRIES + 1):
        manifest = _read_manifest(address)
        digest = hashlib.sha256(manifest).hexdigest()
        if address.sha256 not in ("", digest):
            raise BundleRefused(
                f"the bundle {address} has a {MANIFEST} with the sha256 {digest}, expected "
                f"{address.sha256}: it is not the one that was meant, or it was altered"
            )
        folder = user_cache("bundles") / digest[:32] / (address.name or "bundle")
        if _is_whole(folder):
            return folder
        try:
            _bring(address, manifest, folder)
        except BundleRefused:
            if tried == _TRIES or _read_manifest(address) == manifest:
                raise
        else:
            return folder
    raise AssertionError


class BundlePlace:
    """Where to write a bundle that is to lie at a place: the place itself, if it is a path.

    Parameters
    ----------
    place : Path
        A folder, or an address that can be written to.
    overwrite : bool
        Whether a bundle that lies at the address may be replaced.

    Raises
    ------
    StorageError
        If the address can't be read, or not be written to.
    BundleRefused
        If there is a bundle and it may not be replaced.
    """

    def __init__(self, place: Path, *, overwrite: bool) -> None:
        self.folder = place
        self._address: Address | None = None
        if not is_remote(place):
            return
        address = self._address = address_of(place)
        require_writable(address)
        try:
            look_up(str(address / MANIFEST))
        except StorageError as error:
            if error.kind != "missing":
                raise
        else:
            if not overwrite:
                raise BundleRefused(
                    f"there is a bundle at {address}: give another address with --out, or "
                    "--overwrite to replace it"
                )
        key = hashlib.sha256(str(address).encode()).hexdigest()[:32]
        self.folder = user_cache("written") / key / (address.name or "bundle")
        if self.folder.exists():
            shutil.rmtree(self.folder)
        self.folder.parent.mkdir(parents=True, exist_ok=True)

    def put(self) -> None:
        """Put the bundle to the address, ``bundle.json`` last, which names all other files.

        Raises
        ------
        StorageError
            If a file can't be put there; the bundle is kept on this machine.
        """
        if self._address is None:
            return
        names = sorted(file.name for file in self.folder.iterdir() if file.name != MANIFEST)
        try:
            for name in (*names, MANIFEST):
                put_file(self.folder / name, str(self._address / name))
        except StorageError as error:
            raise StorageError(error.kind, f"{error}; the bundle is in {self.folder}") from error
        shutil.rmtree(self.folder)


def _read_manifest(address: Address) -> bytes:
    try:
        return read_object(str(address / MANIFEST), _SIZE_LIMIT).data
    except StorageError as error:
        if error.kind != "missing":
            raise
        raise BundleRefused(
            f"there is no bundle at {address}: it has no {MANIFEST}; give the address of what "
            "fit_classifier.py made, with all of its files"
        ) from error


def _is_whole(folder: Path) -> bool:
    """Tell whether a copy has all of its files; loading it verifies their hashes."""
    try:
        values, _ = read_manifest(folder)
        return all(
            (folder / name).stat().st_size == known["bytes"]
            for name, known in values["files"].items()
        )
    except (BundleRefused, OSError):
        return False


def _bring(address: Address, manifest: bytes, folder: Path) -> None:
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent, suffix=".partial") as made:
            staged = Path(made, folder.name)
            staged.mkdir()
            (staged / MANIFEST).write_bytes(manifest)
            try:
                values, _ = read_manifest(staged)
                _bring_files(address, values["files"], staged)
            except BundleRefused as error:
                # The user knows the address, and nothing of the copy.
                raise BundleRefused(str(error).replace(str(staged), str(address))) from error
            if folder.exists():
                shutil.rmtree(folder)
            staged.rename(folder)
    except OSError as error:
        if _is_whole(folder):
            # Another process brought it at the same time.
            return
        raise BundleRefused(
            f"no copy of the bundle {address} can be kept in {folder.parent} "
            f"({error.strerror or error}): make room, or name another folder with LESION_CACHE"
        ) from error


def _bring_files(address: Address, files: dict[str, Any], staged: Path) -> None:
    needed = sum(int(known["bytes"]) for known in files.values())
    require_free_disk(staged, needed, f"a copy of the bundle {address}")

    def bring(name: str) -> None:
        try:
            download(str(address / name), staged / name)
        except StorageError as error:
            if error.kind != "missing":
                raise

    with ThreadPoolExecutor(_AT_ONCE, "bundle") as pool:
        list(pool.map(bring, files))
    verify_files(staged, files, ())
