"""Embeddings in memory and by blocks, and an approximate SVM that is quick on them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from features.cache.rows import Rows
from models.heads.base import Head
from models.heads.folds.fold import Fold
from models.heads.nystroem import NYSTROEM
from models.training.folds import make_folds
from tests.models.data.clusters import clusters

N, D = 900, 30


def data(distance: float = 1.5) -> tuple[np.ndarray, np.ndarray]:
    X, y = clusters(N, D, distance=distance)
    return X.astype(np.float16).astype(np.float32), y


def both(folds: int = 3) -> tuple[list[Fold], list[Fold], np.ndarray]:
    X, y = data()
    rows = Rows(X.astype(np.float16))
    found = [make_folds(each, y, np.arange(N), folds=folds, seed=0) for each in (X, rows)]
    return found[0], found[1], y


def small_nystroem(landmarks: int = 150) -> Head:
    def candidates(d: int) -> list[dict[str, float]]:
        return [each | {"n_components": landmarks} for each in NYSTROEM.candidates(d)]

    return replace(NYSTROEM, candidates=candidates)
