"""What all kinds of stores have in common."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, NamedTuple, Protocol

from features.errors import StorageError
from features.storage.addresses import Address
from features.storage.filesystems import Passing

__all__ = [
    "CHUNK",
    "IDENTITY",
    "PAGE",
    "PASSING",
    "Object",
    "Page",
    "State",
    "Store",
    "answered",
    "parted",
    "require_small",
    "require_whole",
    "whole",
]

CHUNK: Final = 1 << 20
PAGE: Final = 1000
IDENTITY: Final = {"Accept-Encoding": "identity"}
# Of answers by HTTP, those that may be others in a moment.
PASSING: Final = frozenset({408, 425, 429, 500, 502, 503, 504})


@dataclass(frozen=True)
class State:
    """What changes when an object does, without reading it.

    Parameters
    ----------
    size : int
        In bytes; -1 if that is not told.
    etag : str
        Empty if the server gives none: nothing can be told from such a state. Of Google's objects
        it is the generation.
    sha256 : str, optional
        Of the content, where `put_file` kept it and the server was asked for it.
    """

    size: int
    etag: str
    sha256: str = field(default="", compare=False)


@dataclass(frozen=True)
class Object:
    """An object's bytes, and the state of these very bytes."""

    data: bytes
    state: State


class Page(NamedTuple):
    """Some of the keys of a bucket with their states, and what to ask with for more."""

    entries: list[tuple[str, State]]
    more: str


class Store(Protocol):
    """What can be asked of a kind of store; `fs` is the file system of an address."""

    async def look_up(self, fs: Any, address: Address) -> State:
        """Ask for the state; `FileNotFoundError` if nothing is there."""

    async def read(self, fs: Any, address: Address, limit: int) -> Object:
        """Read an object of no more than `limit` bytes."""

    async def download(self, fs: Any, address: Address, file: Path) -> State:
        """Write an object to a file, in pieces."""

    async def page(self, fs: Any, bucket: str, prefix: str, more: str) -> Page:
        """List keys that begin with a prefix, from where `more` says."""

    async def put(
        self, fs: Any, address: Address, content: bytes | Path, *, sha256: str, new: bool
    ) -> None:
        """Write an object; if it is to be `new`, `FileExistsError` where one is there."""

    async def remove(self, fs: Any, address: Address) -> None:
        """Take an object away; `FileNotFoundError` if nothing is there."""


def parted(address: Address) -> tuple[str, str]:
    """Give bucket and key."""
    bucket, _, key = address.rest.partition("/")
    return bucket, key


def require_small(address: Address, size: int, limit: int) -> None:
    """Refuse what has more bytes than are to be read."""
    if size > limit:
        raise StorageError(
            "too_large", f"{address} has more than the {limit // 10**6:,} MB that are read"
        )


def whole(data: bytes, state: State) -> Object:
    """Give bytes as an object; what ended early is to be read again."""
    require_whole(len(data), state)
    return Object(data, State(len(data), state.etag))


def require_whole(size: int, state: State) -> None:
    """Have it read again if another number of bytes came than was told."""
    if state.size not in (-1, size):
        raise Passing(f"{size:,} of {state.size:,} bytes came")


def answered(status: int, why: str = "") -> None:
    """Turn an answer by HTTP that is a refusal into what Python calls it."""
    told = why or f"HTTP {status}"
    if status in (401, 403):
        raise PermissionError(told)
    if status in (404, 410):
        raise FileNotFoundError(told)
    if status == 412:
        raise FileExistsError(told)
    if status in PASSING:
        raise Passing(told)
    if status >= 400:
        raise ValueError(told)
