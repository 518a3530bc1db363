"""Azure's containers of blobs; adlfs has the credentials."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any, Final

from features.storage.addresses import Address
from features.storage.filesystems import CONNECT_SECONDS, SILENT_SECONDS, Passing
from features.storage.stores.base import (
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

# Azure's own client would wait for 15 seconds before it tries again.
_ONCE: Final[dict[str, Any]] = {
    "retry_total": 0,
    "connection_timeout": CONNECT_SECONDS,
    "read_timeout": SILENT_SECONDS,
}


async def look_up(fs: Any, address: Address) -> State:
    """Ask for the state."""
    async with _blob(fs, address) as blob:
        return _state(await blob.get_blob_properties(**_ONCE))


async def read(fs: Any, address: Address, limit: int) -> Object:
    """Read an object, by one request unless it is large."""
    async with _blob(fs, address) as blob:
        stream = await blob.download_blob(**_ONCE)
        require_small(address, stream.size, limit)
        return whole(await stream.readall(), _state(stream.properties))


async def download(fs: Any, address: Address, file: Path) -> State:
    """Write an object to a file; one that changes meanwhile is refused by the server."""
    async with _blob(fs, address) as blob:
        stream = await blob.download_blob(**_ONCE)
        with file.open("wb") as out:
            await stream.readinto(out)
    state = _state(stream.properties)
    require_whole(file.stat().st_size, state)
    return state


async def page(fs: Any, bucket: str, prefix: str, more: str) -> Page:
    """List a page of keys."""
    entries = []
    with _explained():
        async with fs.service_client.get_container_client(bucket) as container:
            pages = container.list_blobs(
                prefix or None, include=["metadata"], results_per_page=PAGE, **_ONCE
            ).by_page(more or None)
            async for found in pages:
                # Where folders are more than parts of names, they are listed, too.
                entries = [
                    (each.name, _state(each))
                    async for each in found
                    if (each.metadata or {}).get("hdi_isfolder") != "true"
                ]
                break
    return Page(entries, pages.continuation_token or "")


async def put(
    fs: Any, address: Address, content: bytes | Path, *, sha256: str = "", new: bool = False
) -> None:
    """Write an object: what is sent in pieces appears when the last has come."""
    kept = {"metadata": {"sha256": sha256}} if sha256 else {}
    async with _blob(fs, address) as blob:
        if isinstance(content, Path):
            with content.open("rb") as opened:
                await blob.upload_blob(opened, overwrite=not new, **kept, **_ONCE)
        else:
            await blob.upload_blob(content, overwrite=not new, **kept, **_ONCE)


async def remove(fs: Any, address: Address) -> None:
    """Take an object away."""
    async with _blob(fs, address) as blob:
        await blob.delete_blob(**_ONCE)


@contextlib.asynccontextmanager
async def _blob(fs: Any, address: Address) -> AsyncIterator[Any]:
    container, name = parted(address)
    with _explained():
        async with fs.service_client.get_blob_client(container, name) as blob:
            yield blob


@contextlib.contextmanager
def _explained() -> Iterator[None]:
    """Turn Azure's errors into Python's; their texts tell what was signed, and are left out."""
    from azure.core.exceptions import ClientAuthenticationError, HttpResponseError

    try:
        yield
    except HttpResponseError as error:
        code = getattr(error, "error_code", None) or ""
        code = str(getattr(code, "value", code))
        status = error.status_code or 0
        if isinstance(error, ClientAuthenticationError) or "Authentication" in code:
            status = 403
        if code == "ConditionNotMet":
            raise Passing("it was changed while it was read") from error
        if code == "BlobAlreadyExists":
            status = 412
        if status == 0:
            raise
        answered(status, code or f"HTTP {status}")
        raise


def _state(told: Any) -> State:
    return State(
        int(told.size or 0), str(told.etag or ""), str((told.metadata or {}).get("sha256", ""))
    )
