"""Shards whose place is in the cloud: made on this machine one by one, and put there when whole.

The feature file is put first and its mark after it, each by one request. A shard is done if its
mark is there and the object beside it has the length and the hash that the mark tells, so that two
who make the same shard at once leave one that is done or one that is made again, and no mixture.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from features.cache.shards.marks import Mark, fits, read_if_sound
from features.cache.shards.places import file_name, listed, mark_name
from features.datasets.folders import Dataset
from features.embedding.extractor import Extractor
from features.errors import CacheError, StorageError
from features.extraction.shards.local import run_shards
from features.extraction.shards.planning import Shard, state_of_file
from features.extraction.shards.running import ShardResult
from features.storage.addresses import address_of, full_name, is_remote
from features.storage.fetching import require_free_disk
from features.storage.listing import list_below, states_of
from features.storage.objects import download, look_up, put_file, require_writable
from features.storage.user_cache import user_cache

__all__ = ["CloudShards", "state_for"]


def state_for(dataset: Dataset) -> Callable[[str], str]:
    """Give what tells of a path of the data set what changes when the file does."""
    if not is_remote(dataset.root):
        return state_of_file
    root, now = full_name(dataset.root).rstrip("/"), time.time_ns()
    known: dict[str, int] = {}

    def state(path: str) -> str:
        if not known:
            names = [item.path for item in dataset.items]
            known.update(zip(names, states_of(root, names), strict=True))
        told = known[full_name(path)[len(root) + 1 :]]
        # Of what no etag is told nobody knows whether it changed: it is read again every time.
        return f"etag {told}" if told else f"not known at {now}"

    return state


class CloudShards:
    """A folder of shards at an address, and the folder on this machine in which they are made.

    That folder has the marks of all shards and the feature files of those that are being made.

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
        key = hashlib.sha256(str(self.address).rstrip("/").encode()).hexdigest()[:32]
        self.folder = user_cache("written") / key / (self.address.name or "features")
        found = list_below(place)
        self._there = set(found.names)
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._sync_marks()
        except OSError as error:
            raise StorageError(
                "unusable", f"nothing can be written in {self.folder} ({error.strerror}): fix that"
            ) from error
        marks = {mark_name(*each) for each in listed(self.folder, "json")}
        files = {file_name(*each) for each in listed(self.folder, "json")}
        if others := sorted(self._there - marks - files - self._files_without_marks()):
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
        """Bring the files of those shards here that are there and will be made anew."""
        for shard in shards:
            if not self.is_done(shard):
                self._bring(shard)

    def run(
        self,
        shards: Sequence[Shard],
        extractor: Extractor,
        dataset: Dataset,
        *,
        dtype: str | None = None,
        prune: bool = False,
        progress: Callable[[Shard, int, int], object] = lambda shard, done, total: None,
    ) -> Iterator[ShardResult]:
        """Make all shards that are not done, as `run_shards` does, and put each to the address.

        Yields
        ------
        ShardResult
            Of each shard, as soon as it is there.

        Raises
        ------
        StorageError
            If one can't be put there; what was made is kept on this machine and put there by the
            next run.
        """
        for shard in shards:
            mark = read_if_sound(self.folder, shard.number, shard.of)
            if (
                mark is not None
                and self.is_done(shard)
                and (mark.trained_on, mark.synthetic) == (extractor.trained_on, dataset.synthetic)
                and not (prune and mark.gone)
            ):
                (self.folder / file_name(shard.number, shard.of)).unlink(missing_ok=True)
                yield ShardResult(shard.number, mark.rows, mark.failures, 0.0, was_done=True)
                continue
            self._bring(shard)
            for result in run_shards(
                [shard],
                self.folder,
                extractor,
                dataset,
                dtype=dtype,
                prune=prune,
                progress=progress,
            ):
                self._put(shard)
                yield result

    def _bring(self, shard: Shard) -> None:
        name = file_name(shard.number, shard.of)
        here = self.folder / name
        if name not in self._there or here.exists():
            return
        # Twice: the file, and the one that is made from it.
        needed = 2 * look_up(str(self.address / name)).size
        require_free_disk(self.folder, needed, f"to make {shard.title} anew")
        part = here.with_name(f".{name}.part")
        download(str(self.address / name), part)
        part.replace(here)

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
        place = str(self.address / file_name(mark.number, mark.of))
        try:
            state = look_up(place)
        except StorageError as error:
            if error.kind != "missing":
                raise
            return False
        return state.size == mark.bytes and state.sha256 in ("", mark.sha256)

    def _sync_marks(self) -> None:
        """Bring the marks that are there; those of shards that never got there stay."""
        for name in sorted(self._there):
            if name.endswith(".json") and "/" not in name:
                part = self.folder / f".{name}.part"
                download(str(self.address / name), part)
                part.replace(self.folder / name)
        for number, of in listed(self.folder, "json"):
            name = mark_name(number, of)
            if name not in self._there and not (self.folder / file_name(number, of)).exists():
                # It was taken away there.
                (self.folder / name).unlink()

    def _files_without_marks(self) -> set[str]:
        """Name what a run left that was ended between a shard's two requests."""
        return {
            name
            for name in self._there
            if "/" not in name and name.startswith("shard-") and name.endswith(".h5")
        }
