"""What lies below an address: asked for page by page, with what tells whether it changed."""

from __future__ import annotations

import bisect
import hashlib
import itertools
import os
from array import array
from collections.abc import Iterator, Sequence
from typing import Final

from features.errors import StorageError
from features.storage.addresses import Address, address_of
from features.storage.objects import State, page, states

__all__ = ["Listing", "is_listed", "learn", "list_below", "states_of", "told"]


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
    whole : bool, optional
        Whether what is not among the names is not there.
    """

    def __init__(
        self, address: Address, names: list[str], marks: array[int], *, whole: bool = True
    ) -> None:
        order = sorted(range(len(names)), key=names.__getitem__)
        self.address, self.whole = address, whole
        self.names = [names[at] for at in order]
        self.marks = array("q", (marks[at] for at in order))

    def mark(self, name: str) -> int:
        """Give the number of a name's state; 0 if it is not listed."""
        at = bisect.bisect_left(self.names, name)
        return self.marks[at] if at < len(self.names) and self.names[at] == name else 0


# A listing ends when, on average, a request has told of fewer names than that.
_NAMES_A_PAGE: Final = 8
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


def learn(root: str | os.PathLike[str], names: Sequence[str]) -> None:
    """List what lies below an address, as far as that asks less than asking for each of some names.

    Of what is listed, these names alone are kept.

    Parameters
    ----------
    root : str or PathLike
    names : sequence of str
        Relative to it.

    Raises
    ------
    StorageError
        If it can't be listed.
    """
    address = address_of(root)
    place = str(address).rstrip("/")
    if address.scheme.startswith("http") or all(
        _mark(f"{place}/{name}") is not None for name in names
    ):
        return
    wanted, found = set(names), dict[str, int]()
    for entries in itertools.islice(_pages(address), max(1, len(names) // _NAMES_A_PAGE)):
        found.update((name, told(state)) for name, state in entries if name in wanted)
        if len(found) == len(wanted):
            break
    _LISTED[place] = Listing(address, list(found), array("q", found.values()), whole=False)


def states_of(root: str | os.PathLike[str], names: Sequence[str]) -> list[int]:
    """Give the number of each name's state, from what was listed or by asking for each."""
    place = str(address_of(root)).rstrip("/")
    marks = [_mark(f"{place}/{name}") for name in names]
    asked = [at for at, mark in enumerate(marks) if mark is None]
    for at, state in zip(asked, states([f"{place}/{names[at]}" for at in asked]), strict=True):
        marks[at] = 0 if state is None else told(state)
    return [mark or 0 for mark in marks]


def is_listed(place: str | os.PathLike[str]) -> bool | None:
    """Tell whether an object is there by what was listed; None if that says nothing of it."""
    mark = _mark(str(address_of(place)))
    return None if mark is None else mark != 0


def _mark(place: str) -> int | None:
    for above in sorted(_LISTED, key=len, reverse=True):
        if place.startswith(above) and place[len(above) : len(above) + 1] == "/":
            mark = _LISTED[above].mark(place[len(above) + 1 :])
            if mark or _LISTED[above].whole:
                return mark
    return None


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
