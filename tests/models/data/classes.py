"""Embeddings of several classes, as a real feature file gives them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from features.cache.contents import Features, read_features, write_features
from features.embedding.specification import ExtractorSpec
from tests.models.data.cached import cluster_features, spec_of

ISIC = ("MEL", "NV", "BCC", "AKIEC", "BKL", "DF", "VASC")
SHARES = (0.15, 0.35, 0.1, 0.1, 0.14, 0.08, 0.08)


def class_features(
    path: Path,
    n: int = 350,
    *,
    names: tuple[str, ...] = ISIC,
    shares: tuple[float, ...] = SHARES,
    distance: float = 0.9,
    spec: ExtractorSpec | None = None,
    seed: int = 0,
) -> Features:
    """One cloud per class; three in five images to train on, written to a file and read back."""
    spec = spec or spec_of()
    rng = np.random.default_rng(seed)
    kind = rng.choice(len(names), n, p=shares)
    centres = distance * rng.normal(size=(len(names), 16))
    embeddings = rng.normal(size=(n, spec.dim))
    embeddings[:, :16] += centres[kind]
    features = cluster_features(n, spec=spec)
    items = replace(features.items, label=np.array(names)[kind])
    features = replace(features, embeddings=embeddings.astype(np.float32), items=items)
    write_features(path, features)
    return read_features(path)
