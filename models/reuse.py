"""Out-of-fold scores of earlier searches, kept in the user's cache folder.

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
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import platformdirs
import scipy
import sklearn
import xgboost

from features.rows import Rows
from models.folds import Fold
from models.heads import Head, Settings

__all__ = ["Reuse"]

Floats = npt.NDArray[np.float64]

# Raise it when a search would come out differently from the same embeddings.
_SEARCH: Final = 2
# What NumPy raises on a file that is not what it wrote.
_DAMAGE: Final = (
    OSError, ValueError, LookupError, EOFError, TypeError, AttributeError, RuntimeError,
    NotImplementedError, SyntaxError, zipfile.BadZipFile, zlib.error,
)  # fmt: skip
_LIMIT_BYTES: Final = 256 * 2**20
_VERSIONS: Final = {module.__name__: module.__version__ for module in (np, scipy, sklearn, xgboost)}


class Reuse:
    """What was found before on the same embeddings, labels and folds.

    Parameters
    ----------
    folds : sequence of Fold
    y : ndarray of int, shape (n,)
    folder : Path, optional
        Where it is kept; a subfolder of the one that ``LESION_CACHE`` names, or of the user's
        cache folder, by default.
    limit : int
        Bytes at most; what was used longest ago is dropped first.
    """

    def __init__(
        self,
        folds: Sequence[Fold],
        y: npt.NDArray[Any],
        *,
        folder: Path | None = None,
        limit: int = _LIMIT_BYTES,
    ) -> None:
        kept = os.environ.get("LESION_CACHE") or platformdirs.user_cache_path("lesion-classifier")
        self.folder = folder or Path(kept) / "searches"
        self.limit = limit
        self._n = len(y)
        self._data = _hash_of(folds, y)

    def recall(self, head: Head, settings: Settings, seed: int) -> Floats | None:
        """Give the out-of-fold scores (n,) of a candidate; None if they have to be computed."""
        if not head.reusable:
            return None
        about = self._about(head, settings, seed)
        path = self._path(about)
        try:
            # Members of the archive have checksums, which are compared when they are read.
            with path.open("rb") as file, np.load(file, allow_pickle=False) as kept:
                told, scores = kept["about"].tobytes(), kept["scores"]
            os.utime(path)
        except _DAMAGE:
            return None
        sound = (
            told == about
            and scores.shape == (self._n,)
            and scores.dtype == np.float64
            and bool(np.isfinite(scores).all())
        )
        return scores if sound else None

    def keep(self, head: Head, settings: Settings, seed: int, scores: Floats) -> None:
        """Keep the out-of-fold scores (n,) of a candidate, if there is a folder to keep it in."""
        if not head.reusable:
            return
        about = self._about(head, settings, seed)
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            handle, name = tempfile.mkstemp(dir=self.folder, suffix=".partial")
            try:
                with open(handle, "wb") as file:
                    np.savez(file, about=np.frombuffer(about, np.uint8), scores=scores)
                os.replace(name, self._path(about))
            finally:
                Path(name).unlink(missing_ok=True)
            self._drop_oldest()
        except OSError:
            # A full disk or a folder that can't be written costs the next run its shortcut.
            return

    def _about(self, head: Head, settings: Settings, seed: int) -> bytes:
        what = {
            "search": _SEARCH,
            "data": self._data,
            "head": head.name,
            "settings": settings,
            "seed": seed,
            "versions": _VERSIONS,
        }
        return json.dumps(what, sort_keys=True).encode()

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


def _hash_of(folds: Sequence[Fold], y: npt.NDArray[Any]) -> str:
    X: Any = folds[0].X
    if isinstance(X, Rows):
        digest = hashlib.sha256(f"blocks {X.shape} {len(folds)}".encode())
        for block in X.blocks():
            digest.update(block.data)
    else:
        digest = hashlib.sha256(f"{X.dtype} {X.shape} {len(folds)}".encode())
        digest.update(np.ascontiguousarray(X).view(np.uint8).data)
    digest.update(np.asarray(y, np.int8).tobytes())
    for fold in folds:
        digest.update(len(fold.test).to_bytes(8, "little"))
        digest.update(np.asarray(fold.test, np.int64).tobytes())
    return digest.hexdigest()
