"""One run at a time on a folder, whatever machines the runs are on."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import filelock

from features.errors import ClusterError

__all__ = ["owned"]

_LOCK: Final = ".cluster.lock"
_LEASE_SECONDS: Final = 20.0
_GLANCE_SECONDS: Final = 1.0


@contextlib.contextmanager
def owned(folder: Path, lease: float = _LEASE_SECONDS) -> Iterator[filelock.SoftFileLease]:
    """Have a folder to oneself.

    The claim is a file that its owner touches every few seconds, and so needs no locks of the file
    system, which shared folders often lack. An owner that was killed is recognised at once on the
    same machine, and from elsewhere by a lease of its file going by untouched, on the clock of
    who waits for it. Should two runs write all the same, shards stay whole: each is written
    aside under a name of its own and renamed.

    Parameters
    ----------
    folder : Path
        It is made if it does not exist.
    lease : float, optional
        Seconds.

    Yields
    ------
    filelock.SoftFileLease
        Its ``compromise`` is set if the claim was lost, as after a pause of this machine.

    Raises
    ------
    ClusterError
        If another run has the folder, or it can't be written to.
    """
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
