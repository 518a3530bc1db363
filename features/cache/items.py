"""The image files that a feature file lists: one entry each, in columns."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

import h5py
import numpy as np
import numpy.typing as npt

from features.presenting import NAME_ERRORS

__all__ = [
    "COLUMNS",
    "NUMBER_COLUMNS",
    "TEXT_COLUMNS",
    "ItemSource",
    "Items",
    "StoredItems",
    "read_column",
    "read_texts",
]

TEXT_COLUMNS: Final = ("sha256", "path", "label", "split", "group")
NUMBER_COLUMNS: Final = {"row": np.int64, "width": np.int32, "height": np.int32}


@dataclass(frozen=True)
class Items:
    """One entry per image file; several may share a row of the embeddings.

    Parameters
    ----------
    row : ndarray of int, shape (n,)
        Which row of the embeddings is the image's.
    sha256 : ndarray of str, shape (n,)
        Hash of the file's bytes.
    path : ndarray of str, shape (n,)
        Relative to the image folder, with forward slashes; empty where the file is gone and
        only its embedding is kept.
    label, split, group : ndarray of str, shape (n,)
        Empty where unknown; `split` is one of ``"train"``, ``"valid"``, ``"test"`` and ``""``.
    width, height : ndarray of int, shape (n,)
        Size of the original image in pixels.
    """

    row: npt.NDArray[np.int64]
    sha256: npt.NDArray[np.str_]
    path: npt.NDArray[np.str_]
    label: npt.NDArray[np.str_]
    split: npt.NDArray[np.str_]
    group: npt.NDArray[np.str_]
    width: npt.NDArray[np.int32]
    height: npt.NDArray[np.int32]

    def __len__(self) -> int:
        return len(self.row)

    def take(self, where: npt.NDArray[Any]) -> Items:
        """Select entries by mask or index."""
        return Items(**{name: getattr(self, name)[where] for name in COLUMNS})

    def there(self) -> Items:
        """Select those whose files were there."""
        return self.take(self.path != "")

    def pieces(self) -> Iterator[Items]:
        """Give all of them, in as many pieces as need not be held at once."""
        yield self

    @classmethod
    def from_rows(cls, rows: Iterable[Sequence[Any]]) -> Items:
        """Make the columns from rows in the order of the fields."""
        listed = list(rows)
        columns = list(zip(*listed, strict=True)) if listed else [()] * 8
        found: dict[str, Any] = {
            name: np.asarray(column, dtype=NUMBER_COLUMNS.get(name, np.str_))
            for name, column in zip(cls.__dataclass_fields__, columns, strict=True)
        }
        return cls(**found)


COLUMNS: Final = tuple(Items.__dataclass_fields__)


class ItemSource(Protocol):
    """Where the columns of many items lie, in parts."""

    @property
    def part_bounds(self) -> list[tuple[int, int]]:
        """Give the first item of each part and the first after it."""

    @property
    def all_there(self) -> bool:
        """Tell whether no item is of a file that is gone."""

    def column(self, name: str, where: npt.NDArray[np.int64] | None) -> npt.NDArray[Any]:
        """Read a column of the items of these numbers, in that order; of all by default."""

    def part_column(self, part: int, name: str) -> npt.NDArray[Any]:
        """Read a column of a part, but for ``row``."""


class StoredItems(Items):
    """Items of which a column is read when it is first looked at.

    Parameters
    ----------
    source : ItemSource
    where : ndarray of int, shape (n,), optional
        Which of its items, in which order; all by default.
    columns : ndarray, shape (n,)
        Those that are held already.
    """

    def __init__(
        self,
        source: ItemSource | None = None,
        where: npt.NDArray[np.int64] | None = None,
        **columns: npt.NDArray[Any],
    ) -> None:
        # `dataclasses.replace` gives all columns, and then there is nothing left to read.
        self.__dict__.update(columns, _source=source, _where=where)

    def __getattr__(self, name: str) -> npt.NDArray[Any]:
        source: ItemSource | None = self.__dict__.get("_source")
        if name not in COLUMNS or source is None:
            raise AttributeError(name)
        found = source.column(name, self.__dict__["_where"])
        self.__dict__[name] = found
        return found

    def __len__(self) -> int:
        source, where = self.__dict__["_source"], self.__dict__["_where"]
        if where is not None:
            return len(where)
        bounds = source.part_bounds if source is not None else ()
        return int(bounds[-1][1]) if bounds else len(self.row)

    def take(self, where: npt.NDArray[Any]) -> Items:
        """Select entries by mask or index; nothing is read."""
        source, mine = self.__dict__["_source"], self.__dict__["_where"]
        if source is None:
            return super().take(where)
        if getattr(where, "dtype", None) == np.bool_ and where.all():
            return self
        return StoredItems(source, (np.arange(len(self)) if mine is None else mine)[where])

    def there(self) -> Items:
        """Select those whose files were there."""
        source = self.__dict__["_source"]
        return self if source is not None and source.all_there else super().there()

    def pieces(self) -> Iterator[Items]:
        """Give all of them, in as many pieces as need not be held at once."""
        source, where = self.__dict__["_source"], self.__dict__["_where"]
        if source is None or where is not None:
            yield self
            return
        for part, (start, end) in enumerate(source.part_bounds):
            others = {name: source.part_column(part, name) for name in COLUMNS if name != "row"}
            yield Items(row=self.row[start:end], **others)


def read_column(items: h5py.Group, name: str, where: slice = slice(None)) -> npt.NDArray[Any]:
    """Read a column of the group ``items`` of a feature file, or a stretch of it."""
    stored = items[name]
    found: npt.NDArray[Any] = (
        stored[where] if name in NUMBER_COLUMNS else read_texts(stored, where).astype(np.str_)
    )
    return found


def read_texts(stored: h5py.Dataset, where: slice = slice(None)) -> Any:
    """Read text as it was written, names that are no UTF-8 with their very bytes."""
    return stored.asstr(errors=NAME_ERRORS)[where]
