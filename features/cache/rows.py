"""Rows of embeddings that are not held as one float32 array: they come in blocks, when asked for.

They stay in the file, or lie in memory as the file has them; either way no more than a block of
them is ever turned into float32.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Protocol

import h5py
import numpy as np
import numpy.typing as npt

from features.errors import CacheError

__all__ = [
    "BLOCK_BYTES",
    "Rows",
    "StoredTable",
    "Table",
    "as_singles",
    "file_stamp",
    "require_finite",
    "rows_of",
]

Embeddings = npt.NDArray[np.float32]
Combine = Callable[[npt.NDArray[Any]], Embeddings]

# Large enough for matrix products at full speed, small enough for a dozen copies.
BLOCK_BYTES: Final = 32 * 2**20
# So many fit into a core's own memory.
_HALVES_AT_ONCE: Final = 32_768
_HALF_BITS: Final = np.int32(0x8FFFE000 - 2**32)
_HALF_SCALE: Final = np.float32(2.0**112)
_INFINITE_HALF: Final = 65_536


@dataclass(frozen=True)
class StoredTable:
    """A table of numbers in an HDF5 file.

    Parameters
    ----------
    path : Path
    name : str
        Of the dataset.
    shape : tuple of int
        (rows, columns).
    dtype : dtype
        As stored.
    """

    path: Path
    name: str
    shape: tuple[int, int]
    dtype: np.dtype[Any]
    _as_found: tuple[int, ...] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_as_found", file_stamp(self.path))

    def __len__(self) -> int:
        return self.shape[0]

    @contextlib.contextmanager
    def opened(self) -> Iterator[h5py.Dataset]:
        """Open it for reading.

        Raises
        ------
        CacheError
            If the file is gone or is no longer the one that it was.
        """
        try:
            same = file_stamp(self.path) == self._as_found
        except OSError:
            same = False
        if not same:
            raise CacheError(
                f"{self.path} was replaced or altered while it was being read: start again"
            )
        with h5py.File(self.path, "r") as file:
            yield file[self.name]


def file_stamp(path: Path) -> tuple[int, ...]:
    """Tell what changes when a file is replaced or written to."""
    found = path.stat()
    return found.st_ino, found.st_size, found.st_mtime_ns


class Table(Protocol):
    """A table of numbers that is opened to be read, shape (rows, columns)."""

    @property
    def shape(self) -> tuple[int, int]:
        """How many rows and columns there are."""

    @property
    def dtype(self) -> np.dtype[Any]:
        """As stored."""

    def __len__(self) -> int:
        """How many rows there are."""

    def opened(self) -> contextlib.AbstractContextManager[Any]:
        """Open it for reading: what this gives has a shape, a type, and stretches of rows."""


class Rows:
    """Embeddings of images, in order, each of them float32 when it is looked at.

    Parameters
    ----------
    source : ndarray or Table, shape (r, width)
        Where the numbers are.
    row : ndarray of int, shape (n,), optional
        Which rows of `source`, in which order; all by default.
    combine : callable, optional
        Turns rows of `source`, (any, width), into embeddings, (any, d).
    d : int, optional
        What `combine` makes of `width`.
    memory : int, optional
        Bytes that may be taken for what is made of these rows; 0 if nobody said.

    Examples
    --------
    >>> import numpy as np
    >>> rows = Rows(np.arange(6, dtype=np.float16).reshape(3, 2)).take(np.array([2, 0]))
    >>> rows.shape
    (2, 2)
    >>> rows[:1]
    array([[4., 5.]], dtype=float32)
    >>> sum(len(block) for block in rows.blocks(1))
    2
    """

    def __init__(
        self,
        source: npt.NDArray[Any] | Table,
        row: npt.NDArray[np.int64] | None = None,
        *,
        combine: Combine | None = None,
        d: int | None = None,
        memory: int = 0,
    ) -> None:
        self._source, self._combine, self.memory = source, combine, memory
        self._row = np.arange(len(source)) if row is None else row
        self.shape = (len(self._row), source.shape[1] if d is None else d)

    def __len__(self) -> int:
        return len(self._row)

    @property
    def stored_dtype(self) -> np.dtype[Any]:
        """The type of the numbers where they lie."""
        return self._source.dtype

    def take(
        self,
        where: npt.NDArray[Any] | slice,
        *,
        combine: Combine | None = None,
        d: int | None = None,
        memory: int | None = None,
    ) -> Rows:
        """Select by mask, index or slice; nothing is read.

        Parameters
        ----------
        where : ndarray or slice
        combine, d, memory : optional
            As for the class, instead of what these rows have.
        """
        return Rows(
            self._source,
            self._row[where],
            combine=combine or self._combine,
            d=d or self.shape[1],
            memory=self.memory if memory is None else memory,
        )

    def blocks(self, size: int | None = None) -> Iterator[Embeddings]:
        """Give all rows in order.

        Parameters
        ----------
        size : int, optional
            Rows in a block; the last one may have fewer. By default `BLOCK_BYTES` of them.

        Yields
        ------
        ndarray of float32, shape (at most size, d)
            The caller's to change.
        """
        step = size or max(1, BLOCK_BYTES // (4 * max(self._source.shape[1], 1)))
        with self._opened() as table:
            for start in range(0, len(self), step):
                yield self._read(table, self._row[start : start + step])

    def whole(self) -> Embeddings:
        """Give all rows at once, shape (n, d), and hold no more beside them than a block."""
        found, start = np.empty(self.shape, np.float32), 0
        for block in self.blocks():
            found[start : start + len(block)] = block
            start += len(block)
        return found

    def __getitem__(self, key: Any) -> Embeddings:
        with self._opened() as table:
            found = self._read(table, np.atleast_1d(self._row[key]))
        return found[0] if isinstance(key, (int, np.integer)) else found

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> npt.NDArray[Any]:
        return self[:].astype(dtype or np.float32, copy=False)

    def _read(self, table: npt.NDArray[Any] | h5py.Dataset, row: npt.NDArray[Any]) -> Embeddings:
        found = as_singles(rows_of(table, row))
        return found if self._combine is None else self._combine(found)

    @contextlib.contextmanager
    def _opened(self) -> Iterator[npt.NDArray[Any] | h5py.Dataset]:
        if isinstance(self._source, np.ndarray):
            yield self._source
        else:
            with self._source.opened() as table:
                yield table


def as_singles(stored: npt.NDArray[Any]) -> Embeddings:
    """Turn stored numbers into float32, halves six times as fast as NumPy does.

    A half's bits, moved to where float32 has them, are the number times 2 to the power of -112
    (Giesen, float to half and back, 2012).

    Parameters
    ----------
    stored : ndarray

    Returns
    -------
    ndarray of float32
        A copy of the same shape, and exactly the same numbers.
    """
    # Where a library has told the processor to take the smallest numbers for zero, bits won't do.
    exact = np.float32(2.0**-136) * _HALF_SCALE == np.float32(2.0**-24)
    if stored.dtype != np.float16 or not stored.flags.c_contiguous or not exact:
        return stored.astype(np.float32)
    found = np.empty(stored.shape, np.float32)
    halves, singles = stored.reshape(-1), found.reshape(-1)
    for start in range(0, len(halves), _HALVES_AT_ONCE):
        some = singles[start : start + _HALVES_AT_ONCE]
        bits = some.view(np.int32)
        bits[:] = halves[start : start + _HALVES_AT_ONCE].view(np.int16)
        bits <<= 13
        bits &= _HALF_BITS
        some *= _HALF_SCALE
        if max(some.max(), -some.min()) >= _INFINITE_HALF:
            some[:] = halves[start : start + _HALVES_AT_ONCE]
    return found


def require_finite(rows: Rows, paths: npt.NDArray[np.str_]) -> None:
    """Refuse embeddings that heads and distances can't be made of.

    Parameters
    ----------
    rows : Rows, shape (n, d)
    paths : ndarray of str, shape (n,)
        Of the images, to name one.

    Raises
    ------
    CacheError
        If any number is infinite or none.
    """
    sound = [np.isfinite(block).all(axis=1) for block in rows.blocks()]
    bad = ~np.concatenate([np.empty(0, bool), *sound])
    if count := int(bad.sum()):
        raise CacheError(
            f"the embeddings of {count} image{'s' * (count != 1)} are not finite (such as "
            f"{paths[bad][0]}): extract them again"
        )


def rows_of(
    table: npt.NDArray[Any] | h5py.Dataset, rows: npt.NDArray[np.integer]
) -> npt.NDArray[Any]:
    """Read rows in any order, repeated or not.

    Parameters
    ----------
    table : ndarray or h5py.Dataset, shape (r, d)
    rows : ndarray of int, shape (n,)

    Returns
    -------
    ndarray, shape (n, d)
        As stored; a copy.
    """
    if isinstance(table, np.ndarray) or len(rows) == 0:
        return np.asarray(table[rows if len(rows) else slice(0, 0)])
    distinct, back = np.unique(rows, return_inverse=True)
    # HDF5 is many times slower at picking rows than at reading stretches.
    if distinct[-1] - distinct[0] < 4 * len(distinct):
        stretch = table[distinct[0] : distinct[-1] + 1]
        return np.asarray(stretch[rows - distinct[0]])
    starts = np.flatnonzero(np.diff(distinct, prepend=distinct[0] - 2) > 1)
    found = np.empty((len(distinct), *table.shape[1:]), table.dtype)
    for start, end in zip(starts, np.append(starts[1:], len(distinct)), strict=True):
        found[start:end] = table[distinct[start] : distinct[end - 1] + 1]
    return found[back]
