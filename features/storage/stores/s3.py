"""S3, and whatever speaks as it does."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any, Final

from features.storage.addresses import Address
from features.storage.filesystems import Passing
from features.storage.stores.base import (
    PAGE,
    Object,
    Page,
    State,
    parted,
    require_small,
    require_whole,
    whole,
)

__all__ = ["download", "look_up", "page", "put", "read", "remove"]

# AWS takes no more by one request; s3fs sends larger ones in parts, which appear together.
_ONE_PUT: Final = 5 * 2**30 - 1


async def look_up(fs: Any, address: Address) -> State:
    """Ask for the state."""
    found = await fs._call_s3("head_object", **_named(address))
    told = found.get("Metadata", {}).get("sha256", "")
    return State(found["ContentLength"], found.get("ETag", ""), told)


async def read(fs: Any, address: Address, limit: int) -> Object:
    """Read an object, by one request."""
    response = await fs._call_s3("get_object", **_named(address))
    size = response["ContentLength"]
    async with response["Body"] as body:
        require_small(address, size, limit)
        return whole(await body.read(), State(size, response.get("ETag", "")))


async def download(fs: Any, address: Address, file: Path) -> State:
    """Write an object to a file."""
    state = await look_up(fs, address)
    await fs._get_file(address.rest, str(file))
    if await look_up(fs, address) != state:
        raise Passing("it was changed while it was read")
    require_whole(file.stat().st_size, state)
    return state


async def page(fs: Any, bucket: str, prefix: str, more: str) -> Page:
    """List a page of keys."""
    from_there = {"ContinuationToken": more} if more else {}
    found = await fs._call_s3(
        "list_objects_v2", Bucket=bucket, Prefix=prefix, MaxKeys=PAGE, **from_there
    )
    entries = [
        (each["Key"], State(each["Size"], each.get("ETag", "")))
        for each in found.get("Contents", ())
    ]
    return Page(entries, found["NextContinuationToken"] if found.get("IsTruncated") else "")


async def put(
    fs: Any, address: Address, content: bytes | Path, *, sha256: str = "", new: bool = False
) -> None:
    """Write an object, by one request."""
    kept = {"Metadata": {"sha256": sha256}} if sha256 else {}
    if isinstance(content, Path):
        if content.stat().st_size > _ONE_PUT:
            await fs._put_file(str(content), address.rest, **kept)
            return
        with content.open("rb") as opened:
            await fs._call_s3("put_object", **_named(address), Body=opened, **kept)
        return
    knows = new and "mode" in inspect.signature(fs._pipe_file).parameters
    try:
        await fs._pipe_file(address.rest, content, **({"mode": "create"} if knows else {}))
    except NotImplementedError:
        # This store knows no condition: who wrote last is found out by reading it again.
        await fs._pipe_file(address.rest, content)


async def remove(fs: Any, address: Address) -> None:
    """Take an object away."""
    await look_up(fs, address)
    await fs._rm_file(address.rest)


def _named(address: Address) -> dict[str, str]:
    bucket, key = parted(address)
    return {"Bucket": bucket, "Key": key}
