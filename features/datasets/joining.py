"""Which file a table means by an id: never two, and never one that may be another's."""

from __future__ import annotations

import os
import re
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Final, Generic, TypeVar
from urllib.parse import unquote, urlsplit

from features.datasets.reading.cells import Table
from features.datasets.reading.collections import ID_COLUMNS, named_like
from features.datasets.vocabulary import (
    AMBIGUOUS_SPLITS,
    SPLIT_NAMES,
    all_flags,
    canonical_class,
    folder_words,
    is_known_class,
    whole_number,
)
from features.errors import DatasetError
from features.images.formats import IMAGE_SUFFIXES, NOT_READ
from features.numbers import count
from features.presenting import readable

__all__ = ["Files", "Join", "examples", "id_column_of", "split_in_path", "split_word"]

_ENDINGS: Final = IMAGE_SUFFIXES | set(NOT_READ) | {".jxl"}
_DRIVE: Final = re.compile(r"^[A-Za-z]:(?!//)")
_URL: Final = re.compile(r"^[A-Za-z][A-Za-z0-9+.-]+://")
_ABSOLUTE: Final = re.compile(r"\s*(/|\\|file:|[A-Za-z]:)")

_SAMPLE: Final = 2000
_SEVERAL_IDS: Final = 0.5

T = TypeVar("T")


def examples(values: Sequence[str], most: int = 2) -> str:
    """Quote the first few."""
    return ", ".join(repr(value) for value in values[:most])


def split_word(name: str) -> str:
    """Give the one split that a name speaks of; empty if it names none or several.

    Examples
    --------
    >>> split_word("ISIC-2017_Test_v2_Data"), split_word("train_and_test"), split_word("latest")
    ('test', '', '')
    """
    told = folder_words(name)
    found = {SPLIT_NAMES[word] for word in told if word in SPLIT_NAMES}
    if {"hold", "out"} <= set(told) or {"held", "out"} <= set(told):
        found.add("test")
    return found.pop() if len(found) == 1 else ""


def split_in_path(text: str) -> str:
    """Give the one split that the folders of an id name; empty if they name none or several."""
    if "/" not in text and "\\" not in text:
        return ""
    found = {split_word(folder) for folder in _name(text, foreign=True).folders} - {""}
    return found.pop() if len(found) == 1 else ""


@dataclass(frozen=True)
class _Name:
    """A path as it is compared: folders and stem in one spelling, and the ending."""

    folders: tuple[str, ...]
    stem: str
    ending: str
    exact: str


def _name(text: str, *, foreign: bool) -> _Name:
    spelt = text if text.isascii() else unicodedata.normalize("NFC", readable(text))
    if foreign:
        spelt = _DRIVE.sub("", spelt.strip()).replace("\\", "/")
        if _URL.match(spelt):
            spelt = unquote(urlsplit(spelt).path)
    parts = [part for part in spelt.split("/") if part not in ("", ".", "..")] or [""]
    exact = parts[-1]
    folded = [part.casefold() for part in parts]
    stem, ending = os.path.splitext(folded[-1])
    if ending not in _ENDINGS:
        return _Name(tuple(folded[:-1]), folded[-1], "", exact)
    return _Name(tuple(folded[:-1]), stem, ending, exact)


@dataclass
class Join(Generic[T]):
    """What became of the rows of a table.

    Parameters
    ----------
    rows : dict of int to list of T
        Rows by number of the file, usually one.
    unmatched : list of str
        Ids that name no file.
    ambiguous : list of tuple
        Ids that fit several files, with these.
    notes : list of str
        What settled a doubt.
    """

    rows: dict[int, list[T]] = field(default_factory=dict)
    unmatched: list[str] = field(default_factory=list)
    ambiguous: list[tuple[str, list[str]]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


class Files:
    """The image files there are, to be found by what a table calls them.

    An id may be a path (relative to any folder, or absolute on any machine), a name, or a name
    without its ending, in any case and Unicode form. An id with folders fits only files whose
    folders don't contradict it.

    Parameters
    ----------
    paths : sequence of str
        Relative, with forward slashes.
    splits, labels : sequence of str, optional
        What the folders say of each file; empty where they say nothing.
    root : str, optional
        The folder that paths are relative to.
    """

    def __init__(
        self,
        paths: Sequence[str],
        splits: Sequence[str] | None = None,
        labels: Sequence[str] | None = None,
        root: str = "",
    ) -> None:
        self.paths = list(paths)
        self.splits = list(splits) if splits is not None else [""] * len(self.paths)
        self._classes = {canonical_class(label) for label in labels or ()} - {""}
        self._above = [part.casefold() for part in PurePosixPath(root).parts if part != "/"]
        self._names = [_name(path, foreign=False) for path in self.paths]
        self._by_stem: dict[str, list[int]] = {}
        self._by_path: dict[str, int] = {path: at for at, path in enumerate(self.paths)}
        for at, name in enumerate(self._names):
            self._by_stem.setdefault(name.stem, []).append(at)
            if name.exact.casefold() != name.stem + name.ending:
                self._by_stem.setdefault(name.exact.casefold(), []).append(at)

    def fits(self, text: str) -> str | None:
        """Give the files that an id may mean, as one text; None if there is none."""
        found = self._candidates(_name(text, foreign=True)) if text else []
        if not found:
            return self.paths[self._by_path[text]] if text in self._by_path else None
        return "|".join(self.paths[at] for at in found[:2])

    def _candidates(self, name: _Name) -> list[int]:
        found = self._by_stem.get(name.stem) or self._by_stem.get(name.exact.casefold(), [])
        # Where one is missing, programs write the numbers of the others as 12.0.
        found = found or self._by_stem.get(whole_number(name.stem), [])
        if name.ending and len(found) > 1:
            found = [at for at in found if self._names[at].ending == name.ending] or found
        if len(found) > 1:
            exact = name.exact
            found = [
                at
                for at in found
                if self._names[at].exact == exact
                or (not name.ending and PurePosixPath(self._names[at].exact).stem == exact)
            ] or found
        return found

    def _shared(self, name: _Name, at: int) -> int:
        """Count the folders that an id and a file have in common, from the file upwards."""
        mine = [*self._above, *self._names[at].folders]
        count = 0
        for one, other in zip(reversed(name.folders), reversed(mine), strict=False):
            if one != other:
                break
            count += 1
        return count

    def _agrees(self, name: _Name, at: int, shared: int) -> bool:
        """Say whether the folders of an id and of a file name no different splits or classes."""
        rest = name.folders[: len(name.folders) - shared]
        mine = self._names[at].folders
        mine = mine[: max(0, len(mine) - shared)]
        if not rest:
            return True
        for reading in (_splits_in, self._classes_in):
            theirs, ours = reading(rest), reading(mine)
            if theirs and ours and not theirs & ours:
                return False
        return True

    def _classes_in(self, folders: Sequence[str]) -> set[str]:
        found = {canonical_class(folder) for folder in folders}
        return {name for name in found if name in self._classes or is_known_class(name)}

    def join(
        self,
        rows: Sequence[T],
        id_of: Callable[[T], str],
        *,
        split_of_row: Callable[[T], str] = lambda _: "",
        split: str = "",
        folder: str | None = None,
        called: str = "the table",
    ) -> Join[T]:
        """Find the file of each row.

        Parameters
        ----------
        rows : sequence
        id_of : callable
            Gives the id of a row.
        split_of_row : callable, optional
            Gives the split that a row names.
        split : str, optional
            The split that the table is of: files of other splits are not meant by it.
        folder : str, optional
            Where the table lies, relative to the paths' root; its files are meant where an id
            fits others, too.
        called : str, optional
            The table's name, for notes.

        Returns
        -------
        Join
        """
        found: Join[T] = Join()
        bound = split if any(self.splits) else ""
        names = [_name(id_of(row), foreign=True) for row in rows]
        exact = [self._by_path.get(id_of(row)) for row in rows]
        settled = {"split": 0, "folder": 0}
        drafts: list[tuple[int, list[int], int]] = []
        for number, name in enumerate(names):
            at = exact[number]
            candidates = [at] if at is not None and name.folders else self._candidates(name)
            wanted = bound or split_of_row(rows[number])
            if bound:
                candidates = [at for at in candidates if self.splits[at] == bound]
            elif wanted and len(candidates) > 1:
                same = [at for at in candidates if self.splits[at] == wanted]
                settled["split"] += bool(same)
                candidates = same or candidates
            shared = {at: self._shared(name, at) for at in candidates}
            candidates = [at for at in candidates if self._agrees(name, at, shared[at])]
            best = max((shared[at] for at in candidates), default=0)
            candidates = [at for at in candidates if shared[at] == best]
            if len(candidates) > 1 and folder is not None:
                near = [at for at in candidates if _below(self.paths[at], folder)]
                if near and len(near) < len(candidates):
                    settled["folder"] += 1
                    candidates = near
            drafts.append((number, candidates, best))
        others = self._other_files(drafts, names, [id_of(row) for row in rows])
        found.notes += _not_meant(others, called)
        for number, candidates, _ in drafts:
            row = rows[number]
            if not candidates or number in others:
                found.unmatched.append(id_of(row))
            elif len(candidates) > 1:
                found.ambiguous.append((id_of(row), [self.paths[at] for at in candidates]))
            else:
                found.rows.setdefault(candidates[0], []).append(row)
        found.notes += _settled(settled, called, bound)
        return found

    def _other_files(
        self, drafts: Sequence[tuple[int, list[int], int]], names: Sequence[_Name], ids: list[str]
    ) -> dict[int, tuple[str, str]]:
        """Find ids that mean files which are not there, by what the table's other ids show.

        Where ids have the files' folders, a file in another folder is another file; where they
        have the files' own paths, so is one that an id passes by from above; and where they have
        the files' endings, one with another ending.
        """
        drafts = [draft for draft in drafts if draft[1]]
        chosen = {number: self._names[candidates[0]] for number, candidates, _ in drafts}
        inner = [(number, best) for number, _, best in drafts if names[number].folders]
        odd: set[int] = set()
        if any(best for _, best in inner):
            odd |= {number for number, best in inner if not best}
        relative = [
            (number, best) for number, best in inner if best and not _ABSOLUTE.match(ids[number])
        ]
        if any(best == len(names[number].folders) for number, best in relative):
            odd |= {number for number, best in relative if best < len(names[number].folders)}
        whole = {
            number for number, _ in relative if names[number].folders == chosen[number].folders
        }
        if whole:
            odd |= {number for number, _ in relative} - whole
        spelt = {number for number in chosen if names[number].ending}
        exact = {number for number in spelt if names[number].ending == chosen[number].ending}
        if exact:
            odd |= spelt - exact
        nearest = {number: candidates[0] for number, candidates, _ in drafts}
        return {number: (ids[number], self.paths[nearest[number]]) for number in sorted(odd)}


def _not_meant(others: Mapping[int, tuple[str, str]], called: str) -> list[str]:
    if not others:
        return []
    text, path = next(iter(others.values()))
    return [
        f"{called}: {count(len(others), 'id', 'was', 'were')} not taken for what comes nearest "
        f"({text!r} for {path!r}), since other ids have the files' own folders and endings"
    ]


def _settled(settled: Mapping[str, int], called: str, split: str) -> list[str]:
    notes = []
    if split:
        notes.append(f"{called} is of the {split} split: only images of that split were looked for")
    if settled["split"]:
        notes.append(
            f"{called}: {count(settled['split'], 'id', 'fits', 'fit')} several images; the "
            "split settled it"
        )
    if settled["folder"]:
        notes.append(
            f"{called}: {count(settled['folder'], 'id', 'fits', 'fit')} several images; "
            "those in the table's own folder were meant"
        )
    return notes


def _splits_in(folders: Sequence[str]) -> set[str]:
    found = {split_word(folder) for folder in folders} - {""}
    return found | {
        word for folder in folders for word in folder_words(folder) if word in AMBIGUOUS_SPLITS
    }


def _below(path: str, folder: str) -> bool:
    return path.startswith(f"{folder}/")


def id_column_of(table: Table, fits: Callable[[str], object], preferred: Sequence[str] = ()) -> str:
    """Find the column that names images.

    Parameters
    ----------
    table : Table
    fits : callable
        Gives which image a text names, or None.
    preferred : sequence of str, optional
        Columns that are known to be it, if they fit at all.

    Returns
    -------
    str

    Raises
    ------
    DatasetError
        If several columns name different images.
    """
    step = max(1, len(table.records) // _SAMPLE)
    some = table.records[::step]
    found = {column: [fits(record[column]) for record in some] for column in table.columns}
    # Flags fit images that are called 0 and 1; a column that names many different ones is meant.
    counts = {column: len({*hits} - {None}) for column, hits in found.items()}
    named = named_like(table.columns, ID_COLUMNS)
    flags = {column for column in counts if all_flags([row[column] for row in some])}
    if set(named) - flags:
        counts |= dict.fromkeys(flags, 0)
    most = max(counts.values())
    if most == 0:
        return [*preferred, *named, *table.columns][0]
    for column in preferred:
        if counts[column]:
            return column
    good = [column for column in table.columns if counts[column] > _SEVERAL_IDS * most]
    best = max(good, key=lambda column: counts[column])
    rivals = [
        column
        for column in good
        if found[column] != found[best] and not (counts[best] > counts[column] and column in flags)
    ]
    if rivals:
        likely = [column for column in named if column in (best, *rivals)]
        if len(likely) == 1:
            return likely[0]
        raise DatasetError(
            f"{table.path} names images in several columns, {best} and {rivals[0]} "
            f"({table.records[0][best]!r} and {table.records[0][rivals[0]]!r}): "
            "choose one with --id-column"
        )
    return next((column for column in named if column in good), best)
