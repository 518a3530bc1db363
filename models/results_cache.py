"""What was computed before, as arrays in the user's cache folder.

Nothing but numbers is kept, each file says what it is of and carries checksums, and whatever is in
doubt is computed again.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import scipy
import sklearn
import xgboost

from features.storage.user_cache import user_cache

__all__ = ["Kept", "content_hash"]

Arrays = Mapping[str, npt.NDArray[Any]]

_ABOUT: Final = "about"
# What NumPy raises on a file that is not what it wrote.
_DAMAGE: Final = (
    OSError, ValueError, LookupError, EOFError, TypeError, AttributeError, RuntimeError,
    NotImplementedError, SyntaxError, zipfile.BadZipFile, zlib.error,
)  # fmt: skip
_LIMIT_BYTES: Final = 256 * 2**20
_VERSIONS: Final = {module.__name__: module.__version__ for module in (np, scipy, sklearn, xgboost)}


class Kept:
    """A folder of results.

    Parameters
    ----------
    folder : Path, optional
        ``searches`` of `features.storage.user_cache.user_cache` by default.
    limit : int
        Bytes at most; what was used longest ago is dropped first.
    """

    def __init__(self, *, folder: Path | None = None, limit: int = _LIMIT_BYTES) -> None:
        self.folder = folder or user_cache("searches")
        self.limit = limit

    def recall(self, what: Mapping[str, Any]) -> dict[str, npt.NDArray[Any]] | None:
        """Give what was kept.

        Parameters
        ----------
        what : mapping
            All that it depends on besides the versions of the libraries, ready for JSON.

        Returns
        -------
        dict of str to ndarray, or None
            None if it has to be computed.
        """
        about = _about(what)
        path = self._path(about)
        try:
            # Members of the archive have checksums, which are compared when they are read.
            with path.open("rb") as file, np.load(file, allow_pickle=False) as kept:
                found = {name: kept[name] for name in kept.files}
            os.utime(path)
            return found if found.pop(_ABOUT).tobytes() == about else None
        except _DAMAGE:
            return None

    def keep(self, what: Mapping[str, Any], found: Arrays) -> None:
        """Keep arrays, if there is a folder to keep them in.

        Parameters
        ----------
        what
            As for `recall`.
        found : mapping of str to ndarray
        """
        about = _about(what)
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            handle, name = tempfile.mkstemp(dir=self.folder, suffix=".partial")
            try:
                with open(handle, "wb") as file:
                    columns: dict[str, Any] = {_ABOUT: np.frombuffer(about, np.uint8), **found}
                    np.savez(file, **columns)
                os.replace(name, self._path(about))
            finally:
                Path(name).unlink(missing_ok=True)
            self._drop_oldest()
        except OSError:
            # A full disk or a folder that can't be written costs the next run its shortcut.
            return

    def made(self, what: Mapping[str, Any], make: Callable[[], Arrays]) -> Arrays:
        """Give what was kept, or else make it and keep it."""
        found = self.recall(what)
        if found is None:
            made = make()
            self.keep(what, made)
            return made
        return found

    def _path(self, about: bytes) -> Path:
        return self.folder / f"{hashlib.sha256(about).hexdigest()[:32]}.npz"

    def _drop_oldest(self) -> None:
        kept = [(path.stat(), path) for path in self.folder.iterdir()]
        kept.sort(key=lambda entry: entry[0].st_mtime_ns)
        surplus = sum(found.st_size for found, _ in kept) - self.limit
        for found, path in kept:
            if surplus <= 0:
                break
            path.unlink(missing_ok=True)
            surplus -= found.st_size


def content_hash(*arrays: npt.NDArray[Any]) -> str:
    """Hash arrays with their shapes and types.

    Examples
    --------
    >>> import numpy as np
    >>> content_hash(np.zeros(2)) == content_hash(np.zeros(2))
    True
    >>> content_hash(np.zeros(2)) == content_hash(np.zeros((2, 1)))
    False
    """
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(f"{array.dtype} {array.shape}".encode())
        digest.update(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
    return digest.hexdigest()


def _about(what: Mapping[str, Any]) -> bytes:
    return json.dumps({**what, "versions": _VERSIONS}, sort_keys=True).encode()
