"""Tables, and what images are taken for because of them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from features.datasets.folders import Choices, find_images
from features.datasets.tables import LabelTable
from features.errors import DatasetError

Make = Callable[..., Path]


def table(path: Path, *lines: str, **columns: object) -> LabelTable:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return LabelTable(path, **columns)


def labels(folder: Path, *tables: LabelTable, **choices: object) -> dict[str, str]:
    found = find_images(folder, tables, Choices(**choices) if choices else None)
    return {item.path: item.label for item in found.items}


def refused(folder: Path, *tables: LabelTable) -> str:
    with pytest.raises(DatasetError) as caught:
        find_images(folder, tables)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def split_folders(folder_of_images: Make) -> Path:
    """Make folders of three splits in which the same names stand for different images."""
    return folder_of_images(
        *(f"train/images/000{n}.jpg" for n in (1, 2, 3)),
        *(f"valid/images/000{n}.jpg" for n in (1, 2)),
        *(f"test/images/000{n}.jpg" for n in (1, 4)),
    )
