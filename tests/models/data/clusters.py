"""Embeddings with a known structure, as the feature file would give them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from scipy.special import expit

from features.cache.contents import Features, Items
from features.embedding.specification import ExtractorSpec


def clusters(
    n: int = 200, d: int = 32, *, share: float = 0.3, distance: float = 3.0, seed: int = 0
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int8]]:
    """Two Gaussian clouds, correlated between columns, `distance` apart in four directions."""
    rng = np.random.default_rng(seed)
    y = np.zeros(n, np.int8)
    y[: round(share * n)] = 1
    rng.shuffle(y)
    mixing = rng.normal(size=(d, d)) / np.sqrt(d) + np.eye(d)
    signal = np.zeros(d)
    signal[:4] = distance / 2
    return ((rng.normal(size=(n, d)) + np.outer(y, signal)) @ mixing).astype(np.float32), y


def features_of(
    X: npt.NDArray[np.float32],
    label: Sequence[str] | npt.NDArray[np.str_],
    *,
    split: Sequence[str] | str = "train",
    group: Sequence[str] | str = "",
    row: Sequence[int] | npt.NDArray[np.int64] | None = None,
    path: Sequence[str] | None = None,
    synthetic: bool = False,
) -> Features:
    """Wrap embeddings and labels, one item per label."""
    n = len(label)
    rows = np.arange(n) if row is None else np.asarray(row)
    spec = ExtractorSpec(
        network="inception_v3",
        weights="untrained",
        weights_sha256="0" * 64,
        input_size=299,
        dim=X.shape[1],
        layers=("mixed10",),
    )
    items = Items(
        row=rows.astype(np.int64),
        sha256=np.array([f"{place:064x}" for place in rows]),
        path=np.array([f"{place}.jpg" for place in range(n)] if path is None else list(path)),
        label=np.asarray(label),
        split=np.array([split] * n if isinstance(split, str) else list(split)),
        group=np.array([group] * n if isinstance(group, str) else list(group)),
        width=np.full(n, 600, np.int32),
        height=np.full(n, 450, np.int32),
    )
    return Features(spec=spec, embeddings=X, items=items, synthetic=synthetic)


def drawn(
    n: int, seed: int, *, slope: float = 1.5, intercept: float = -1.0
) -> tuple[npt.NDArray[np.int8], npt.NDArray[np.float64]]:
    """Scores, and labels that are positive with the probability that a sigmoid gives."""
    rng = np.random.default_rng(seed)
    scores = rng.normal(size=n) * 2
    return (rng.random(n) < expit(slope * scores + intercept)).astype(np.int8), scores
