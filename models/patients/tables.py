"""What is known of a patient beside the image: a baseline without images, and subgroups."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from features.cache.contents import Items
from features.datasets.joining import Files, id_column_of, split_word
from features.datasets.reading.cells import read_table
from features.datasets.reading.collections import METADATA_COLUMNS, find_collection, named_like
from features.datasets.vocabulary import is_missing, number, sex, site
from features.numbers import count
from models.errors import TrainingError
from models.heads.base import Head
from models.heads.logistic import make_logistic
from models.patients.encoding import kinds_in, numbers

__all__ = ["BASELINE", "Metadata", "read_metadata"]

BANDS: Final = ((0, 30), (30, 45), (45, 60), (60, 75), (75, 200))


@dataclass(frozen=True)
class Metadata:
    """Age, sex and site by name of the image.

    Parameters
    ----------
    rows : dict of str to dict of str to (float or str or None)
        By path of the image: ``"age"`` in years, ``"sex"`` as female or male, ``"site"`` in lower
        case; None is missing.
    columns : tuple of str
        Which of the three the tables have.
    notes : tuple of str
        What was not understood.
    """

    rows: dict[str, dict[str, Any]]
    columns: tuple[str, ...]
    notes: tuple[str, ...] = ()

    def of(self, items: Items) -> list[dict[str, Any]]:
        """Give what is known of each item; nothing for those in no table."""
        return [self.rows.get(path, {}) for path in items.path.tolist()]

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
                "ids must be the images' names, with or without their extension"
            )
        notes = [
            f"Metadata is known of {found} of {len(rows)} {part} images; what is missing is a "
            "category of its own."
            for part, rows in known.items()
            if (found := sum(map(bool, rows))) < len(rows)
        ]
        encoded = {part: self._numbers(rows, known["train"]) for part, rows in known.items()}
        return encoded, [*notes, *self.notes]

    def _numbers(
        self, rows: Sequence[dict[str, Any]], train: Sequence[dict[str, Any]]
    ) -> npt.NDArray[np.float32]:
        return numbers(kinds_in(self.columns, train), rows).astype(np.float32)


def read_metadata(
    paths: Sequence[Path], names: Sequence[str], splits: Sequence[str] | None = None
) -> Metadata:
    """Read tables of age, sex and site.

    Parameters
    ----------
    paths : sequence of Path
        Tables; what is missing in one may be in another.
    names : sequence of str
        Paths of the images there are.
    splits : sequence of str, optional
        Their splits: a table that is called by one is looked up for the images of that alone.

    Returns
    -------
    Metadata

    Raises
    ------
    DatasetError
        If a table can't be read.
    TrainingError
        If it has none of the three columns, an age is no number, no id fits an image, an id fits
        several, or two rows tell different things of one image.
    """
    files = Files(names, splits)
    rows: dict[str, dict[str, Any]] = {}
    found: set[str] = set()
    odd: Counter[str] = Counter()
    for path in paths:
        table = read_table(path, lambda text: files.fits(text) is not None)
        known = find_collection(table.columns)
        preferred = named_like(table.columns, [known.id_column]) if known else []
        id_column = id_column_of(table, files.fits, preferred)
        others = [column for column in table.columns if column != id_column]
        columns = {
            name: called[0]
            for name, aliases in METADATA_COLUMNS.items()
            if (called := named_like(others, aliases))
        }
        if not columns:
            raise TrainingError(
                f"{path} has no column of age, sex or site: "
                f"its columns are {', '.join(table.columns)}"
            )
        joined = files.join(
            table.records,
            lambda record, column=id_column: record[column],  # type: ignore[misc]
            split=split_word(path.stem),
            called=path.name,
        )
        if joined.ambiguous:
            text, fitting = joined.ambiguous[0]
            raise TrainingError(
                f"{path} has {count(len(joined.ambiguous), 'id')} for several images each "
                f"({text!r} fits {fitting[0]!r} and {fitting[1]!r}): write ids with their folders"
            )
        if not joined.rows:
            of_split = split_word(path.stem)
            if of_split and any(splits or ()):
                raise TrainingError(
                    f"no id in {path} fits an image of the {of_split} split, of which the table is "
                    "by its name: rename it if it is not"
                )
            raise TrainingError(
                f"no id in {path} fits an image: ids must be the images' names, "
                "with or without their extension"
            )
        found |= set(columns)
        for at, records in joined.rows.items():
            for record in records:
                values = {
                    name: _value(path, name, record[column], odd)
                    for name, column in columns.items()
                }
                _merge(rows.setdefault(files.paths[at], {}), values, files.paths[at], path)
    notes = [
        f"The sex {text} was not understood and counts as not known: {count(rows, 'row')}."
        for text, rows in odd.items()
        if rows
    ]
    return Metadata(rows, tuple(name for name in METADATA_COLUMNS if name in found), tuple(notes))


def _merge(known: dict[str, Any], values: dict[str, Any], name: str, path: Path) -> None:
    for key, value in values.items():
        if value is None or known.get(key) in (None, value):
            known[key] = known.get(key) if value is None else value
        else:
            raise TrainingError(
                f"{name} has {key} {known[key]!r} by one row and {value!r} by another of {path}: "
                "keep the right one"
            )


def _value(path: Path, name: str, text: str, odd: Counter[str]) -> float | str | None:
    if is_missing(text):
        return None
    if name == "site":
        return site(text)
    if name == "sex":
        known = sex(text)
        odd[repr(text[:40])] += known is None
        return known
    age = number(text.removesuffix("+"))
    if age is None or not 0 <= age < BANDS[-1][1]:
        raise TrainingError(f"{path}: got age {text!r}, expected years, or nothing where unknown")
    return age


BASELINE: Final = Head(
    "metadata",
    "Metadata alone",
    lambda _: [{"C": 10.0**power} for power in (-3, -2, -1, 0, 1)],
    make_logistic,
)
