"""Single objects: read whole, looked up, written by one request."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from features.errors import StorageError
from features.storage.addresses import Address, address_of
from features.storage.filesystems import failures, run
from features.storage.stores import azure, google, s3, web
from features.storage.stores.base import Object, Page, State, Store

__all__ = [
    "Object",
    "State",
    "download",
    "look_up",
    "page",
    "put_bytes",
    "put_file",
    "put_new",
    "read_object",
    "remove",
    "require_writable",
    "states",
]

_AT_ONCE: Final = 32
_STORES: Final[dict[str, Store]] = {
    "s3": s3, "gs": google, "az": azure, "https": web, "http": web,
}  # fmt: skip


def read_object(place: str | os.PathLike[str], limit: int) -> Object:
    """Read a whole object; one that is cut off on the way is read again.

    Parameters
    ----------
    place : str or PathLike
    limit : int
        Bytes that it may have.

    Raises
    ------
    StorageError
        If it is not there, larger than that, or can't be read after all retries.
    """
    address = address_of(place)
    found: Object = run(address, _STORES[address.scheme].read, address, limit)
    return found


def look_up(place: str | os.PathLike[str]) -> State:
    """Ask for the size and the etag of an object.

    Raises
    ------
    StorageError
        If it is not there, or there is no good answer.
    """
    address = address_of(place)
    found: State = run(address, _STORES[address.scheme].look_up, address)
    return found


def states(places: Sequence[str]) -> list[State | None]:
    """Ask for the states of many objects, several at a time; None where there is no good answer."""
    if not places:
        return []
    found: list[State | None] = run(address_of(places[0]), _look_up_all, places)
    return found


def download(place: str | os.PathLike[str], file: Path) -> State:
    """Write an object to a file, in pieces.

    Returns
    -------
    State
        As it was told with the bytes.

    Raises
    ------
    StorageError
        If it is not there, or can't be read after all retries.
    """
    address = address_of(place)
    found: State = run(address, _STORES[address.scheme].download, address, file)
    return found


def page(address: Address, prefix: str, more: str) -> Page:
    """List a page of keys of an address's bucket.

    Parameters
    ----------
    address : Address
    prefix : str
        What the keys begin with.
    more : str
        As the page before told it; empty for the first.

    Raises
    ------
    StorageError
        If it can't be listed.
    """
    bucket = address.rest.partition("/")[0]
    found: Page = run(address, _STORES[address.scheme].page, bucket, prefix, more)
    return found


def require_writable(address: Address) -> None:
    """Refuse an address that nothing can be written to.

    Raises
    ------
    StorageError
    """
    if address.scheme.startswith("http"):
        raise StorageError(
            "unusable",
            f"{address} can be read and not written: give s3://, gs://, az:// or a path",
        )


def put_file(file: Path, place: str | os.PathLike[str], *, sha256: str = "") -> State:
    """Write a file to an address: at once, so that nobody ever reads half of it.

    Parameters
    ----------
    file : Path
    place : str or PathLike
    sha256 : str, optional
        Of the file; kept with the object.

    Returns
    -------
    State
        Of what lies there now.

    Raises
    ------
    StorageError
        If it can't be written, or what lies there then is of another size.
    """
    address = address_of(place)
    _put(address, file, sha256=sha256)
    state = look_up(place)
    if state.size != (size := file.stat().st_size):
        raise StorageError(
            "unreachable",
            f"{address} has {state.size:,} bytes where {size:,} were written: write it again",
        )
    return state


def put_bytes(data: bytes, place: str | os.PathLike[str]) -> None:
    """Write a few bytes to an address, by one request.

    Raises
    ------
    StorageError
        If it can't be written.
    """
    _put(address_of(place), data)


def put_new(data: bytes, place: str | os.PathLike[str]) -> bool:
    """Write a few bytes to an address where nothing lies; tell whether they were written.

    Two who write at once are told apart by stores that know conditional writes, as S3 does. Other
    stores let the later one write over the former: read it again after a while.

    Raises
    ------
    StorageError
        If it can't be written.
    """
    address = address_of(place)
    require_writable(address)
    written: bool = run(address, _put_new, address, data)
    return written


def remove(place: str | os.PathLike[str]) -> None:
    """Take an object away, if it is there.

    Raises
    ------
    StorageError
        If it can't be taken away.
    """
    address = address_of(place)
    require_writable(address)
    run(address, _remove, address)


def _put(address: Address, content: bytes | Path, *, sha256: str = "") -> None:
    require_writable(address)

    async def put(fs: Any) -> None:
        await _STORES[address.scheme].put(fs, address, content, sha256=sha256, new=False)

    run(address, put)


async def _look_up_all(fs: Any, places: Sequence[str]) -> list[State | None]:
    gate = asyncio.Semaphore(_AT_ONCE)

    async def one(place: str) -> State | None:
        address = address_of(place)
        async with gate:
            try:
                return await _STORES[address.scheme].look_up(fs, address)
            except failures(address.scheme):
                # Whoever reads it then hears what is wrong.
                return None

    return await asyncio.gather(*map(one, places))


async def _put_new(fs: Any, address: Address, data: bytes) -> bool:
    store = _STORES[address.scheme]
    try:
        await store.look_up(fs, address)
    except FileNotFoundError:
        pass
    else:
        return False
    try:
        await store.put(fs, address, data, sha256="", new=True)
    except FileExistsError:
        return False
    return True


async def _remove(fs: Any, address: Address) -> None:
    with contextlib.suppress(FileNotFoundError):
        await _STORES[address.scheme].remove(fs, address)
