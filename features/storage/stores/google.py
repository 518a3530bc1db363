"""Google Cloud Storage, by its JSON API; gcsfs has the credentials and sends large files."""

from __future__ import annotations

import contextlib
import json
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

from features.storage.addresses import Address
from features.storage.filesystems import Passing
from features.storage.stores.base import (
    CHUNK,
    PAGE,
    Object,
    Page,
    State,
    answered,
    parted,
    require_small,
    require_whole,
    whole,
)

__all__ = ["download", "look_up", "page", "put", "read", "remove"]

_GENERATION: Final = "X-Goog-Generation"
_TOLD: Final = "name,size,generation,metadata"


async def look_up(fs: Any, address: Address) -> State:
    """Ask for the state."""
    async with _answer(fs, "GET", address, {"fields": _TOLD}) as response:
        return _state(json.loads(await response.read()))


async def read(fs: Any, address: Address, limit: int) -> Object:
    """Read an object, by one request where its generation is told with the bytes."""
    state: State | None = None
    while True:
        async with _answer(fs, "GET", address, {"alt": "media"}) as response:
            size = int(response.headers.get("Content-Length", -1))
            require_small(address, size, limit)
            data = await response.read()
            told = response.headers.get(_GENERATION, "")
        if told:
            return whole(data, State(size, told))
        before, state = state, await look_up(fs, address)
        if state == before:
            return whole(data, state)


async def download(fs: Any, address: Address, file: Path) -> State:
    """Write an object to a file."""
    state = await look_up(fs, address)
    async with _answer(fs, "GET", address, {"alt": "media"}) as response:
        with file.open("wb") as out:
            async for piece in response.content.iter_chunked(CHUNK):
                out.write(piece)
    if await look_up(fs, address) != state:
        raise Passing("it was changed while it was read")
    require_whole(file.stat().st_size, state)
    return state


async def page(fs: Any, bucket: str, prefix: str, more: str) -> Page:
    """List a page of keys."""
    asked = {
        "prefix": prefix,
        "maxResults": str(PAGE),
        "pageToken": more,
        "fields": f"items({_TOLD}),nextPageToken",
    }
    async with _answer(fs, "GET", Address("gs", f"{bucket}/"), asked) as response:
        found = json.loads(await response.read())
    entries = [(each["name"], _state(each)) for each in found.get("items", ())]
    return Page(entries, found.get("nextPageToken", ""))


async def put(
    fs: Any, address: Address, content: bytes | Path, *, sha256: str = "", new: bool = False
) -> None:
    """Write an object: what is sent in pieces appears when the last has come."""
    how: dict[str, Any] = {"metadata": {"sha256": sha256}} if sha256 else {}
    if new:
        how["mode"] = "create"
    try:
        if isinstance(content, Path):
            await fs._put_file(str(content), address.rest, **how)
        else:
            await fs._pipe_file(address.rest, content, **how)
    except FileNotFoundError as error:
        raise FileNotFoundError("no such bucket") from error
    except FileExistsError:
        raise
    except OSError as error:
        # Of gcsfs: no kind of its own.
        if str(error).startswith("Forbidden"):
            raise PermissionError(str(error)) from error
        raise


async def remove(fs: Any, address: Address) -> None:
    """Take an object away."""
    async with _answer(fs, "DELETE", address, {}):
        pass


@contextlib.asynccontextmanager
async def _answer(
    fs: Any, method: str, address: Address, asked: Mapping[str, str]
) -> AsyncIterator[Any]:
    bucket, key = parted(address)
    where = f"storage/v1/b/{quote(bucket, safe='')}/o" + (key and f"/{quote(key, safe='')}")
    if "alt" in asked:
        where = f"download/{where}"
    await fs._set_session()
    async with fs.session.request(
        method,
        f"{fs._location}/{where}",
        params=fs._get_params({name: value for name, value in asked.items() if value}),
        headers=fs._get_headers({"Accept-Encoding": "identity"}),
        timeout=fs.requests_timeout,
    ) as response:
        if response.status >= 400:
            why = _why(await response.read())
            if response.status == 404 and (not key or await _lacks_bucket(fs, bucket, why)):
                why = "no such bucket"
            answered(response.status, why)
        yield response


async def _lacks_bucket(fs: Any, bucket: str, why: str) -> bool:
    if why:
        return "bucket" in why.casefold() and not why.startswith("No such object")
    try:
        await page(fs, bucket, "", "")
    except FileNotFoundError:
        return True
    return False


def _why(body: bytes) -> str:
    with contextlib.suppress(ValueError, TypeError, KeyError):
        return str(json.loads(body)["error"]["message"] or "")
    return ""


def _state(told: dict[str, Any]) -> State:
    # A generation is of the content; the etag changes with what is said of it, too.
    kept = told.get("metadata") or {}
    return State(int(told.get("size", 0)), str(told["generation"]), str(kept.get("sha256", "")))
