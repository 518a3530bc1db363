"""What is known of a patient beside the image: a baseline without images, and subgroups."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from features.cache.contents import Items
from features.datasets.tables import LabelTable
from models.errors import TrainingError
from models.heads.base import Head
from models.heads.logistic import make_logistic
from models.patients.encoding import MISSING, kinds_in, numbers

__all__ = ["BASELINE", "Metadata", "image_keys", "read_metadata"]

# Where the names of ISIC archives, challenges and HAM10000 tell what a column holds.
_COLUMNS: Final = {
    "age": ("age", "age_approximate", "age_approx"),
    "sex": ("sex", "gender"),
    "site": (
        "site",
        "localization",
        "anatom_site_general",
        "anatom_site_general_challenge",
        "anatom_site",
    ),
}


BANDS: Final = ((0, 30), (30, 45), (45, 60), (60, 75), (75, 200))


@dataclass(frozen=True)
class Metadata:
    """Age, sex and site by name of the image.

    Parameters
    ----------
    rows : dict of str to dict of str to (float or str or None)
        ``"age"`` in years, ``"sex"`` and ``"site"`` as they are written, in lower case; None is
        missing.
    columns : tuple of str
        Which of the three the tables have.
    """

    rows: dict[str, dict[str, Any]]
    columns: tuple[str, ...]

    def of(self, items: Items) -> list[dict[str, Any]]:
        """Give what is known of each item; nothing for those in no table."""
        return [
            next((self.rows[key] for key in image_keys(path) if key in self.rows), {})
            for path in items.path.tolist()
        ]

    def encode(
        self, parts: Mapping[str, Items]
    ) -> tuple[dict[str, npt.NDArray[np.float32]], list[str]]:
        """Turn metadata into numbers.

        Parameters
        ----------
        parts : mapping of str to Items
            ``"train"`` names the categories; others that occur elsewhere count as missing.

        Returns
        -------
        columns : dict of str to ndarray, shape (n, k)
            Age and whether it is missing; one column per sex and site, one for each missing.
        notes : list of str

        Raises
        ------
        TrainingError
            If nothing is known of any training image.
        """
        known = {part: self.of(items) for part, items in parts.items()}
        if not any(known["train"]):
            raise TrainingError(
                "the metadata fits none of the training images: "
                "ids must be the images' names, with or without their ending"
            )
        notes = [
            f"Metadata is known of {found} of {len(rows)} {part} images; what is missing is a "
            "category of its own."
            for part, rows in known.items()
            if (found := sum(map(bool, rows))) < len(rows)
        ]
        return {part: self._numbers(rows, known["train"]) for part, rows in known.items()}, notes

    def _numbers(
        self, rows: Sequence[dict[str, Any]], train: Sequence[dict[str, Any]]
    ) -> npt.NDArray[np.float32]:
        return numbers(kinds_in(self.columns, train), rows).astype(np.float32)


def read_metadata(paths: Sequence[Path], names: Sequence[str]) -> Metadata:
    """Read tables of age, sex and site.

    Parameters
    ----------
    paths : sequence of Path
        CSV tables; an image in several of them is described by the last.
    names : sequence of str
        Paths of the images there are, to find the column of ids by.

    Returns
    -------
    Metadata

    Raises
    ------
    DatasetError
        If a table can't be read.
    TrainingError
        If it has none of the three columns, an age is no number, or no id fits an image.
    """
    keys = {key for name in names for key in image_keys(name)}
    rows: dict[str, dict[str, Any]] = {}
    found: set[str] = set()
    for path in paths:
        table = LabelTable(path)
        named, records = table.read()
        id_column = table.guess_id_column(named, records, keys)
        columns = _known_columns([column for column in named if column != id_column])
        if not columns:
            raise TrainingError(
                f"{path} has no column of age, sex or site: its columns are {', '.join(named)}"
            )
        if not any(record[id_column] in keys for record in records):
            raise TrainingError(
                f"no id in {path} fits an image: ids must be the images' names, "
                "with or without their ending"
            )
        found |= set(columns)
        for record in records:
            rows[record[id_column]] = {
                name: _value(path, name, record[column]) for name, column in columns.items()
            }
    return Metadata(rows, tuple(name for name in _COLUMNS if name in found))


def image_keys(path: str) -> tuple[str, ...]:
    """Give the names by which a table may call an image: path, file name, name without ending."""
    name = path.rsplit("/", 1)[-1]
    return path, name, name.rsplit(".", 1)[0] if "." in name[1:] else name


def _known_columns(columns: Sequence[str]) -> dict[str, str]:
    lower = {column.casefold(): column for column in columns}
    return {
        name: next(lower[alias] for alias in aliases if alias in lower)
        for name, aliases in _COLUMNS.items()
        if any(alias in lower for alias in aliases)
    }


def _value(path: Path, name: str, text: str) -> float | str | None:
    if text.casefold() in MISSING:
        return None
    if name != "age":
        return text.casefold()
    try:
        age = float(text)
    except ValueError:
        age = -1.0
    if not 0 <= age < BANDS[-1][1]:
        raise TrainingError(f"{path}: got age {text!r}, expected years, or nothing where unknown")
    return age


BASELINE: Final = Head(
    "metadata",
    "Metadata alone",
    lambda _: [{"C": 10.0**power} for power in (-3, -2, -1, 0, 1)],
    make_logistic,
)
