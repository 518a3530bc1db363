"""Feature files that a bundle can be made of: two overlapping clusters."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from features.cache.contents import Features, Items
from features.embedding.extractor import load_extractor
from features.embedding.specification import ExtractorSpec
from tests.pictures import image_bytes

SMALL = 24


def spec_of(dim: int | None = SMALL, **other: Any) -> ExtractorSpec:
    """The smallest extractor that there is, or one like it that heads are cheaper to fit on."""
    spec = load_extractor("inception_v3", "untrained", input_size=75).spec
    return replace(spec, **({"dim": dim} if dim else {}), **other)


def cluster_features(
    n: int = 150,
    *,
    spec: ExtractorSpec | None = None,
    labels: tuple[str, str] = ("benign", "melanoma"),
    splits: tuple[str, ...] = ("train", "train", "train", "valid", "test"),
    synthetic: bool = True,
    **other: Any,
) -> Features:
    """About one in three images is positive."""
    spec = spec or spec_of()
    rng = np.random.default_rng(7)
    positive = rng.random(n) < 0.35
    embeddings = rng.normal(size=(n, spec.dim)).astype(np.float32)
    embeddings[positive, :8] += 0.9
    rows = [
        (
            row,
            hashlib.sha256(str(row).encode()).hexdigest(),
            f"images/{row}.jpg",
            labels[int(positive[row])],
            splits[row % len(splits)],
            "",
            600,
            450,
        )
        for row in range(n)
    ]
    return Features(
        spec=spec,
        embeddings=embeddings,
        items=Items.from_rows(rows),
        synthetic=synthetic,
        images="images",
        created="2025-01-02T03:04:05+00:00",
        software={"python": "3.12"},
        **other,
    )


def with_images(folder: Path, features: Features) -> Features:
    """Put a picture of its own for every item into a folder."""
    folder.mkdir()
    n, hashes = len(features.items), []
    for row in range(n):
        data = image_bytes(row, (120, 60))
        hashes.append(hashlib.sha256(data).hexdigest())
        (folder / f"{row}.jpg").write_bytes(data)
    items = replace(
        features.items,
        sha256=np.array(hashes),
        path=np.array([f"{row}.jpg" for row in range(n)]),
        width=np.full(n, 120, np.int32),
        height=np.full(n, 60, np.int32),
    )
    return replace(features, items=items, images=str(folder))
