"""A table as it lies on the disk: separator, encoding, Excel, with or without a header."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from features.datasets.reading.collections import ID_COLUMNS, LABEL_COLUMNS, named_like, spelt
from features.datasets.vocabulary import is_known_class, is_missing, number
from features.errors import DatasetError
from features.images.formats import IMAGE_SUFFIXES
from features.presenting import NAME_ERRORS
from features.storage.fetching import fetch

__all__ = ["Table", "read_table"]

_SEPARATORS: Final = ("\t", ";", ",", "|")
_LOOKED_AT: Final = 200
_IMAGE_NAME: Final = re.compile(
    rf".({'|'.join(map(re.escape, sorted(IMAGE_SUFFIXES)))})$", re.IGNORECASE
)
_ZIPPED: Final = b"PK\x03\x04"
_OLD_EXCEL: Final = b"\xd0\xcf\x11\xe0"
_STATED: Final = re.compile(r'"?sep=(.)"?\s*(\r\n|\r|\n)', re.IGNORECASE)
_TITLES: Final = 50

Row = Mapping[str, str]


@dataclass(frozen=True)
class Table:
    """The cells of a table, as they are written but without surrounding space.

    Parameters
    ----------
    path : Path
    columns : list of str
    records : list of dict of str to str
    lines : list of int
        Where in the file each record is.
    header : bool
        Whether the columns are named in the file; else they are ``column 1``, ``column 2``, ….
    notes : tuple of str
        What a person should know of how it was read.
    """

    path: Path
    columns: list[str]
    records: list[dict[str, str]]
    lines: list[int]
    header: bool
    notes: tuple[str, ...] = ()

    def column(self, name: str | None) -> str | None:
        """Give the column that is called so, or has this number where there is no header."""
        if name is None or name in self.columns:
            return name
        alike = named_like(self.columns, [spelt(name)])
        if len(alike) == 1:
            return alike[0]
        numbered = f"column {name}"
        return numbered if not self.header and numbered in self.columns else None


def read_table(path: Path, is_image: Callable[[str], bool] = lambda _: False) -> Table:
    """Read a table: separated values, or the first sheet of an Excel file.

    Parameters
    ----------
    path : Path
        A file, or the address of one.
    is_image : callable, optional
        Whether a cell names one of the images there are, to tell a header from data by.

    Returns
    -------
    Table

    Raises
    ------
    DatasetError
        If the file can't be read or is no table.
    StorageError
        If an address can't be read.
    """
    notes: list[str] = []
    rows = _rows(path, notes)
    rows = [(line, [cell.strip() for cell in cells]) for line, cells in rows]
    rows = [(line, cells) for line, cells in rows if any(cells)]
    rows = _without_titles(rows, is_image)
    if not rows:
        raise DatasetError(f"{path} has no rows below its header")
    header = _has_header([cells for _, cells in rows[:_LOOKED_AT]], is_image)
    width = _without_empty(rows)
    columns = rows[0][1] if header else [f"column {n}" for n in range(1, width + 1)]
    columns = [name or f"column {n}" for n, name in enumerate(columns, start=1)]
    if twice := next((name for name in columns if columns.count(name) > 1), None):
        raise DatasetError(f"{path} has two columns of the same name, {twice}: rename one")
    # Tables put one after the other repeat their header.
    body = [row for row in rows[1:] if row[1] != rows[0][1]] if header else rows
    if not body:
        raise DatasetError(f"{path} has no rows below its header")
    for line, cells in body:
        if len(cells) != width:
            raise DatasetError(f"{path}, line {line}: got {len(cells)} values, expected {width}")
    _crosses_to_flags([cells for _, cells in body])
    records = [dict(zip(columns, cells, strict=True)) for _, cells in body]
    return Table(path, columns, records, [line for line, _ in body], header, tuple(notes))


def _rows(path: Path, notes: list[str]) -> list[tuple[int, list[str]]]:
    """Read by what the file is, whatever its name ends in."""
    try:
        with fetch(path).open("rb") as file:
            start = file.read(4)
    except OSError as error:
        raise DatasetError(f"{path} can't be read ({error.strerror})") from error
    if start == _OLD_EXCEL:
        raise DatasetError(f"{path} is of the old Excel format: save it as .xlsx or .csv")
    if start == _ZIPPED or path.suffix.casefold() in (".xlsx", ".xlsm"):
        return _read_excel(path, notes)
    return _read_text(path, notes)


def _without_titles(
    rows: list[tuple[int, list[str]]], is_image: Callable[[str], bool]
) -> list[tuple[int, list[str]]]:
    """Leave out titles, comments and legends above a header, as in PH2_dataset.xlsx."""
    for at, (_, cells) in enumerate(rows[:_TITLES]):
        if any(_IMAGE_NAME.search(cell) or is_image(cell) for cell in cells):
            break
        if sum(map(bool, cells)) > 1 and named_like(cells, ID_COLUMNS):
            return rows[at:]
    return rows


def _without_empty(rows: list[tuple[int, list[str]]]) -> int:
    """Cut off columns at the end that have no name and hold nothing; give how many are left."""
    width = max(len(cells) for _, cells in rows)
    while width > 1 and not any(len(cells) >= width and cells[width - 1] for _, cells in rows):
        width -= 1
    for _, cells in rows:
        del cells[width:]
    if len(rows[0][1]) < width:
        # More values than names: whose are they?
        return len(rows[0][1])
    return width


def _crosses_to_flags(body: Sequence[list[str]]) -> None:
    """Write 1 and 0 where a column holds nothing but crosses and empty cells."""
    for at in range(len(body[0])):
        if {cells[at].casefold() for cells in body} == {"", "x"}:
            for cells in body:
                cells[at] = str(int(bool(cells[at])))


def _read_text(path: Path, notes: list[str]) -> list[tuple[int, list[str]]]:
    try:
        text, code = _decoded(fetch(path).read_bytes())
        if "\0" in text:
            raise csv.Error("it holds zero bytes")
        if text.lstrip().startswith("||"):
            return _between_bars(text)
        stated = _STATED.match(text)
        skipped = 1 if stated else 0
        text = text[stated.end() :] if stated else text
        separator = stated[1] if stated else _separator(text)
        reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
        rows = [(reader.line_num + skipped, cells) for cells in reader]
    except OSError as error:
        raise DatasetError(f"{path} can't be read ({error.strerror})") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise DatasetError(
            f"{path} is not a CSV table in UTF-8 ({error}): export it as such"
        ) from error
    if code:
        notes.append(
            f"{path.name} is not in UTF-8 and was read as {code}: if names in it look wrong, save "
            "it as UTF-8"
        )
    return rows


def _between_bars(text: str) -> list[tuple[int, list[str]]]:
    """Split the lines of a table drawn with bars, as PH2_dataset.txt is; a legend has none."""
    lines = enumerate(text.splitlines(), start=1)
    return [
        (number, line.strip().strip("|").split("||"))
        for number, line in lines
        if line.strip().startswith("||")
    ]


def _decoded(data: bytes) -> tuple[str, str]:
    """Give the text, and the code page if it had to be guessed."""
    if data.startswith((b"\xff\xfe\0\0", b"\0\0\xfe\xff")):
        return data.decode("utf-32"), ""
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        return data.decode("utf-16"), ""
    start = data[:400]
    if start.count(0) * 3 > len(start) and len(data) % 2 == 0:
        little = start[1::2].count(0) > start[::2].count(0)
        return data.decode("utf-16-le" if little else "utf-16-be"), ""
    try:
        return data.decode("utf-8-sig").removeprefix("\ufeff"), ""
    except UnicodeDecodeError:
        # Written by this program, with names of files in it that are not UTF-8.
        mixed = data.decode("utf-8-sig", NAME_ERRORS)
        lone = sum("\ud800" <= character <= "\udfff" for character in mixed)
        if b"\0" not in data and len(mixed.encode("ascii", "ignore")) + 2 * lone <= len(mixed):
            return mixed, ""
        # What Excel calls CSV is in the code page of the country; a picture has control characters.
        if any(byte < 32 and byte not in b"\t\r\n" for byte in data):
            raise
        return data.decode("cp1252"), "Windows-1252"


def _separator(text: str) -> str:
    """Give the separator that splits all lines into the same number of cells."""
    head = text[: 2**16]
    if len(text) > len(head):
        head = head[: head.rfind("\n") + 1] or head
    for separator in _SEPARATORS:
        try:
            rows = list(csv.reader(io.StringIO(head, newline=""), delimiter=separator))
        except csv.Error:
            continue
        widths = {len(row) for row in rows[:_LOOKED_AT] if any(cell.strip() for cell in row)}
        if len(widths) == 1 and max(widths) > 1:
            return separator
    first = head.split("\n", 1)[0]
    best = max((",", ";", "\t", "|"), key=first.count)
    return best if first.count(best) else ","


def _read_excel(path: Path, notes: list[str]) -> list[tuple[int, list[str]]]:
    try:
        import openpyxl
    except ImportError as error:
        raise DatasetError(
            f"{path} is an Excel file: pip install lesion-classifier[excel], or save it as .csv"
        ) from error
    try:
        # By its content, whatever its name ends in.
        with fetch(path).open("rb") as file:
            book = openpyxl.load_workbook(file, read_only=True, data_only=True)
            sheets = {sheet.title: _sheet(sheet) for sheet in book.worksheets}
            book.close()
    except OSError as error:
        raise DatasetError(f"{path} can't be read ({error.strerror or error})") from error
    except Exception as error:
        raise DatasetError(f"{path} is not an Excel file ({error}): save it as .csv") from error
    tables = {title: rows for title, rows in sheets.items() if _is_table(rows)} or sheets
    title = next(iter(tables), "")
    if len(tables) > 1:
        others = ", ".join(map(repr, list(tables)[1:4]))
        notes.append(
            f"{path.name} has {len(tables)} sheets with tables: {title!r} was read, not {others}; "
            "save another as a file of its own to read it"
        )
    return tables.get(title, [])


def _sheet(sheet: Any) -> list[tuple[int, list[str]]]:
    rows = [
        (line, [_cell(value) for value in cells])
        for line, cells in enumerate(sheet.iter_rows(values_only=True), start=1)
    ]
    rows = [(line, cells) for line, cells in rows if any(cells)]
    width = max((len(cells) for _, cells in rows), default=0)
    used = [at for at in range(width) if any(len(cells) > at and cells[at] for _, cells in rows)]
    return [(line, [cells[at] if len(cells) > at else "" for at in used]) for line, cells in rows]


def _is_table(rows: Sequence[tuple[int, Sequence[str]]]) -> bool:
    return sum(sum(map(bool, cells)) > 1 for _, cells in rows) > 1


def _cell(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value).strip()


def _has_header(rows: Sequence[Sequence[str]], is_image: Callable[[str], bool]) -> bool:
    """Say whether the first row names columns: a number or an image's name is data."""
    first, rest = rows[0], rows[1:]
    if any(number(cell) is not None or _IMAGE_NAME.search(cell) for cell in first):
        return False
    if {"true", "false"} & {cell.casefold() for cell in first}:
        return False
    if named_like(first, ID_COLUMNS):
        return True
    columns = [[cells[at] for cells in rest if len(cells) > at] for at in range(len(first))]
    for cell, below in zip(first, columns, strict=True):
        # "ISIC_0000000" above names of the same kind is one of them.
        if re.search(r"\d", cell) and below and {_shape(cell)} == set(map(_shape, below)):
            return False
    if named_like(first, LABEL_COLUMNS):
        return True
    if any(cell and is_image(cell) for cell in first):
        return False
    # "benign" above "benign" and "malignant" is no name of a column.
    return not any(
        is_known_class(cell)
        and any(map(is_known_class, below))
        and all(is_known_class(value) or is_missing(value) for value in below)
        for cell, below in zip(first, columns, strict=True)
    )


def _shape(cell: str) -> str:
    return re.sub(r"\d+", "#", cell)
