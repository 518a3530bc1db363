"""What tables say of files, and whether they agree with each other and with the folders."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath

from features.datasets.joining import Files, examples, split_in_path, split_word
from features.datasets.reading.cells import read_table
from features.datasets.reading.collections import GROUP_COLUMNS, spelt
from features.datasets.reading.folder_names import read_places
from features.datasets.tables import Columns, LabelRow, LabelTable
from features.datasets.vocabulary import all_flags, canonical_class, contradict, same_class
from features.errors import DatasetError
from features.numbers import count
from features.storage.addresses import full_name

__all__ = ["Labelling", "TableReport", "label_by_tables"]


@dataclass(frozen=True)
class TableReport:
    """What became of a table.

    Parameters
    ----------
    path : str
    columns : Columns
        Those that were taken.
    collection : str
    rows, matched : int
        Rows, and how many of them name an image.
    unmatched : tuple of str
        Ids that name none.
    ambiguous : tuple of tuple
        Ids that may name several files, with these.
    contradicting : tuple of str
        Each a sentence on one file.
    """

    path: str
    columns: Columns
    collection: str
    rows: int
    matched: int
    unmatched: tuple[str, ...] = ()
    ambiguous: tuple[tuple[str, tuple[str, ...]], ...] = ()
    contradicting: tuple[str, ...] = ()


@dataclass
class Labelling:
    """What is known of each file, filled in by `label_by_tables`."""

    paths: list[str]
    labels: list[str]
    label_from: list[str]
    splits: list[str]
    split_from: list[str]
    groups: list[str] = field(default_factory=list)
    group_from: list[str] = field(default_factory=list)
    ranks: list[int] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def label_by_tables(
    known: Labelling,
    files: Files,
    tables: Sequence[LabelTable],
    base: Path,
    *,
    trust: str | None = None,
) -> tuple[TableReport, ...]:
    """Fill in what tables say.

    Parameters
    ----------
    known : Labelling
        What the folders say; changed.
    files : Files
    tables : sequence of LabelTable
    base : Path
        The folder that paths are relative to.
    trust : {"tables", "folders"}, optional
        Which is right where they contradict each other.

    Returns
    -------
    tuple of TableReport

    Raises
    ------
    DatasetError
        If a table can't be understood, or none of its ids fits an image.
    """
    total = len(known.paths)
    by_folder, folder_from = list(known.labels), list(known.label_from)
    if any(table.labelled for table in tables):
        known.labels, known.label_from = [""] * total, [""] * total
    known.groups, known.group_from = [""] * total, [""] * total
    known.ranks = [len(GROUP_COLUMNS)] * total
    reports = []
    for table in tables:
        reports.append(_one_table(known, files, table.narrowed(tables), base, trust))
    _against_folders(known, by_folder, folder_from, trust)
    if any(table.labelled for table in tables) and (without := known.labels.count("")):
        known.notes.append(
            f"{without:,} of {count(total, 'image')} {'is' if without == 1 else 'are'} in no table "
            "of labels and unlabelled"
        )
    return tuple(reports)


def _one_table(
    known: Labelling, files: Files, table: LabelTable, base: Path, trust: str | None
) -> TableReport:
    reading = table.rows(files.fits)
    name, columns = table.path.name, reading.columns
    folder = _folder(table.path, base)
    split = "" if columns.splits else _split_of(table.path, folder)
    joined = files.join(
        reading.rows,
        lambda row: row.id,
        split_of_row=lambda row: row.split,
        split=split,
        folder=folder,
        called=name,
    )
    inside = {} if split or columns.splits else _in_paths(reading.rows)
    matched = sum(map(len, joined.rows.values()))
    if not matched and not joined.ambiguous:
        raise DatasetError(_no_match(table, reading.rows, files, split))
    contradicting: list[str] = []
    rank = _rank(columns, table.group_column)
    for at, rows in joined.rows.items():
        for row in rows:
            where = f"{name}, line {row.line}"
            named = f"the name of {name}" if split else where
            if inside.get(row.id) and not known.splits[at]:
                known.splits[at], known.split_from[at] = inside[row.id], f"{where}, its path"
            said = row if row.split or not split else replace(row, split=split)
            _take(known, at, said, where, named, columns, rank, contradicting, trust)
    ambiguous = [(text, tuple(paths)) for text, paths in joined.ambiguous]
    if ambiguous:
        text, paths = ambiguous[0]
        known.problems.append(
            f"{table.path} has {count(len(ambiguous), 'id')} for several images each ({text!r} "
            f"fits {' and '.join(map(repr, paths[:2]))}): write ids with their folders, "
            "give a table for each split, or leave a folder out with --folder NAME=skip"
        )
    if contradicting:
        known.problems.append(
            f"{count(len(contradicting), 'image', 'has', 'have')} several differing rows "
            f"({'; '.join(contradicting[:2])}): keep the right one in {table.path}"
        )
    if columns.known:
        known.notes.append(
            f"{name}: {', '.join(columns.known)} can be used with fit_classifier.py --metadata"
        )
    known.notes += [*reading.notes, *joined.notes]
    return TableReport(
        str(table.path),
        columns,
        reading.collection,
        len(reading.rows),
        matched,
        tuple(joined.unmatched),
        tuple(ambiguous),
        tuple(contradicting),
    )


def _in_paths(rows: Sequence[LabelRow]) -> dict[str, str]:
    """Give the splits that ids name by their folders, if they name several."""
    found = {row.id: split for row in rows if (split := split_in_path(row.id))}
    return found if len(set(found.values())) > 1 else {}


def _take(
    known: Labelling,
    at: int,
    row: LabelRow,
    where: str,
    split_where: str,
    columns: Columns,
    rank: int,
    contradicting: list[str],
    trust: str | None,
) -> None:
    """Write down what a row says of a file, unless that differs from what another row says."""
    path = known.paths[at]
    if row.label:
        mine = known.labels[at]
        if mine and not same_class(mine, row.label):
            contradicting.append(
                f"{path} is {mine!r} by {known.label_from[at]} and {row.label!r} by {where}"
            )
        elif not mine:
            known.labels[at], known.label_from[at] = row.label, where
    if row.split and row.split != known.splits[at]:
        mine, origin = known.splits[at], known.split_from[at]
        if not mine or (origin.startswith("folder") and trust == "tables"):
            known.splits[at], known.split_from[at] = row.split, split_where
        elif not (origin.startswith("folder") and trust == "folders"):
            contradicting.append(
                f"{path} is in the {mine} split by {origin} and in {row.split} by {split_where}"
            )
    if row.group and (row.group != known.groups[at] or rank < known.ranks[at]):
        if not known.groups[at] or rank < known.ranks[at]:
            known.groups[at], known.ranks[at] = row.group, rank
            known.group_from[at] = f"{where}, {columns.groups[0]}"
        elif rank == known.ranks[at]:
            contradicting.append(
                f"{path} is in group {known.groups[at]!r} by {known.group_from[at]} "
                f"and {row.group!r} by {where}"
            )


def _against_folders(
    known: Labelling, by_folder: Sequence[str], folder_from: Sequence[str], trust: str | None
) -> None:
    """Refuse labels that class folders contradict, or take the side that is trusted."""
    if known.labels == list(by_folder):
        return
    told = {canonical_class(label) for label in set(known.labels)} - {""}
    compared = told & {canonical_class(label) for label in set(by_folder)}
    pairs = {
        (folder, label): contradict(folder, label, compared)
        for folder, label in set(zip(by_folder, known.labels, strict=True))
        if folder and label
    }
    bad = [
        at
        for at, pair in enumerate(zip(by_folder, known.labels, strict=True))
        if pairs.get(pair, False)
    ]
    if not bad:
        return
    told_of = [
        f"{known.paths[at]} is {known.labels[at]!r} by {known.label_from[at]}" for at in bad[:2]
    ]
    if trust is None:
        known.problems.append(
            f"{count(len(bad), 'image', 'is', 'are')} of another class by the table than by the "
            f"folder ({'; '.join(told_of)}): mend one, or say --trust tables or --trust folders"
        )
        return
    other = sorted({by_folder[at] for at in bad if canonical_class(by_folder[at]) not in told})
    if trust == "folders" and other:
        known.problems.append(
            f"the folders can't be trusted for single images, since they tell other classes "
            f"({examples(other)}) than the table: leave --labels out, or say --trust tables"
        )
        return
    known.notes.append(
        f"{count(len(bad), 'image', 'is', 'are')} of another class by the table than by the folder "
        f"({'; '.join(told_of)}): the {trust} were trusted"
    )
    if trust == "folders":
        for at in bad:
            known.labels[at], known.label_from[at] = by_folder[at], folder_from[at]


def _folder(path: Path, base: Path) -> str | None:
    """Give the folder of a table among the images; None if it lies elsewhere or above all."""
    inside = os.path.relpath(full_name(path.parent), full_name(base)).replace(os.sep, "/")
    return None if inside == "." or inside.startswith("..") else inside


def _split_of(path: Path, folder: str | None) -> str:
    if split := split_word(path.stem):
        return split
    if folder is not None:
        parts = PurePosixPath(folder).parts
        return next((split for part in reversed(parts) if (split := split_word(part))), "")
    # A folder elsewhere may be called anything: only what is nothing but a split's name counts.
    name = os.path.basename(os.path.abspath(path.parent))
    own = read_places([(name,)]).of[name,]
    return "" if own.label else own.split


def _rank(columns: Columns, asked: str | None) -> int:
    if asked is not None:
        return -1
    first = columns.groups[0] if columns.groups else ""
    return next((at for at, names in enumerate(GROUP_COLUMNS) if spelt(first) in names), 9)


def _no_match(table: LabelTable, rows: Sequence[LabelRow], files: Files, split: str) -> str:
    ids = examples([row.id for row in rows])
    elsewhere = sum(files.fits(row.id) is not None for row in rows)
    told = (
        f"no id in {table.path} ({count(len(rows), 'row')}) fits any of the images "
        f"({len(files.paths):,}): "
        f"ids look like {ids}, images like {examples(files.paths)}; "
    )
    if elsewhere and split:
        return told + (
            f"{elsewhere} fit images of other splits, but the table's name says that it is of the "
            f"{split} split: rename it if it is not"
        )
    if elsewhere:
        return told + f"{elsewhere} fit by their names, but not by their folders: mend the paths"
    counts = {
        column: sum(files.fits(record[column]) is not None for record in cells.records)
        for cells in [read_table(table.path)]
        for column in cells.columns
        if not all_flags([record[column] for record in cells.records])
    }
    best = max(counts, key=lambda column: counts[column], default="")
    if best and counts[best]:
        return told + f"the column {best} fits {counts[best]}: take it with --id-column"
    numbers = {PurePosixPath(path).stem.lstrip("0") for path in files.paths}
    if any(row.id.lstrip("0") in numbers for row in rows):
        return told + "leading zeros are missing: write ids as the files are called"
    return told + "give the table of these images, or name another column with --id-column"
