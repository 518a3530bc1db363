"""What lies below an address: asked for page by page, with what tells whether it changed."""

from __future__ import annotations

import bisect
import hashlib
import os
from array import array
from collections.abc import Iterator, Sequence
from typing import Final

from features.errors import StorageError
from features.storage.addresses import Address, address_of
from features.storage.objects import State, page, states

__all__ = ["Listing", "list_below", "states_of", "told"]


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
    for entries in _pages(address):
        for name, state in entries:
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
    key = address.rest.partition("/")[2]
    prefix = f"{key.rstrip('/')}/" if key.strip("/") else ""
    more = ""
    while True:
        found = page(address, prefix, more)
        # What stands for a folder has its name.
        yield [
            (name[len(prefix) :], state) for name, state in found.entries if not name.endswith("/")
        ]
        more = found.more
        if not more:
            return
