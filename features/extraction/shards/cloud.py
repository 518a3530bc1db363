"""Shards whose place is in the cloud: made on this machine one by one, and put there when whole.

The feature file is put first and its mark after it, each by one request. A shard is done if its
mark is there and the object beside it has the length and the hash that the mark tells, so that two
who make the same shard at once leave one that is done or one that is made again, and no mixture.
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import os
import platform
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

import filelock

from features.cache.shards.marks import Mark, fits, read_if_sound
from features.cache.shards.places import UNFINISHED, file_name, is_shard_file, listed, mark_name
from features.datasets.folders import Dataset
from features.embedding.extractor import Extractor
from features.errors import CacheError, StorageError
from features.extraction.shards.planning import Shard, state_of_file
from features.extraction.shards.running import ShardBusy, ShardResult, run_shard
from features.images.sources.remote import is_archive
from features.storage.addresses import Address, address_of, full_name, is_remote
from features.storage.fetching import require_free_disk
from features.storage.listing import learn, list_below, states_of
from features.storage.objects import (
    State,
    download,
    look_up,
    put_file,
    read_object,
    require_writable,
)
from features.storage.user_cache import user_cache

__all__ = ["OF_RUNS", "CloudShards", "CloudShardsOfProcess", "state_for"]

# What runs on a cluster leave beside the shards while they last begins like this.
OF_RUNS: Final = ".cluster."
_AT_ONCE: Final = 16
_MARK_BYTES: Final = 10**7


def state_for(dataset: Dataset) -> Callable[[str], str]:
    """Give what tells of a path of the data set what changes when the file does."""
    if not is_remote(dataset.root):
        return state_of_file
    root, now = full_name(dataset.root).rstrip("/"), time.time_ns()
    known: dict[str, int] = {}

    def state(path: str) -> str:
        if not known:
            # What is in an archive changes with it.
            places = list(dict.fromkeys(_object(f"{root}/{item.path}") for item in dataset.items))
            top = root if places[0].startswith(f"{root}/") else root.rpartition("/")[0]
            names = [place[len(top) + 1 :] for place in places]
            learn(top, names)
            known.update(zip(places, states_of(top, names), strict=True))
        told = known[_object(full_name(path))]
        # Of what no etag is told nobody knows whether it changed: it is read again every time.
        return f"etag {told}" if told else f"not known at {now}"

    return state


def _object(place: str) -> str:
    """Give the address of what a file lies in: its own, or that of the archive."""
    parts = place.split("/")
    for end in range(4, len(parts)):
        if is_archive(parts[end - 1]):
            return "/".join(parts[:end])
    return place


class CloudShards:
    """A folder of shards at an address, and the folder on this machine in which they are made.

    That folder has marks of shards and the feature files of those that are being made.

    Parameters
    ----------
    place : Path
        The address.

    Raises
    ------
    StorageError
        If it can't be listed or read, or there is no room on this machine.
    CacheError
        If something else lies there.
    """

    def __init__(self, place: Path) -> None:
        self.address = address_of(place)
        require_writable(self.address)
        self.folder = _working_folder(self.address) / (self.address.name or "features")
        found = list_below(place)
        self._there = set(found.names)
        with _here(self.folder):
            (self.folder / UNFINISHED).mkdir(parents=True, exist_ok=True)
            self._sync_marks()
        known = {name for name in self._there if is_shard_file(name) or name.startswith(OF_RUNS)}
        if others := sorted(self._there - known):
            raise CacheError(
                f"{self.address} holds other files (such as {others[0]}) beside or instead of "
                "shards: choose a folder of their own for them"
            )

    def is_done(self, shard: Shard) -> bool:
        """Tell whether a shard needs nothing: its mark is there, of this key, and its file fits."""
        mark = read_if_sound(self.folder, shard.number, shard.of)
        return (
            mark is not None
            and mark_name(shard.number, shard.of) in self._there
            and mark.key == shard.key
            and self._fits(mark)
        )

    def bring(self, shards: Sequence[Shard]) -> None:
        """Bring the files of those shards here that are there and will be made anew.

        One that another process of this machine is making is left to it.
        """
        for shard in shards:
            if not self.is_done(shard):
                with contextlib.suppress(ShardBusy), self._alone(shard):
                    self._bring(shard)

    def make(
        self,
        shard: Shard,
        extractor: Extractor,
        dataset: Dataset,
        *,
        dtype: str | None = None,
        prune: bool = False,
        wait: bool = False,
        progress: Callable[[int, int], object] = lambda done, total: None,
    ) -> ShardResult:
        """Make a shard, unless it is done, as `run_shard` does, and put it to the address.

        Raises
        ------
        StorageError
            If it can't be put there; what was made is kept on this machine and put there by the
            next run.
        """
        mark = read_if_sound(self.folder, shard.number, shard.of)
        if mark is not None and self._needs_nothing(mark, shard, extractor, dataset, prune):
            return self._done(shard, mark)
        with self._alone(shard, wait=wait):
            # What another process of this machine did since.
            self._look(shard)
            mark = read_if_sound(self.folder, shard.number, shard.of)
            if mark is not None and self._needs_nothing(mark, shard, extractor, dataset, prune):
                return self._done(shard, mark)
            self._bring(shard)
            result = run_shard(
                shard,
                self.folder,
                extractor,
                dataset,
                dtype=dtype,
                prune=prune,
                wait=wait,
                progress=progress,
            )
            self._put(shard)
        return result

    def _needs_nothing(
        self, mark: Mark, shard: Shard, extractor: Extractor, dataset: Dataset, prune: bool
    ) -> bool:
        return (
            self.is_done(shard)
            and (mark.trained_on, mark.synthetic) == (extractor.trained_on, dataset.synthetic)
            and not (prune and mark.gone)
        )

    def _done(self, shard: Shard, mark: Mark) -> ShardResult:
        left = self.folder / file_name(shard.number, shard.of)
        if left.exists():
            with contextlib.suppress(ShardBusy), self._alone(shard):
                left.unlink(missing_ok=True)
        return ShardResult(shard.number, mark.rows, mark.failures, 0.0, was_done=True)

    @contextlib.contextmanager
    def _alone(self, shard: Shard, *, wait: bool = False) -> Iterator[None]:
        """Keep other processes of this machine, which share the folder, from a shard."""
        with self._locked(shard.name, wait=wait) as mine:
            if not mine:
                raise ShardBusy(
                    f"another process is making shard {shard.number} of {shard.of} for "
                    f"{self.address}: wait for it, or make another shard"
                )
            yield

    @contextlib.contextmanager
    def _locked(self, name: str, *, wait: bool = False) -> Iterator[bool]:
        lock = filelock.FileLock(
            self.folder / UNFINISHED / f"{name}.put.lock",
            timeout=-1 if wait else 0,
        )
        with _here(self.folder):
            try:
                lock.acquire()
            except filelock.Timeout:
                yield False
                return
        try:
            yield True
        finally:
            lock.release()

    def _look(self, shard: Shard) -> None:
        """See what is there of a shard now; bring its mark."""
        file, told = file_name(shard.number, shard.of), mark_name(shard.number, shard.of)
        self._there -= {file, told}
        if _state(self.address / file) is not None:
            self._there.add(file)
        try:
            found = read_object(str(self.address / told), _MARK_BYTES).data
        except StorageError as error:
            if error.kind != "missing":
                raise
            return
        self._there.add(told)
        here = self.folder / told
        if here.is_file() and here.read_bytes() == found:
            return
        mine = read_if_sound(self.folder, shard.number, shard.of)
        if mine is not None and mine.key == shard.key and fits(self.folder / file, mine):
            # Made here of the images as they are, and never put: it is put now.
            return
        # Made elsewhere since: what an earlier run has of it here is older.
        (self.folder / file).unlink(missing_ok=True)
        part = here.with_name(f".{told}.{os.getpid()}.part")
        part.write_bytes(found)
        part.replace(here)

    def _bring(self, shard: Shard) -> None:
        name = file_name(shard.number, shard.of)
        here = self.folder / name
        if name not in self._there or here.exists():
            return
        # Twice: the file, and the one that is made from it.
        needed = 2 * look_up(str(self.address / name)).size
        require_free_disk(self.folder, needed, f"to make {shard.title} anew")
        self._fetch(name)

    def _fetch(self, name: str) -> None:
        # Another process of this machine may be at it, too.
        part = self.folder / f".{name}.{os.getpid()}.part"
        try:
            download(str(self.address / name), part)
            part.replace(self.folder / name)
        finally:
            part.unlink(missing_ok=True)

    def _put(self, shard: Shard) -> None:
        mark = read_if_sound(self.folder, shard.number, shard.of)
        file = self.folder / file_name(shard.number, shard.of)
        told = self.folder / mark_name(shard.number, shard.of)
        if mark is None or not fits(file, mark):
            raise CacheError(f"{file} is not as it was made: run the same command again")
        try:
            put_file(file, str(self.address / file.name), sha256=mark.sha256)
            put_file(told, str(self.address / told.name))
        except StorageError as error:
            raise StorageError(
                error.kind,
                f"{error}; what was made is in {self.folder}, and is put next time",
            ) from error
        if not self._fits(mark):
            raise CacheError(
                f"{self.address / file.name} was replaced by another run at the same moment: run "
                "the same command again, which embeds nothing twice"
            )
        self._there |= {file.name, told.name}
        # The disk need not hold all shards.
        file.unlink()

    def _fits(self, mark: Mark) -> bool:
        state = _state(self.address / file_name(mark.number, mark.of))
        return state is not None and state.size == mark.bytes and state.sha256 in ("", mark.sha256)

    def _sync_marks(self) -> None:
        """Bring the marks that are there; those of shards that never got there stay."""
        wanted = sorted(
            name for name in self._there if is_shard_file(name) and name.endswith(".json")
        )
        with ThreadPoolExecutor(_AT_ONCE, "marks") as pool:
            list(pool.map(self._sync, wanted))
        for number, of in listed(self.folder, "json"):
            if mark_name(number, of) not in self._there:
                self._forget(number, of)

    def _sync(self, name: str) -> None:
        shard = name.removesuffix(".json")
        with self._locked(shard) as mine:
            # Of one that another process is making, the mark here may be newer than that there.
            if mine and not (self.folder / f"{shard}.h5").exists():
                self._fetch(name)

    def _forget(self, number: int, of: int) -> None:
        name = mark_name(number, of)
        with self._locked(name.removesuffix(".json")) as mine:
            if not mine or (self.folder / file_name(number, of)).exists():
                return
            # It was taken away there, or else put after the listing.
            if _state(self.address / name) is None:
                (self.folder / name).unlink(missing_ok=True)


class CloudShardsOfProcess(CloudShards):
    """The same for one of many processes, on whatever machine, that are given shards one by one.

    Nothing is listed: `bring` asks for the shard at hand and no other, so that a shard that a
    process has made meanwhile which is gone now is found done. Each process has a working folder of
    its own, which the next one takes up when it has ended.

    Parameters
    ----------
    place : Path
        The address.
    """

    def __init__(self, place: Path) -> None:
        self.address = address_of(place)
        require_writable(self.address)
        self._there = set()
        folder = _working_folder(self.address)
        with _here(folder):
            folder.mkdir(parents=True, exist_ok=True)
            # Home folders may be shared by machines, and so this one's name is in it.
            self._claim, mine = next(
                (claim, name)
                for name in (f"{platform.node()}-{number}" for number in itertools.count(1))
                if (claim := _claimed(folder / f"{name}.lock")) is not None
            )
            self.folder = folder / mine / (self.address.name or "features")
            (self.folder / UNFINISHED).mkdir(parents=True, exist_ok=True)

    def bring(self, shards: Sequence[Shard]) -> None:
        """Bring marks of shards, and the files of those that will be made anew."""
        with _here(self.folder):
            for shard in shards:
                self._look(shard)
        super().bring(shards)


def _working_folder(address: Address) -> Path:
    key = hashlib.sha256(str(address).rstrip("/").encode()).hexdigest()[:32]
    return user_cache("written") / key


def _claimed(lock: Path) -> filelock.BaseFileLock | None:
    claim = filelock.FileLock(lock, timeout=0)
    try:
        claim.acquire()
    except filelock.Timeout:
        return None
    return claim


def _state(address: Address) -> State | None:
    try:
        return look_up(str(address))
    except StorageError as error:
        if error.kind != "missing":
            raise
    return None


@contextlib.contextmanager
def _here(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise StorageError(
            "unusable", f"nothing can be written in {folder} ({error.strerror}): fix that"
        ) from error
