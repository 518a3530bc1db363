"""Single objects: read whole, looked up, written by one request."""

from __future__ import annotations

import asyncio
import inspect
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from features.errors import StorageError
from features.storage.addresses import Address, address_of
from features.storage.filesystems import Passing, failures, run

__all__ = [
    "Object",
    "State",
    "download",
    "look_up",
    "put_bytes",
    "put_file",
    "put_new",
    "read_object",
    "remove",
    "require_writable",
    "states",
]

_AT_ONCE: Final = 32
_CHUNK: Final = 1 << 20
_PASSING: Final = frozenset({408, 425, 429, 500, 502, 503, 504})
# AWS takes no more by one request; s3fs sends larger ones in parts, which appear together.
_ONE_PUT: Final = 5 * 2**30 - 1


@dataclass(frozen=True)
class State:
    """What changes when an object does, without reading it.

    Parameters
    ----------
    size : int
        In bytes; -1 if that is not told.
    etag : str
        Empty if the server gives none: nothing can be told from such a state.
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
    found: Object = run(address, _READERS.get(address.scheme, _read_any), address, limit)
    return found


def look_up(place: str | os.PathLike[str]) -> State:
    """Ask for the size and the etag of an object.

    Raises
    ------
    StorageError
        If it is not there, or there is no good answer.
    """
    address = address_of(place)
    found: State = run(address, _look_up, address)
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
    found: State = run(address, _download, address, file)
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
        Of the file; kept beside the object where the store keeps such.

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
    require_writable(address)
    size = file.stat().st_size
    run(address, _put_file, address, file, sha256)
    state = look_up(place)
    if state.size != size:
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
    address = address_of(place)
    require_writable(address)
    run(address, _put_bytes, address, data)


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


def _parts(address: Address) -> dict[str, str]:
    bucket, _, key = address.rest.partition("/")
    return {"Bucket": bucket, "Key": key}


async def _read_s3(fs: Any, address: Address, limit: int) -> Object:
    response = await fs._call_s3("get_object", **_parts(address))
    size = response["ContentLength"]
    async with response["Body"] as body:
        _require_small(address, size, limit)
        return _whole(await body.read(), State(size, response.get("ETag", "")))


async def _read_http(fs: Any, address: Address, limit: int) -> Object:
    session = await fs.set_session()
    async with session.get(fs.encode_url(str(address)), headers=_IDENTITY) as response:
        state = _answered(response)
        _require_small(address, state.size, limit)
        pieces, length = [], 0
        async for piece in response.content.iter_chunked(_CHUNK):
            pieces.append(piece)
            length += len(piece)
            # A server need not say how much there is.
            _require_small(address, length, limit)
        return _whole(b"".join(pieces), state)


async def _read_any(fs: Any, address: Address, limit: int) -> Object:
    state = await _look_up(fs, address)
    _require_small(address, state.size, limit)
    data = await fs._cat_file(address.rest)
    if await _look_up(fs, address) != state:
        raise Passing("it was changed while it was read")
    return _whole(data, state)


_READERS: Final = {"s3": _read_s3, "https": _read_http, "http": _read_http}
_IDENTITY: Final = {"Accept-Encoding": "identity"}


def _require_small(address: Address, size: int, limit: int) -> None:
    if size > limit:
        raise StorageError(
            "too_large", f"{address} has more than the {limit // 10**6:,} MB that are read"
        )


def _whole(data: bytes, state: State) -> Object:
    if state.size not in (-1, len(data)):
        raise Passing(f"{len(data):,} of {state.size:,} bytes came")
    return Object(data, State(len(data), state.etag))


def _answered(response: Any) -> State:
    if response.status in (401, 403):
        raise PermissionError(f"HTTP {response.status}")
    if response.status in (404, 410):
        raise FileNotFoundError(f"HTTP {response.status}")
    if response.status in _PASSING:
        raise Passing(f"HTTP {response.status}")
    if response.status >= 400:
        raise ValueError(f"HTTP {response.status}")
    told = response.headers
    # A time has seconds, and a file may change twice in one: it is no etag.
    return State(int(told.get("Content-Length", -1)), told.get("ETag", ""))


async def _look_up(fs: Any, address: Address) -> State:
    if address.scheme == "s3":
        found = await fs._call_s3("head_object", **_parts(address))
        told = found.get("Metadata", {}).get("sha256", "")
        return State(found["ContentLength"], found.get("ETag", ""), told)
    if address.scheme.startswith("http"):
        session = await fs.set_session()
        async with session.head(
            fs.encode_url(str(address)), headers=_IDENTITY, allow_redirects=True
        ) as response:
            if response.status not in (405, 501):
                return _answered(response)
        async with session.get(fs.encode_url(str(address)), headers=_IDENTITY) as response:
            return _answered(response)
    found = await fs._info(address.rest)
    return State(int(found["size"]), str(found.get("etag") or ""))


async def _look_up_all(fs: Any, places: Sequence[str]) -> list[State | None]:
    gate = asyncio.Semaphore(_AT_ONCE)

    async def one(place: str) -> State | None:
        async with gate:
            try:
                return await _look_up(fs, address_of(place))
            except failures(address_of(place).scheme):
                # Whoever reads it then hears what is wrong.
                return None

    return await asyncio.gather(*map(one, places))


async def _download(fs: Any, address: Address, file: Path) -> State:
    if address.scheme.startswith("http"):
        session = await fs.set_session()
        async with session.get(fs.encode_url(str(address)), headers=_IDENTITY) as response:
            state = _answered(response)
            with file.open("wb") as out:
                async for piece in response.content.iter_chunked(_CHUNK):
                    out.write(piece)
    else:
        state = await _look_up(fs, address)
        await fs._get_file(address.rest, str(file))
        if await _look_up(fs, address) != state:
            raise Passing("it was changed while it was read")
    if state.size not in (-1, size := file.stat().st_size):
        raise Passing(f"{size:,} of {state.size:,} bytes came")
    return state


async def _put_file(fs: Any, address: Address, file: Path, sha256: str) -> None:
    kept = {"Metadata": {"sha256": sha256}} if sha256 and address.scheme == "s3" else {}
    if address.scheme == "s3" and file.stat().st_size <= _ONE_PUT:
        with file.open("rb") as opened:
            await fs._call_s3("put_object", **_parts(address), Body=opened, **kept)
    else:
        await fs._put_file(str(file), address.rest, **kept)


async def _put_bytes(fs: Any, address: Address, data: bytes) -> None:
    await fs._pipe_file(address.rest, data)


async def _put_new(fs: Any, address: Address, data: bytes) -> bool:
    if await _is_there(fs, address):
        return False
    knows = "mode" in inspect.signature(fs._pipe_file).parameters
    try:
        await fs._pipe_file(address.rest, data, **({"mode": "create"} if knows else {}))
    except FileExistsError:
        return False
    except NotImplementedError:
        # This store knows no condition: who wrote last is found out by reading it again.
        await fs._pipe_file(address.rest, data)
    return True


async def _remove(fs: Any, address: Address) -> None:
    if await _is_there(fs, address):
        await fs._rm_file(address.rest)


async def _is_there(fs: Any, address: Address) -> bool:
    try:
        await _look_up(fs, address)
    except FileNotFoundError:
        return False
    return True
