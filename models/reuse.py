"""Out-of-fold scores of earlier searches, kept in the user's cache folder."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from features.rows import Rows
from models.folds import Fold
from models.heads import Head, Settings
from models.kept import Kept

__all__ = ["Reuse"]

Floats = npt.NDArray[np.float64]

# Raise it when a search would come out differently from the same embeddings.
_SEARCH: Final = 2


class Reuse:
    """What was found before on the same embeddings, labels and folds.

    Parameters
    ----------
    folds : sequence of Fold
    y : ndarray of int, shape (n,)
    kept : Kept, optional
        Where it is kept; in the user's cache folder by default.
    """

    def __init__(
        self, folds: Sequence[Fold], y: npt.NDArray[Any], *, kept: Kept | None = None
    ) -> None:
        self._kept = kept or Kept()
        self._n = len(y)
        self._data = _hash_of(folds, y)

    def recall(self, head: Head, settings: Settings, seed: int) -> Floats | None:
        """Give the out-of-fold scores (n,) of a candidate; None if they have to be computed."""
        if not head.reusable:
            return None
        scores = (self._kept.recall(self._about(head, settings, seed)) or {}).get("scores")
        sound = (
            scores is not None
            and scores.shape == (self._n,)
            and scores.dtype == np.float64
            and bool(np.isfinite(scores).all())
        )
        return scores if sound else None

    def keep(self, head: Head, settings: Settings, seed: int, scores: Floats) -> None:
        """Keep the out-of-fold scores (n,) of a candidate, if there is a folder to keep it in."""
        if head.reusable:
            self._kept.keep(self._about(head, settings, seed), {"scores": scores})

    def _about(self, head: Head, settings: Settings, seed: int) -> dict[str, Any]:
        return {
            "search": _SEARCH,
            "data": self._data,
            "head": head.name,
            "settings": settings,
            "seed": seed,
        }


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
