"""The same images as several networks saw them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from features.cache.contents import Features
from tests.models.data.clusters import features_of


def seen(
    name: str,
    n: int = 150,
    d: int = 12,
    *,
    distance: float = 1.2,
    seed: int = 0,
    splits: tuple[str, ...] = ("train", "train", "train", "valid", "test"),
    **extractor: Any,
) -> Features:
    """What one network makes of images whose labels don't depend on it.

    Parameters
    ----------
    name : str
        Of its layer, so that each has a fingerprint of its own.
    distance : float
        Between the classes, in each of three columns.
    seed : int
        Of what it sees.
    """
    y = np.arange(n) * 7 % 20 < 7
    X = np.random.default_rng(seed).normal(size=(n, d)).astype(np.float32)
    X[y, :3] += distance
    found = features_of(
        X,
        np.where(y, "melanoma", "nevus"),
        split=[splits[place % len(splits)] for place in range(n)],
    )
    return replace(found, spec=replace(found.spec, layers=(name,), **extractor))


def changed(features: Features, **columns: Any) -> Features:
    """Give the same with other columns of the items."""
    return replace(features, items=replace(features.items, **columns))


def shuffled(features: Features, seed: int = 5, without: tuple[int, ...] = ()) -> Features:
    """Give items and rows in another order, and fewer of them."""
    rng = np.random.default_rng(seed)
    rows = rng.permutation(len(features.embeddings))
    items = features.items.take(
        np.setdiff1d(rng.permutation(len(features.items)), without, assume_unique=True)
    )
    return replace(
        features,
        embeddings=features.embeddings[rows],
        items=replace(items, row=np.argsort(rows)[items.row]),
    )
