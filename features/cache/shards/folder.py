"""A folder of shards, read as one table: files are opened when their rows are looked at.

Opening reads the marks, and nothing of the feature files. Before HDF5 is given one of these, it is
compared with its mark, every byte of it, once.
"""

from __future__ import annotations

import contextlib
import itertools
import shlex
import threading
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import h5py
import numpy as np
import numpy.typing as npt

from features.cache.items import NUMBER_COLUMNS, read_column, read_texts
from features.cache.rows import file_stamp
from features.cache.shards.marks import Mark, fits, read_mark, require_alike
from features.cache.shards.places import file_name, listed, mark_name
from features.errors import CacheError
from features.presenting import shown

__all__ = ["OpenShards", "ShardFolder", "ShardTable", "open_shards"]

_OPEN_FILES: Final = 50
_PIECE: Final = 1 << 17
_BEGINNING: Final = np.dtype([("first", "<u8"), ("second", "<u4")])


class ShardFolder:
    """The shards of a folder, in order.

    Parameters
    ----------
    folder : Path
    marks : sequence of Mark
        At least one, all alike.
    """

    def __init__(self, folder: Path, marks: Sequence[Mark]) -> None:
        self.folder = folder.absolute()
        self.marks = tuple(marks)
        self.files = tuple(self.folder / file_name(mark.number, mark.of) for mark in self.marks)
        self._sound: dict[int, tuple[int, ...]] = {}
        self._finding = threading.Lock()

    @property
    def missing(self) -> list[int]:
        """The numbers of shards that are not done."""
        there = {mark.number for mark in self.marks}
        return [number for number in range(1, self.marks[0].of + 1) if number not in there]

    @property
    def all_there(self) -> bool:
        """Tell whether no item is of a file that is gone."""
        return not any(mark.gone for mark in self.marks)

    @cached_property
    def part_bounds(self) -> list[tuple[int, int]]:
        """Give the first item of each shard and the first after it."""
        return _bounds([mark.items + mark.gone for mark in self.marks])

    @cached_property
    def row_bounds(self) -> list[tuple[int, int]]:
        """Give the first embedding of each shard and the first after it."""
        return _bounds([mark.rows for mark in self.marks])

    @contextlib.contextmanager
    def opened(self, part: int) -> Iterator[h5py.File]:
        """Open a shard's file, which is the one that its mark is of.

        Raises
        ------
        CacheError
            If it isn't, or is no longer the one that was looked at before.
        """
        self.require_sound(part)
        with h5py.File(self.files[part], "r") as file:
            yield file

    def require_sound(self, part: int) -> None:
        """Refuse a shard that is not what its mark says; its bytes are compared once."""
        path = self.files[part]
        try:
            stamp = file_stamp(path)
        except OSError as error:
            raise CacheError(f"{path} can't be read ({error.strerror}): fix that") from error
        if self._sound.get(part, stamp) != stamp:
            raise CacheError(f"{path} was replaced or altered while it was being read: start again")
        if part not in self._sound:
            mark = self.marks[part]
            if not fits(path, mark):
                raise CacheError(
                    f"{path} is not the file that {mark_name(mark.number, mark.of)} is of: make "
                    f"it again with {_command(self.folder, mark)}, or put a copy in its place; "
                    f"`python -m features verify {self.folder}` shows where it is damaged"
                )
            self._sound[part] = stamp

    def part_column(self, part: int, name: str) -> npt.NDArray[Any]:
        """Read a column of a shard's items; rows are counted from its own first."""
        with self.opened(part) as file:
            return read_column(file["items"], name)

    def column(self, name: str, where: npt.NDArray[np.int64] | None = None) -> npt.NDArray[Any]:
        """Read a column of items; an image that is in several shards has its first row.

        Parameters
        ----------
        name : str
        where : ndarray of int, shape (n,), optional
            Numbers of the items, in any order; all by default.
        """
        if name == "row":
            with self._finding:
                return self._rows.copy() if where is None else self._rows[where]
        # Filled piece by piece: two copies of a long column, or its texts one by one, are too much.
        count = self.part_bounds[-1][1] if where is None else len(where)
        found = np.empty(count, NUMBER_COLUMNS.get(name, np.str_))
        order = None if where is None else np.argsort(where, kind="stable")
        rising = None if where is None or order is None else where[order]
        for part, here, there in self._pieces():
            to: slice | npt.NDArray[np.int64] = here
            if rising is not None and order is not None:
                among = slice(*np.searchsorted(rising, (here.start, here.stop)))
                to, wanted = order[among], rising[among]
                if not len(wanted):
                    continue
            with self.opened(part) as file:
                piece = read_column(file["items"], name, there)
            if rising is not None:
                piece = piece[wanted - here.start]
            if piece.dtype.itemsize > found.dtype.itemsize:
                found = found.astype(piece.dtype)
            found[to] = piece
        return found

    def failures(self, part: int) -> list[tuple[str, str, str, str]]:
        """Read which images of a shard could not be read: sha256, path, code and reason."""
        if not self.marks[part].failures:
            return []
        with self.opened(part) as file:
            columns = [
                read_texts(file["failures"][name]).tolist()
                for name in ("sha256", "path", "code", "reason")
            ]
        return list(zip(*columns, strict=True))

    @cached_property
    def _rows(self) -> npt.NDArray[np.int64]:
        rows = np.empty(self.part_bounds[-1][1], np.int64)
        beginnings = np.empty(len(rows), _BEGINNING)
        for part, here, there in self._pieces():
            with self.opened(part) as file:
                rows[here] = file["items"]["row"][there]
                beginnings[here] = _beginnings(file["items"]["sha256"][there])
        for (start, end), (first, _) in zip(self.part_bounds, self.row_bounds, strict=True):
            rows[start:end] += first
        return _first_of_copies(rows, beginnings)

    def _pieces(self) -> Iterator[tuple[int, slice, slice]]:
        """Give stretches of all items: in which shard, where among all, and where in the shard."""
        for part, (start, end) in enumerate(self.part_bounds):
            for at in range(0, end - start, _PIECE):
                upto = min(at + _PIECE, end - start)
                yield part, slice(start + at, start + upto), slice(at, upto)


class ShardTable:
    """The embeddings of a folder of shards, one under the other, as `Rows` reads a table.

    Parameters
    ----------
    shards : ShardFolder
    """

    def __init__(self, shards: ShardFolder) -> None:
        self.shards = shards
        self.shape = (shards.row_bounds[-1][1], shards.marks[0].spec.width)
        self.dtype: np.dtype[Any] = np.dtype(shards.marks[0].dtype)

    def __len__(self) -> int:
        return self.shape[0]

    @contextlib.contextmanager
    def opened(self) -> Iterator[OpenShards]:
        """Open it for reading.

        Raises
        ------
        CacheError
            If a file is looked at that is not what its mark says.
        """
        with contextlib.ExitStack() as files:
            found = OpenShards(self)
            files.callback(found.close)
            yield found


class OpenShards:
    """What is read from: it gives stretches of rows, as an HDF5 data set does.

    Parameters
    ----------
    table : ShardTable
    """

    def __init__(self, table: ShardTable) -> None:
        self.table, self._shards = table, table.shards
        self.shape, self.dtype = table.shape, table.dtype
        self._ends = np.array([end for _, end in table.shards.row_bounds])
        self._files: OrderedDict[int, h5py.File] = OrderedDict()

    @property
    def size(self) -> int:
        """How many numbers there are."""
        return self.shape[0] * self.shape[1]

    @property
    def nbytes(self) -> int:
        """How many bytes they take."""
        return self.size * self.dtype.itemsize

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, where: slice) -> npt.NDArray[Any]:
        start, end, step = where.indices(len(self))
        if step != 1:
            raise ValueError(f"got a step of {step}, expected rows one after another")
        pieces = []
        while start < end:
            part = int(np.searchsorted(self._ends, start, side="right"))
            first, last = self._shards.row_bounds[part]
            upto = min(end, last)
            pieces.append(self._table(part)[start - first : upto - first])
            start = upto
        if len(pieces) == 1:
            return np.asarray(pieces[0])
        return np.concatenate([np.empty((0, self.shape[1]), self.dtype), *pieces])

    def _table(self, part: int) -> h5py.Dataset:
        if part not in self._files:
            if len(self._files) >= _OPEN_FILES:
                self._files.popitem(last=False)[1].close()
            self._shards.require_sound(part)
            self._files[part] = h5py.File(self._shards.files[part], "r")
        self._files.move_to_end(part)
        return self._files[part]["embeddings"]

    def close(self) -> None:
        """Close the files."""
        while self._files:
            self._files.popitem()[1].close()


def open_shards(folder: str | Path, *, partly: bool = False) -> ShardFolder:
    """Open a folder of shards by their marks.

    Parameters
    ----------
    folder : str or Path
    partly : bool, optional
        Allow that some shards are not done, if one is.

    Returns
    -------
    ShardFolder

    Raises
    ------
    CacheMismatch
        If shards were not made for one another; two of them are named.
    CacheError
        If shards are missing, or a mark or the length of a file is not what it should be.
    """
    place = Path(folder)
    marks = []
    for number, of in listed(place, "json"):
        path = place / mark_name(number, of)
        mark = read_mark(path)
        if (mark.number, mark.of) != (number, of):
            raise CacheError(
                f"{path} is the mark of shard {mark.number} of {mark.of}: files were renamed or "
                "mixed up; give them their names back, or make the shard again"
            )
        marks.append(mark)
    if not marks:
        raise CacheError(
            f"none of the shards in {place} is done: run the command again that began them, "
            f"`python extract_features.py IMAGES --out {place} --shards N`"
        )
    require_alike(place, marks)
    found = ShardFolder(place, marks)
    if (missing := found.missing) and not partly:
        told = " and ".join(map(str, missing[:2]))
        raise CacheError(
            f"{place} lacks {len(missing)} of {marks[0].of} shards ("
            f"{'such as ' if len(missing) > 2 else ''}{told}): make them with "
            f"{_command(place, marks[0])} and the options of the others"
        )
    for path, mark in zip(found.files, marks, strict=True):
        if not path.is_file() or path.stat().st_size != mark.bytes:
            what = "was altered" if path.is_file() else "is missing"
            raise CacheError(
                f"{path} {what}, although its mark is there: make it again with "
                f"{_command(place, mark)} and the options of the others"
            )
    return found


def _command(folder: Path, mark: Mark) -> str:
    images = shlex.quote(mark.images) if mark.images else "IMAGES"
    return shown(
        f"`python extract_features.py {images} --out {shlex.quote(str(folder))} --shards {mark.of}`"
    )


def _bounds(counts: Sequence[int]) -> list[tuple[int, int]]:
    ends = np.cumsum([0, *counts]).tolist()
    return list(itertools.pairwise(ends))


def _beginnings(hashes: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Give the first twelve bytes of hashes as two numbers each: enough to tell images apart."""
    joined = bytes.fromhex(b"".join(sha256[:24] for sha256 in hashes.tolist()).decode())
    return np.frombuffer(joined, _BEGINNING)


def _first_of_copies(
    rows: npt.NDArray[np.int64], beginnings: npt.NDArray[Any]
) -> npt.NDArray[np.int64]:
    """Let items of the same image, (n,), have the row of the first of them."""
    order = np.argsort(beginnings["first"], kind="stable")
    first = beginnings["first"][order]
    same = first[1:] == first[:-1]
    del first
    again = np.flatnonzero(same)
    second = beginnings["second"]
    same[again] = second[order[again]] == second[order[again + 1]]
    if not same.any():
        return rows
    heads = np.flatnonzero(np.concatenate([[True], ~same]))
    lengths = np.diff(np.append(heads, len(order)))
    # The sort is stable, so that the first of equal hashes comes first in the folder, too.
    rows[order] = np.repeat(rows[order[heads]], lengths)
    return rows
