"""Which images are in which shard: the same on every machine, whatever else is in the data set."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Final

from features.cache.shards.places import shard_name
from features.datasets.folders import Item
from features.errors import DatasetError
from features.images.decoding import READER_VERSION
from features.presenting import as_bytes

__all__ = ["MAX_SHARDS", "Shard", "into_shards", "number_of_shards", "state_of_file"]

MAX_SHARDS: Final = 99_999
_PLACES: Final = 64


def state_of_file(path: str) -> str:
    """Tell what changes when a file does, without reading it: its size and time of change.

    Parameters
    ----------
    path : str
        Of a file, or of a member of an archive, which changes when the archive does.

    Returns
    -------
    str
        Empty if there is no such file.
    """
    place = path
    while place:
        try:
            found = os.stat(place)
        except (FileNotFoundError, NotADirectoryError):
            above = os.path.dirname(place)
            place = "" if above == place else above
        except OSError:
            return ""
        else:
            whole = place == path or not os.path.isdir(place)
            return f"{found.st_size} {found.st_mtime_ns}" if whole else ""
    return ""


@dataclass(frozen=True)
class Shard:
    """A part of a data set.

    Parameters
    ----------
    number, of : int
        Which of how many, from 1 on.
    items : tuple of Item
        In the order of the data set.
    fingerprint : str
        Of the extractor.
    root : Path
        What the items' paths are relative to.
    state : callable
        Tells of a path what changes when the file does: size and time, or a store's etag.
    """

    number: int
    of: int
    items: tuple[Item, ...]
    fingerprint: str
    root: Path
    state: Callable[[str], str] = field(default=state_of_file, repr=False)

    @property
    def name(self) -> str:
        """Of its files, without an ending."""
        return shard_name(self.number, self.of)

    @property
    def title(self) -> str:
        """For a person."""
        return f"shard {self.number} of {self.of}"

    def with_key(self) -> Shard:
        """Give it with its key and without what it was found with, which stays on this machine."""
        found = replace(self, state=state_of_file)
        vars(found)["key"] = self.key
        return found

    @cached_property
    def key(self) -> str:
        """Sha256 (hex) of all that the shard is made of.

        That is the fingerprint and, of every image file, name, label, split, group and state.
        States are asked for when the key is first looked at, so that nobody asks for those of
        other shards; it is then kept, so that an image that changes later changes the next key.
        """
        digest = hashlib.sha256(
            f"{self.fingerprint} {self.number} of {self.of}, reader {READER_VERSION}".encode()
        )
        root = str(self.root)
        for item in self.items:
            state = self.state(os.path.join(root, item.path))
            told = (item.path, item.label, item.split, item.group, state)
            # A name holds any byte but zero.
            digest.update(b"\n" + b"\0".join(map(as_bytes, told)))
        return digest.hexdigest()


def number_of_shards(images: int, size: int) -> int:
    """Tell how many shards give about `size` images each: a power of two.

    A data set that grows thus keeps its number of shards until it has doubled.
    """
    if size < 1:
        raise DatasetError(f"got shards of {size} images, expected at least 1")
    wanted = max(1, -(-images // size))
    return min(1 << (wanted - 1).bit_length(), 1 << (MAX_SHARDS.bit_length() - 1))


def into_shards(
    items: Sequence[Item],
    fingerprint: str,
    *,
    root: str | Path,
    of: int | None = None,
    size: int | None = None,
    state: Callable[[str], str] = state_of_file,
) -> list[Shard]:
    """Deal images out into shards by a hash of their names.

    An image that comes or goes touches its own shard and no other; every machine finds the same.
    The hash is a place on a line that is cut into `of` equal pieces, so that twice as many shards
    are each a half of one of before.

    Parameters
    ----------
    items : sequence of Item
        As of a `Dataset`.
    fingerprint : str
        Of the extractor.
    root : str or Path
        What their paths are relative to.
    of : int, optional
        How many shards.
    size : int, optional
        Instead: about how many images a shard shall have; see `number_of_shards`.
    state : callable, optional
        Tells of a full path what changes when the file does.

    Returns
    -------
    list of Shard
        All of them, in order; some may have no images.

    Raises
    ------
    DatasetError
        If the number can't be.
    """
    if (of is None) == (size is None):
        raise ValueError("give the number of shards or their size")
    count = number_of_shards(len(items), size) if size is not None else of or 0
    if not 1 <= count <= MAX_SHARDS:
        raise DatasetError(f"got {count} shards, expected 1 to {MAX_SHARDS:,}")
    dealt: list[list[Item]] = [[] for _ in range(count)]
    for item in items:
        dealt[_place(item.path) * count >> _PLACES].append(item)
    return [
        Shard(number, count, tuple(mine), fingerprint, Path(root), state)
        for number, mine in enumerate(dealt, start=1)
    ]


def _place(name: str) -> int:
    return int.from_bytes(hashlib.sha256(as_bytes(name)).digest()[: _PLACES // 8], "big")
