"""Which split each row of a table names: in a column of words, or in columns of 0 and 1."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from features.datasets.reading.cells import Table
from features.datasets.reading.collections import SPLIT_COLUMNS, named_like
from features.datasets.splits import SPLITS
from features.datasets.vocabulary import (
    AMBIGUOUS_SPLITS,
    all_flags,
    flag,
    folder_words,
    is_missing,
    plain,
    split_of,
)
from features.errors import DatasetError

__all__ = ["SplitReading", "read_splits"]

# A column of so many different values is of something else.
_MOST_WORDS: Final = 50
_AROUND: Final = frozenset({"is", "in", "for", "of", "use", "used", "set", "split", "data", "part"})


@dataclass(frozen=True)
class SplitReading:
    """The split of each record of a table.

    Parameters
    ----------
    columns : tuple of str
        That were taken; none if the table names no splits.
    values : list of str
        One of each record; empty where none is named.
    notes : tuple of str
    """

    columns: tuple[str, ...]
    values: list[str]
    notes: tuple[str, ...] = ()


def read_splits(table: Table, columns: Sequence[str], asked: str | None = None) -> SplitReading:
    """Find the splits of a table: never some of a column, and never one of two that differ.

    Parameters
    ----------
    table : Table
    columns : sequence of str
        Those that may hold it.
    asked : str, optional
        The one that is meant.

    Returns
    -------
    SplitReading

    Raises
    ------
    DatasetError
        If a column holds splits and something else, or several columns differ.
    """
    if asked is not None:
        if (told := _flag_split(table, asked)) is not None:
            return _by_flags(table, {asked: told})
        return SplitReading((asked,), _words(table, asked))
    named = [column for column in named_like(columns, SPLIT_COLUMNS) if _understood(table, column)]
    whole = [column for column in named if not _strangers(table, column)]
    whole += [
        column
        for column in columns
        if column not in named
        and len(_understood(table, column)) > 1
        and not _strangers(table, column)
    ]
    if whole:
        read = [_words(table, column) for column in whole]
        for column, values in zip(whole, read, strict=True):
            if values != read[0]:
                raise DatasetError(
                    f"{table.path} has several columns that may be the splits, {whole[0]} and "
                    f"{column}, which differ: name one with --split-column"
                )
        return SplitReading((whole[0],), read[0])
    if named:
        return SplitReading((named[0],), _words(table, named[0]))
    flags = {column: told for column in columns if (told := _flag_split(table, column)) is not None}
    sure = any(plain(column).startswith("is") and told != "valid" for column, told in flags.items())
    if sure or {"train", "test"} <= set(flags.values()):
        return _by_flags(table, flags)
    return SplitReading((), [""] * len(table.records))


def _understood(table: Table, column: str) -> set[str]:
    found = {record[column] for record in table.records}
    if len(found) > _MOST_WORDS:
        return set()
    return {split for value in found if not is_missing(value) and (split := split_of(value))}


def _strangers(table: Table, column: str) -> Counter[str]:
    counts = Counter(record[column] for record in table.records)
    strange = {
        value: count
        for value, count in counts.items()
        if not is_missing(value) and split_of(value) is None
    }
    if _lone(table, column):
        strange = {
            value: count for value, count in strange.items() if plain(value) not in AMBIGUOUS_SPLITS
        }
    return Counter(strange)


def _lone(table: Table, column: str) -> str:
    """Give what evaluation means beside the splits that a column names, as for folders."""
    known = _understood(table, column)
    free = sorted({"valid", "test"} - known)
    return free[0] if known and free else ""


def _words(table: Table, column: str) -> list[str]:
    strange = _strangers(table, column)
    if strange:
        value, count = strange.most_common(1)[0]
        raise DatasetError(
            f"{table.path}: got split {value!r} in the column {column} ({count} "
            f"{'row' if count == 1 else 'rows'}), expected train, valid or test, or a word for one "
            "of them, or nothing where there is none"
        )
    rest = _lone(table, column)
    return [
        "" if is_missing(record[column]) else split_of(record[column]) or rest
        for record in table.records
    ]


def _flag_split(table: Table, column: str) -> str | None:
    told = [word for word in folder_words(column) if word not in _AROUND]
    split = split_of(told[0]) if len(told) == 1 else None
    return split if split and all_flags([record[column] for record in table.records]) else None


def _by_flags(table: Table, flags: Mapping[str, str]) -> SplitReading:
    free = [split for split in SPLITS if split not in flags.values()]
    # Whoever is not in training is in the test; whoever is not in either is in the third.
    rest = "test" if set(flags.values()) == {"train"} else free[0] if free else ""
    values = []
    for line, record in zip(table.lines, table.records, strict=True):
        on = {split for column, split in flags.items() if flag(record[column])}
        if len(on) > 1:
            raise DatasetError(
                f"{table.path}, line {line} is in several splits by {' and '.join(flags)}: keep one"
            )
        known = not any(is_missing(record[column]) for column in flags)
        values.append(on.pop() if on else rest if known else "")
    note = f"{table.path.name}: splits were taken from {' and '.join(flags)}" + (
        f"; where {'it is' if len(flags) == 1 else 'all are'} 0, it is {rest}" if rest else ""
    )
    return SplitReading(tuple(flags), values, (note,))
