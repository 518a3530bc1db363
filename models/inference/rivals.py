"""Somebody else's scores of the same images, out of a table."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from features.cache.contents import Items
from features.datasets.joining import Files, id_column_of, split_word
from features.datasets.reading.cells import Table, read_table
from features.datasets.reading.collections import LABEL_COLUMNS, METADATA_COLUMNS, named_like, spelt
from features.datasets.vocabulary import canonical_class, flag, is_missing, number
from features.errors import LesionError
from features.numbers import count

__all__ = ["read_scores"]

_SCORES: Final = ("score", "probability", "prediction")
_TRUTHS: Final = (*LABEL_COLUMNS, "y", "y true", "malignant", "melanoma", "mel", "positive", "true")
_NO_SCORES: Final = frozenset(name for names in METADATA_COLUMNS.values() for name in names)


def read_scores(
    path: Path, items: Items, labels: npt.NDArray[np.int8], column: str | None = None
) -> tuple[npt.NDArray[np.float64], list[str]]:
    """Read scores by image name.

    Parameters
    ----------
    path : Path
    items : Items
    labels : ndarray of int, shape (n,)
        1 for the positive class.
    column : str, optional
        Of the scores; by default the one called ``score``, ``probability`` or ``prediction``, else
        the only one of numbers that is not the truth.

    Returns
    -------
    scores : ndarray, shape (n,)
        NaN for images without one.
    notes : list of str
        Which column was taken, and what doesn't fit.

    Raises
    ------
    LesionError
        If no column of scores can be told, an id fits several images, or an image has two scores.
    """
    files = Files(items.path.tolist(), items.split.tolist())
    table = read_table(path, lambda text: files.fits(text) is not None)
    id_column = id_column_of(table, files.fits)
    joined = files.join(
        table.records,
        lambda record: record[id_column],
        split=split_word(path.stem),
        called=path.name,
    )
    if joined.ambiguous:
        text, fitting = joined.ambiguous[0]
        raise LesionError(
            f"{path} has {count(len(joined.ambiguous), 'id')} for several images each ({text!r} "
            f"fits {fitting[0]!r} and {fitting[1]!r}): write ids with their folders"
        )
    if not joined.rows and (of_split := split_word(path.stem)) and any(files.splits):
        raise LesionError(
            f"{path} has scores of none of the images of the {of_split} split, of which it is by "
            "its name: rename it if it is not, or choose another --split"
        )
    truths = _truths(table, id_column)
    chosen = _chosen(path, table, id_column, truths, column)
    scores = np.full(len(items), np.nan)
    differing = 0
    truth = truths[0] if truths else None
    for place, records in joined.rows.items():
        told = {record[chosen] for record in records if not is_missing(record[chosen])}
        if len(records) > 1:
            raise LesionError(f"{path} has two scores of {records[1][id_column]}: keep one")
        value = number(told.pop()) if told else None
        scores[place] = np.nan if value is None else value
        known = flag(records[0][truth]) if truth else None
        differing += known is not None and int(known) != int(labels[place])
    notes = [f"{path.name}: names from {id_column}, scores from {chosen}."]
    if truth:
        notes[0] = f"{notes[0][:-1]}, {truth} taken for the truth and not for a score."
    if differing:
        notes.append(
            f"{path.name} has another label for {differing} of the images; "
            "those of the features are used."
        )
    there = np.isfinite(scores)
    if there.any() and truth is None and len(set(scores[there].tolist())) == 2:
        same = scores[there] == labels[there]
        if same.all():
            raise LesionError(
                f"the column {chosen} of {path} is 1 for exactly the {int(labels[there].sum())} "
                "positive images and 0 for the others: that is the truth, not a score; "
                "name another with --score-column"
            )
    return scores, notes


def _numbers(table: Table, column: str) -> list[float] | None:
    """Give the numbers of a column without those that are missing; None if it holds others."""
    values = [record[column] for record in table.records if not is_missing(record[column])]
    found = [number(value) for value in values]
    return [value for value in found if value is not None] if found and None not in found else None


def _truths(table: Table, id_column: str) -> list[str]:
    """Name the columns that are called as the truth is, and hold nothing but 0 and 1."""
    others = [column for column in table.columns if column != id_column]
    return [
        column
        for column in named_like(others, _TRUTHS)
        if all(
            flag(record[column]) is not None or is_missing(record[column])
            for record in table.records
        )
    ]


def _chosen(
    path: Path, table: Table, id_column: str, truths: Sequence[str], asked: str | None
) -> str:
    if asked is not None:
        if asked not in table.columns:
            raise LesionError(
                f"{path} has no column {asked!r}: its columns are {', '.join(table.columns)}"
            )
        if _numbers(table, asked) is None:
            raise LesionError(f"{path}: the column {asked} holds other values than numbers")
        return asked
    numeric = [
        column
        for column in table.columns
        if column != id_column
        and column not in truths
        and spelt(column) not in _NO_SCORES
        and canonical_class(column) != "label"
        and _numbers(table, column) is not None
    ]
    for name in _SCORES:
        if found := named_like(numeric, [name]):
            if name == "score" or len(named_like(numeric, _SCORES)) == 1:
                return found[0]
            break
    if len(numeric) == 1 and not named_like(numeric, _SCORES):
        return numeric[0]
    wanted = named_like(numeric, ("target", "melanoma", "mel"))
    if len(wanted) == 1 and not named_like(numeric, _SCORES):
        return wanted[0]
    raise LesionError(
        f"{path} has {'no column' if not numeric else 'several columns'} of numbers to take "
        f"scores from: its columns are {', '.join(table.columns)}; name one with --score-column"
    )
