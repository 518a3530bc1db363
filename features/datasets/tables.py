"""Labels, splits and groups from a CSV table, such as the ground truth of an ISIC challenge."""

from __future__ import annotations

import csv
import io
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from features.datasets.splits import SPLIT_NAMES
from features.errors import DatasetError

__all__ = ["LabelRow", "LabelTable"]

_NONE_OF_THESE: Final = "other"


@dataclass(frozen=True)
class LabelRow:
    """What a table says of one image."""

    id: str
    label: str
    split: str = ""
    group: str = ""


@dataclass(frozen=True)
class LabelTable:
    """A CSV file and which of its columns to read.

    Parameters
    ----------
    path : Path
    id_column : str, optional
        Names the image, with or without its ending; by default the first column whose values fit
        image files.
    label_columns : sequence of str, optional
        One column of class names, one column of 0 and 1 named after the class, or several such
        columns of which at most one is 1 (none: class "other"). By default all columns that
        hold nothing but 0 and 1.
    split_column, group_column : str, optional
    """

    path: Path
    id_column: str | None = None
    label_columns: Sequence[str] = ()
    split_column: str | None = None
    group_column: str | None = None

    def rows(self, names: Container[str]) -> list[LabelRow]:
        """Read the table.

        Parameters
        ----------
        names : container of str
            Names of the images there are, to find the id column by.

        Returns
        -------
        list of LabelRow

        Raises
        ------
        DatasetError
            If the file can't be read, a column is missing, or a value can't be understood.
        """
        columns, records = self.read()
        named = [self.id_column, *self.label_columns, self.split_column, self.group_column]
        for column in named:
            if column is not None and column not in columns:
                raise DatasetError(
                    f"{self.path} has no column {column!r}: its columns are {', '.join(columns)}"
                )
        id_column = self.id_column or self.guess_id_column(columns, records, names)
        labels = self._labels(id_column, columns, records)
        return [
            LabelRow(
                id=record[id_column],
                label=label,
                split=self._split(record),
                group=record[self.group_column] if self.group_column else "",
            )
            for record, label in zip(records, labels, strict=True)
        ]

    def read(self) -> tuple[list[str], list[dict[str, str]]]:
        """Give the columns and the rows as they are written, without surrounding space.

        Raises
        ------
        DatasetError
            If the file can't be read or is no table.
        """
        try:
            text = self.path.read_bytes().decode("utf-8-sig")
            reader = csv.DictReader(io.StringIO(text, newline=""), strict=True)
            columns = [column.strip() for column in reader.fieldnames or ()]
            reader.fieldnames = columns
            records = []
            for record in reader:
                if None in record or None in record.values():
                    raise DatasetError(
                        f"{self.path}, line {reader.line_num}: got {_width(record)} values, "
                        f"expected {len(columns)}"
                    )
                records.append({key: value.strip() for key, value in record.items()})
        except OSError as error:
            raise DatasetError(f"{self.path} can't be read ({error.strerror})") from error
        except (UnicodeDecodeError, csv.Error) as error:
            raise DatasetError(
                f"{self.path} is not a CSV table in UTF-8 ({error}): export it as such"
            ) from error
        if not records:
            raise DatasetError(f"{self.path} has no rows below its header")
        if len(set(columns)) < len(columns):
            raise DatasetError(f"{self.path} has two columns of the same name: rename one")
        return columns, records

    @staticmethod
    def guess_id_column(
        columns: Sequence[str], records: Sequence[Mapping[str, str]], names: Container[str]
    ) -> str:
        """Give the first of the columns whose values fit the most images."""
        fits = {column: sum(record[column] in names for record in records) for column in columns}
        return max(columns, key=lambda column: fits[column])

    def _labels(
        self, id_column: str, columns: Sequence[str], records: Sequence[Mapping[str, str]]
    ) -> list[str]:
        others = [column for column in columns if column != id_column]
        chosen = list(self.label_columns) or [
            column
            for column in others
            if all(_flag(record[column]) is not None for record in records)
        ]
        if not chosen:
            raise DatasetError(
                f"{self.path} has no column of 0 and 1 to read labels from: "
                f"name one of {', '.join(others)} with --label-column"
            )
        flags = all(_flag(record[column]) is not None for record in records for column in chosen)
        if len(chosen) == 1:
            column = chosen[0]
            if not flags:
                return [record[column] for record in records]
            return [column if _flag(record[column]) else f"not {column}" for record in records]
        if not flags:
            raise DatasetError(
                f"{self.path}: the columns {', '.join(chosen)} hold other values than 0 and 1, "
                "expected one column of class names or several of 0 and 1"
            )
        return [self._one_hot(record, chosen, record[id_column]) for record in records]

    def _one_hot(self, record: Mapping[str, str], columns: Sequence[str], name: str) -> str:
        on = [column for column in columns if _flag(record[column])]
        if len(on) > 1:
            raise DatasetError(
                f"{self.path}: {name} is both {on[0]} and {on[1]}, expected one class at most; "
                "name the columns to use with --label-column"
            )
        return on[0] if on else _NONE_OF_THESE

    def _split(self, record: Mapping[str, str]) -> str:
        if not self.split_column:
            return ""
        value = record[self.split_column]
        split = SPLIT_NAMES.get(value.lower())
        if split is None:
            raise DatasetError(
                f"{self.path}: got split {value!r}, "
                f"expected one of {', '.join(sorted(SPLIT_NAMES))}"
            )
        return split


def _flag(value: str) -> bool | None:
    return {"0": False, "0.0": False, "1": True, "1.0": True}.get(value)


def _width(record: Mapping[str | None, object]) -> int:
    extra = record.get(None)
    return sum(key is not None and value is not None for key, value in record.items()) + (
        len(extra) if isinstance(extra, list) else 0
    )
