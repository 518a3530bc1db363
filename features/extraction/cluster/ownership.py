"""One run at a time on a place, whatever machines the runs are on."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import filelock

from features.errors import ClusterError
from features.extraction.cluster.claim import AddressClaim, claimed
from features.storage.addresses import is_remote

__all__ = ["owned"]

_LOCK: Final = ".cluster.lock"
_LEASE_SECONDS: Final = 20.0
_GLANCE_SECONDS: Final = 1.0


@contextlib.contextmanager
def owned(
    out: Path, lease: float = _LEASE_SECONDS
) -> Iterator[filelock.SoftFileLease | AddressClaim]:
    """Have a folder or an address to oneself.

    The claim is a file that its owner touches every few seconds, and so needs no locks of the file
    system, which shared folders often lack. An owner that was killed is recognised at once on the
    same machine, and from elsewhere by a lease of its file going by untouched, on the clock of
    who waits for it. Should two runs write all the same, shards stay whole: each is written
    aside under a name of its own and renamed, or put by one request.

    At an address the claim is an object. Stores that know conditional writes, as S3 does, let one
    of two runs write it that begin at once; of others the one whose object is there after a
    second. Two that find a dead owner's at once may both take it over for up to five seconds, when
    the first learns of the second and ends.

    Parameters
    ----------
    out : Path
        A folder is made if it does not exist.
    lease : float, optional
        Seconds.

    Yields
    ------
    SoftFileLease or AddressClaim
        Its ``compromise`` is set if the claim was lost, as after a pause of this machine.

    Raises
    ------
    ClusterError
        If another run has the place, or the folder can't be written to.
    StorageError
        If the address can't be written to.
    """
    if is_remote(out):
        with claimed(out, lease) as claim:
            yield claim
        return
    with _owned_folder(out, lease) as lock:
        yield lock


@contextlib.contextmanager
def _owned_folder(folder: Path, lease: float) -> Iterator[filelock.SoftFileLease]:
    lock = filelock.SoftFileLease(folder / _LOCK, lease_duration=lease, thread_local=False)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _acquire(lock)
    except filelock.Timeout:
        raise ClusterError(
            f"another run is at work in {folder}{_by_whom(lock.owner)}: wait for it, or write to "
            "another folder"
        ) from None
    except OSError as error:
        raise ClusterError(
            f"{folder} can't be written to ({error.strerror}): choose another place with --out"
        ) from error
    try:
        yield lock
    finally:
        lock.release()


def _acquire(lock: filelock.SoftFileLease) -> None:
    try:
        lock.acquire(timeout=_GLANCE_SECONDS)
    except filelock.Timeout:
        # One of this machine that is dead would have been found out.
        if lock.owner is not None and lock.owner.hostname == socket.gethostname():
            raise
        lock.acquire(timeout=lock.lease_duration * 1.25)


def _by_whom(owner: Any) -> str:
    return "" if owner is None else f" (process {owner.pid} on {owner.hostname})"
