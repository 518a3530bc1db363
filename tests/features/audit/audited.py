"""Folders of drawn lesions with copies planted in them, and the feature files that go with them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image

from features.cache.contents import Features, Items, write_features
from features.datasets.drawn import draw_dataset
from features.datasets.folders import find_images
from features.embedding.extractor import load_extractor

Change = Callable[[Image.Image], Image.Image]


def drawn(folder: Path, train: int = 24, valid: int = 8, *, size: int = 128) -> Path:
    draw_dataset(folder, train=train, valid=valid, test=0, seed=3, size=size)
    return folder


def images_of(folder: Path, split: str) -> list[Path]:
    return sorted((folder / split).rglob("*.jpg")) or sorted((folder / split).rglob("*.png"))


def plant(source: Path, target: Path, change: Change, quality: int = 90) -> Path:
    target.parent.mkdir(parents=True, exist_ok=True)
    change(Image.open(source).convert("RGB")).save(target, quality=quality)
    return target


def features_of(
    folder: Path, *, embed: Callable[[Path], Sequence[float]] | None = None
) -> Features:
    """Wrap the images below a folder; embeddings are coarse colours unless given."""
    spec = load_extractor("inception_v3", "untrained", input_size=75).spec
    rows: dict[str, int] = {}
    embeddings, items = [], []
    for item in find_images(folder).items:
        path = folder / item.path
        sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
        picture = Image.open(path).convert("RGB")
        if sha256 not in rows:
            rows[sha256] = len(rows)
            coarse = np.asarray(picture.resize((5, 5), Image.Resampling.BOX), np.float32).ravel()
            embeddings.append(coarse if embed is None else embed(path))
        items.append((rows[sha256], sha256, item.path, item.label, item.split, "", *picture.size))
    matrix = np.asarray(embeddings, np.float32)
    return Features(
        spec=replace(spec, dim=matrix.shape[1]),
        embeddings=matrix,
        items=Items.from_rows(items),
        synthetic=True,
        images=str(folder),
        created="2025-01-02T03:04:05+00:00",
        software={"python": "3.12"},
    )


def cached(folder: Path, file: Path) -> Path:
    write_features(file, features_of(folder))
    return file
