"""A claim on an address: an object that its owner writes anew every few seconds."""

from __future__ import annotations

import contextlib
import json
import os
import platform
import secrets
import threading
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from features.errors import ClusterError, StorageError
from features.extraction.shards.cloud import OF_RUNS
from features.storage.objects import put_bytes, put_new, read_object, remove

__all__ = ["AddressClaim", "claimed"]

_NAME: Final = f"{OF_RUNS}lock"
_BYTES: Final = 10_000
_BEATS_OF_A_LEASE: Final = 4
# Two who write at the same moment have both written by then.
_SETTLED_SECONDS: Final = 1.0


@dataclass(frozen=True)
class _Owner:
    """Who has an address, as it is written there.

    Parameters
    ----------
    token : str
        Of this claim and no other.
    process : int
    host : str
    place : str
        Of the host, as far as its processes' numbers go: another container has others.
    time : float
        When it was written, by the owner's clock; for people, and to tell one beat from the next.
    """

    token: str
    process: int
    host: str
    place: str
    time: float


class AddressClaim:
    """What a run has of an address while it lasts.

    Parameters
    ----------
    out : Path
        The address.
    lease : float
        Seconds after which an owner who was not heard of has it no longer.
    """

    def __init__(self, out: Path, lease: float) -> None:
        self.compromise: str | None = None
        self._out, self._lease = out, lease
        self._object = str(out / _NAME)
        self._me = _Owner(
            secrets.token_hex(16), os.getpid(), platform.node(), _place(), time.time()
        )
        self._ended = threading.Event()
        self._beating = threading.Thread(target=self._beat, name="claim", daemon=True)

    def take(self) -> None:
        """Have the address from now on.

        Raises
        ------
        ClusterError
            If another run has it.
        StorageError
            If it can't be written to.
        """
        if not put_new(self._written(), self._object):
            before = self._read()
            # A request of ours whose answer was lost counts, too.
            if before is not None and before.token != self._me.token:
                self._wait_for_the_end_of(before)
            put_bytes(self._written(), self._object)
        time.sleep(_SETTLED_SECONDS)
        now = self._read()
        if now is None or now.token != self._me.token:
            raise self._refused(now)
        self._beating.start()

    def give_back(self) -> None:
        """Have it no longer."""
        self._ended.set()
        self._beating.join()
        if self.compromise is None:
            # What can't be taken away ends by itself.
            with contextlib.suppress(StorageError):
                remove(self._object)

    def _beat(self) -> None:
        heard = time.monotonic()
        while not self._ended.wait(self._lease / _BEATS_OF_A_LEASE):
            try:
                now = self._read()
                if now is None or now.token != self._me.token:
                    self.compromise = "another run has it"
                    return
                put_bytes(self._written(), self._object)
            except ClusterError as error:
                self.compromise = str(error)
                return
            except StorageError as error:
                if time.monotonic() - heard > self._lease:
                    self.compromise = str(error)
                    return
            else:
                heard = time.monotonic()

    def _wait_for_the_end_of(self, owner: _Owner) -> None:
        if owner.place == self._me.place and _is_gone(owner.process):
            return
        until = time.monotonic() + self._lease * 1.25
        while time.monotonic() < until:
            time.sleep(min(1.0, self._lease / _BEATS_OF_A_LEASE))
            now = self._read()
            if now is None:
                return
            if now != owner:
                raise self._refused(now)

    def _refused(self, owner: _Owner | None) -> ClusterError:
        who = "" if owner is None else f" (process {owner.process} on {owner.host})"
        return ClusterError(
            f"another run is at work in {self._out}{who}: wait for it, or write to another address"
        )

    def _written(self) -> bytes:
        return json.dumps({**asdict(self._me), "time": time.time()}).encode()

    def _read(self) -> _Owner | None:
        try:
            told: Any = json.loads(read_object(self._object, _BYTES).data)
            return _Owner(**told)
        except StorageError as error:
            if error.kind != "missing":
                raise
        except (ValueError, TypeError):
            raise ClusterError(
                f"{self._object} is no claim of a run: take it away if no run is at work there"
            ) from None
        return None


@contextlib.contextmanager
def claimed(out: Path, lease: float) -> Iterator[AddressClaim]:
    """Have an address to oneself; see `features.extraction.cluster.ownership.owned`."""
    claim = AddressClaim(out, lease)
    claim.take()
    try:
        yield claim
    finally:
        claim.give_back()


def _place() -> str:
    """Name what the numbers of this machine's processes belong to."""
    known = [platform.node()]
    with contextlib.suppress(OSError):
        known.append(Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip())
        known.append(os.readlink("/proc/self/ns/pid"))
    return " ".join(known)


def _is_gone(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return True
    except OSError:
        return False
    return False
