"""Feature files as version 1 of the format had them: no seal, no checksums."""

from __future__ import annotations

from pathlib import Path

import h5py


def as_version_1(path: Path) -> None:
    """Turn a feature file of today into one of version 1."""
    old = path.with_name(f"{path.name}.old")
    with h5py.File(path) as today, h5py.File(old, "w") as file:
        for name in ("embeddings", "items", "failures"):
            today.copy(name, file)
        file.attrs.update({**today.attrs, "version": 1})
    old.replace(path)
