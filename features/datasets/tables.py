"""Labels, splits and groups from a table, such as the ground truth of an ISIC challenge."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from features.datasets.joining import id_column_of
from features.datasets.reading.cells import Row, Table, read_table
from features.datasets.reading.collections import (
    GROUP_COLUMNS,
    LABEL_COLUMNS,
    METADATA_COLUMNS,
    NO_CLASSES,
    class_columns,
    find_collection,
    headerless_flags,
    named_like,
    spelt,
)
from features.datasets.reading.split_columns import read_splits
from features.datasets.vocabulary import (
    all_flags,
    flag,
    is_known_class,
    is_missing,
    plain,
    whole_number,
)
from features.errors import DatasetError
from features.numbers import count

__all__ = ["Columns", "LabelRow", "LabelTable", "Reading"]

_NONE_OF_THESE: Final = "other"


@dataclass(frozen=True)
class LabelRow:
    """What a table says of one image; what is missing is empty."""

    id: str
    label: str = ""
    split: str = ""
    group: str = ""
    line: int = 0


@dataclass(frozen=True)
class Columns:
    """Which columns of a table were taken, for what.

    Parameters
    ----------
    id : str
    labels, splits, groups : tuple of str
        Of groups the first that is not missing counts.
    known : tuple of str
        Columns of age, sex and site, which are not used here.
    """

    id: str
    labels: tuple[str, ...] = ()
    splits: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()
    known: tuple[str, ...] = ()


@dataclass(frozen=True)
class Reading:
    """What was read of a table.

    Parameters
    ----------
    rows : list of LabelRow
    columns : Columns
    collection : str
        Of which published collection it is; empty if that is not known.
    notes : tuple of str
    """

    rows: list[LabelRow]
    columns: Columns
    collection: str = ""
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class LabelTable:
    """A table and which of its columns to read.

    Parameters
    ----------
    path : Path
    id_column : str, optional
        Names the image; by default the one whose values fit the most image files.
    label_columns : sequence of str, optional
        One column of class names, one column of 0 and 1 named after the class, or several such
        columns of which at most one is 1 (none: class "other"). By default what the collection is
        known for, a column that is called so, or all columns that hold nothing but 0 and 1.
    split_column, group_column : str, optional
        By default columns that are called so.
    labelled : bool, optional
        Whether labels are read.
    """

    path: Path
    id_column: str | None = None
    label_columns: Sequence[str] = ()
    split_column: str | None = None
    group_column: str | None = None
    labelled: bool = True

    def narrowed(self, tables: Sequence[LabelTable]) -> LabelTable:
        """Forget names of columns that this table lacks and another of `tables` has.

        Raises
        ------
        DatasetError
            If no table has a column that is asked for.
        """
        asked = (self.id_column, *self.label_columns, self.split_column, self.group_column)
        if not any(asked):
            return self
        read = {table.path: read_table(table.path) for table in (self, *tables)}
        mine = read[self.path]

        def kept(name: str | None) -> str | None:
            if name is None or mine.column(name) is not None:
                return name
            if any(other.column(name) is not None for other in read.values()):
                return None
            raise DatasetError(
                f"{self.path} has no column {name!r}: its columns are {', '.join(mine.columns)}"
            )

        labels = [name for name in self.label_columns if kept(name)] if self.labelled else []
        return replace(
            self,
            id_column=kept(self.id_column),
            label_columns=labels,
            split_column=kept(self.split_column),
            group_column=kept(self.group_column),
        )

    def rows(self, fits: Callable[[str], object]) -> Reading:
        """Read the table.

        Parameters
        ----------
        fits : callable
            Gives which image a text names, or None: the id column is found by it.

        Returns
        -------
        Reading

        Raises
        ------
        DatasetError
            If the file can't be read, a column is missing, several columns may be meant, or a
            value can't be understood.
        """
        table = read_table(self.path, lambda text: fits(text) is not None)
        known = find_collection(table.columns)
        asked = (self.id_column, *self.label_columns, self.split_column, self.group_column)
        for name in asked:
            if name is not None and table.column(name) is None:
                raise DatasetError(
                    f"{self.path} has no column {name!r}: "
                    f"its columns are {', '.join(table.columns)}"
                )
        id_column = table.column(self.id_column)
        if id_column is None:
            preferred = named_like(table.columns, [known.id_column]) if known else []
            id_column = id_column_of(table, fits, preferred)
        others = [column for column in table.columns if column != id_column]
        for name in asked[1:]:
            if name is not None and table.column(name) == id_column:
                raise DatasetError(
                    f"{self.path}: the column {name} names the images and can be nothing else: "
                    "name another, or another --id-column"
                )
        splits = read_splits(table, others, table.column(self.split_column))
        groups = _group_columns(table, others, table.column(self.group_column), fits)
        used = {*splits.columns, *groups}
        free = [column for column in others if column not in used]
        labels: list[str] = []
        chosen: list[str] = []
        notes = [*table.notes, *splits.notes]
        if self.labelled:
            named = [table.column(name) or name for name in self.label_columns]
            chosen = named or self._label_columns(table, free)
            labels = self._labels(table, id_column, chosen)
            notes += _missing_notes(table, chosen, labels)
        rows = [
            LabelRow(
                id=record[id_column],
                label=labels[at] if labels else "",
                split=splits.values[at],
                group=_group(record, groups),
                line=table.lines[at],
            )
            for at, record in enumerate(table.records)
            if not is_missing(record[id_column])
        ]
        if dropped := len(table.records) - len(rows):
            notes.append(f"{self.path.name}: {count(dropped, 'row', 'names', 'name')} no image")
        metadata = [
            column for names in METADATA_COLUMNS.values() for column in named_like(free, names)
        ]
        taken = Columns(id_column, tuple(chosen), splits.columns, tuple(groups), tuple(metadata))
        if not table.header:
            notes.append(f"{self.path.name} has no header: its first line was read as data")
        return Reading(rows, taken, known.name if known else "", tuple(notes))

    def _label_columns(self, table: Table, free: Sequence[str]) -> list[str]:
        known = find_collection(table.columns)
        if known and known.label_column:
            found = named_like(table.columns, [known.label_column])
            if found:
                return found[:1]
        flags = [
            column
            for column in class_columns(free)
            # A column without a name beside named ones numbers the rows.
            if not (table.header and column.startswith("column "))
            and all_flags([record[column] for record in table.records])
        ]
        named = [
            column for column in named_like(free, LABEL_COLUMNS) if _tells(table.records, column)
        ]
        texts = [column for column in named if column not in flags]
        sure = flags if any(map(is_known_class, flags)) else []
        # Words tell more than one flag does; flags of classes beside words are a second opinion.
        meant = [texts[0]] if len(texts) == 1 and not sure else []
        meant = meant or (sure if sure and not texts and set(named) <= set(sure) else [])
        meant = meant or (named if len(named) == 1 and not sure else [])
        if meant:
            return meant
        of_classes = [
            column
            for column in free
            if spelt(column) not in NO_CLASSES
            and all(
                is_known_class(value) or is_missing(value)
                for value in {record[column] for record in table.records}
            )
            and _tells(table.records, column)
        ]
        if not named and not sure and len(of_classes) == 1:
            # The names of classes tell more than flags of nobody knows what, or row numbers.
            return of_classes
        if several := list(dict.fromkeys((*named, *sure))):
            raise DatasetError(
                f"{self.path} has several columns that may be the labels, {' and '.join(several)}: "
                "name one with --label-column"
            )
        if flags and not of_classes:
            return flags
        if not free:
            raise DatasetError(
                f"{self.path} has no column beside {table.columns[0]!r}: expected one of labels, "
                "with , ; tab or | between, or give the table with --table if it holds none"
            )
        if not table.header and not of_classes and len(free) == 1:
            of_classes = list(free)
        if len(of_classes) == 1:
            return of_classes
        raise DatasetError(
            f"{self.path} has {'several columns' if of_classes else 'no column of 0 and 1'} "
            f"to read labels from: name one of {', '.join(of_classes or free)} with "
            "--label-column, or give the table with --table if it holds none"
        )

    def _labels(self, table: Table, id_column: str, chosen: Sequence[str]) -> list[str]:
        records = table.records
        if len(chosen) == 1:
            return self._one_column(table, chosen[0])
        if not table.header:
            raise DatasetError(
                f"{self.path} has several columns of 0 and 1 and no header that names their "
                "classes: write one as its first line, such as image,melanoma,nevus"
            )
        for column in chosen:
            if not all_flags([record[column] for record in records]):
                raise DatasetError(
                    f"{self.path}: the columns {', '.join(chosen)} hold other values than 0 and 1, "
                    "expected one column of class names or several of 0 and 1"
                )
        return [self._one_hot(record, chosen, record[id_column]) for record in records]

    def _one_column(self, table: Table, column: str) -> list[str]:
        values = [record[column] for record in table.records]
        known = find_collection(table.columns)
        names = dict(known.names) if known and spelt(column) == known.label_column else {}
        if names and all(_code(value) in names or is_missing(value) for value in values):
            return ["" if is_missing(value) else names[_code(value)] for value in values]
        if all_flags(values):
            no, yes = (
                (f"not {column}", column) if table.header else headerless_flags(table.path.stem)
            )
            return ["" if is_missing(value) else (yes if flag(value) else no) for value in values]
        return ["" if is_missing(value) else value for value in values]

    def _one_hot(self, record: Row, columns: Sequence[str], name: str) -> str:
        on = [column for column in columns if flag(record[column])]
        if len(on) > 1:
            raise DatasetError(
                f"{self.path}: {name} is both {on[0]} and {on[1]}, expected one class at most; "
                "name the columns to use with --label-column"
            )
        if on:
            return "" if is_missing(on[0]) else on[0]
        return "" if any(is_missing(record[column]) for column in columns) else _NONE_OF_THESE


def _tells(records: Sequence[Row], column: str) -> bool:
    return any(not is_missing(record[column]) for record in records)


def _code(value: str) -> str:
    known = flag(value)
    return value if known is None else str(int(known))


def _group_columns(
    table: Table, columns: Sequence[str], asked: str | None, fits: Callable[[str], object]
) -> list[str]:
    if asked is not None:
        return [asked]
    found = []
    for names in GROUP_COLUMNS:
        for column in named_like(columns, names):
            values = {record[column] for record in table.records}
            told = {value for value in values if not is_missing(value)}
            if told and not all(map(is_known_class, told)):
                found.append(column)
                break
    return found


def _group(record: Row, columns: Sequence[str]) -> str:
    for at, column in enumerate(columns):
        value = record[column]
        if not is_missing(value):
            # Where one is missing, programs write the numbers of the others as 12.0.
            value = whole_number(value)
            # A lesion of a patient who is not known is nobody else's.
            return value if at == 0 else f"{spelt(column)}: {value}"
    return ""


def _missing_notes(table: Table, chosen: Sequence[str], labels: Sequence[str]) -> list[str]:
    empty = [at for at, label in enumerate(labels) if not label]
    if not empty:
        return []
    words = Counter(
        plain(table.records[at][column]) or "empty"
        for at in empty
        for column in chosen
        if is_missing(table.records[at][column])
    )
    told = ", ".join(word for word, _ in words.most_common(4)) or "a class that is not known"
    return [
        f"{table.path.name}: {len(empty):,} of {count(len(labels), 'row')} "
        f"{'has' if len(empty) == 1 else 'have'} no label ({told})"
    ]
