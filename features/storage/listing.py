"""What lies below an address: asked for page by page, with what tells whether it changed."""

from __future__ import annotations

import bisect
import hashlib
import os
from array import array
from collections.abc import Iterator, Sequence
from typing import Any, Final

from features.errors import StorageError
from features.storage.addresses import Address, address_of
from features.storage.filesystems import run
from features.storage.objects import State, states

__all__ = ["Listing", "list_below", "states_of", "told"]

_PAGE: Final = 1000


class Listing:
    """Names below an address, in order, and a number for the state of each.

    The states take 8 bytes a name: a million names with theirs are about 100 MB.

    Parameters
    ----------
    address : Address
    names : list of str
        Relative to it.
    marks : array of int
        See `told`.
    """

    def __init__(self, address: Address, names: list[str], marks: array[int]) -> None:
        order = sorted(range(len(names)), key=names.__getitem__)
        self.address = address
        self.names = [names[at] for at in order]
        self.marks = array("q", (marks[at] for at in order))

    def mark(self, name: str) -> int:
        """Give the number of a name's state; 0 if it is not listed."""
        at = bisect.bisect_left(self.names, name)
        return self.marks[at] if at < len(self.names) and self.names[at] == name else 0


# Of this process, so that what was listed need not be asked for again one by one.
_LISTED: Final[dict[str, Listing]] = {}


def list_below(place: str | os.PathLike[str]) -> Listing:
    """List what lies below an address.

    Raises
    ------
    StorageError
        If there is no such bucket, credentials do not do, or it can't be listed at all.
    """
    address = address_of(place)
    if address.scheme.startswith("http"):
        raise StorageError(
            "unusable",
            f"{address} can't be listed, as nothing can by https: give a table or a list of the "
            "images' addresses (.csv, .txt), or an archive (.zip, .tar)",
        )
    names: list[str] = []
    marks = array("q")
    for page in _pages(address):
        for name, state in page:
            names.append(name)
            marks.append(told(state))
    found = Listing(address, names, marks)
    _LISTED[str(address).rstrip("/")] = found
    return found


def states_of(root: str | os.PathLike[str], names: Sequence[str]) -> list[int]:
    """Give the number of each name's state, from the last listing or by asking for each."""
    listing = _LISTED.get(str(address_of(root)).rstrip("/"))
    if listing is not None:
        return [listing.mark(name) for name in names]
    found = states([f"{str(address_of(root)).rstrip('/')}/{name}" for name in names])
    return [0 if state is None else told(state) for state in found]


def told(state: State) -> int:
    """Give a number for a state: the same for the same etag and size; 0 if nothing is told."""
    if not state.etag or state.size < 0:
        return 0
    text = f"{state.size} {state.etag.strip(chr(34))}".encode()
    return int.from_bytes(hashlib.sha256(text).digest()[:8], "big") >> 1 or 1


def _pages(address: Address) -> Iterator[list[tuple[str, State]]]:
    if address.scheme == "s3":
        yield from _pages_s3(address)
        return
    start = address.rest.rstrip("/")
    folders = [start]
    while folders:
        folder = folders.pop()
        page = []
        for entry in run(address, _ls, folder):
            name = str(entry["name"])
            if entry["type"] == "directory":
                folders.append(name.rstrip("/"))
            else:
                etag = str(entry.get("etag") or "")
                page.append((name[len(start) + 1 :], State(int(entry["size"] or 0), etag)))
        yield page


def _pages_s3(address: Address) -> Iterator[list[tuple[str, State]]]:
    bucket, _, key = address.rest.partition("/")
    prefix = f"{key.rstrip('/')}/" if key.strip("/") else ""
    more: dict[str, str] = {}
    while True:
        found = run(address, _list_s3, bucket, prefix, more)
        yield [
            (each["Key"][len(prefix) :], State(each["Size"], each.get("ETag", "")))
            for each in found.get("Contents", ())
            # What stands for a folder has its name.
            if not each["Key"].endswith("/")
        ]
        if not found.get("IsTruncated"):
            return
        more = {"ContinuationToken": found["NextContinuationToken"]}


async def _list_s3(fs: Any, bucket: str, prefix: str, more: dict[str, str]) -> Any:
    return await fs._call_s3("list_objects_v2", Bucket=bucket, Prefix=prefix, MaxKeys=_PAGE, **more)


async def _ls(fs: Any, folder: str) -> Any:
    return await fs._ls(folder, detail=True)
