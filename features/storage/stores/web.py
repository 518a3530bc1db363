"""Web servers, from which can be read and nothing else."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, NoReturn

from features.errors import StorageError
from features.storage.addresses import Address
from features.storage.stores.base import (
    CHUNK,
    IDENTITY,
    Object,
    Page,
    State,
    answered,
    require_small,
    require_whole,
    whole,
)

__all__ = ["download", "look_up", "page", "put", "read", "remove"]


async def look_up(fs: Any, address: Address) -> State:
    """Ask for the state, with a `GET` where the server knows no `HEAD`."""
    session = await fs.set_session()
    async with session.head(
        fs.encode_url(str(address)), headers=IDENTITY, allow_redirects=True
    ) as response:
        if response.status not in (405, 501):
            return _state(response)
    async with _answer(fs, address) as (_, state):
        return state


async def read(fs: Any, address: Address, limit: int) -> Object:
    """Read an object."""
    async with _answer(fs, address) as (response, state):
        require_small(address, state.size, limit)
        pieces, length = [], 0
        async for piece in response.content.iter_chunked(CHUNK):
            pieces.append(piece)
            length += len(piece)
            # A server need not say how much there is.
            require_small(address, length, limit)
        return whole(b"".join(pieces), state)


async def download(fs: Any, address: Address, file: Path) -> State:
    """Write an object to a file."""
    async with _answer(fs, address) as (response, state):
        with file.open("wb") as out:
            async for piece in response.content.iter_chunked(CHUNK):
                out.write(piece)
    require_whole(file.stat().st_size, state)
    return state


async def page(fs: Any, bucket: str, prefix: str, more: str) -> Page:
    """Refuse: nothing can be listed by https."""
    _refuse(f"{bucket}/{prefix}")


async def put(
    fs: Any, address: Address, content: bytes | Path, *, sha256: str = "", new: bool = False
) -> None:
    """Refuse: nothing can be written by https."""
    _refuse(address.rest)


async def remove(fs: Any, address: Address) -> None:
    """Refuse: nothing can be taken away by https."""
    _refuse(address.rest)


@contextlib.asynccontextmanager
async def _answer(fs: Any, address: Address) -> AsyncIterator[tuple[Any, State]]:
    session = await fs.set_session()
    async with session.get(fs.encode_url(str(address)), headers=IDENTITY) as response:
        yield response, _state(response)


def _state(response: Any) -> State:
    answered(response.status)
    told = response.headers
    # A time has seconds, and a file may change twice in one: it is no etag.
    return State(int(told.get("Content-Length", -1)), told.get("ETag", ""))


def _refuse(where: str) -> NoReturn:
    raise StorageError("unusable", f"{where} can be read by https, and nothing else")
