"""Shards in a folder, and shards one after another in this process."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

from features.cache.checks.seal import is_intact
from features.cache.shards.marks import read_if_sound
from features.cache.shards.places import file_name, listed
from features.datasets.folders import Dataset
from features.embedding.extractor import Extractor
from features.extraction.additions import require_nothing_lost
from features.extraction.shards.planning import Shard
from features.extraction.shards.running import ShardBusy, ShardResult, run_shard

__all__ = ["FolderShards", "ShardPlace", "require_nothing_lost_from", "run_shards"]


class ShardPlace(Protocol):
    """Where shards are to lie: a folder, or an address.

    Its `folder`, on this machine, has the marks of those that are there and the files of those
    that were brought.
    """

    @property
    def folder(self) -> Path: ...

    def bring(self, shards: Sequence[Shard]) -> None:
        """Bring the files of those shards to `folder` that are there and will be made anew."""

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
        """Make a shard, unless it is done, and bring it to its place; see `run_shard`."""


class FolderShards:
    """A folder of shards that this machine sees.

    Parameters
    ----------
    folder : Path
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def bring(self, shards: Sequence[Shard]) -> None:
        """Do nothing: all that is there is here."""

    def make(self, shard: Shard, extractor: Extractor, dataset: Dataset, **how: Any) -> ShardResult:
        """Make a shard, unless it is done; the arguments are those of `run_shard`."""
        return run_shard(shard, self.folder, extractor, dataset, **how)


def require_nothing_lost_from(
    shards: Sequence[Shard], dataset: Dataset, folder: str | Path, *, replace: bool = False
) -> list[str]:
    """Do what `require_nothing_lost` does for all shards that would be made anew.

    Parameters
    ----------
    shards : sequence of Shard
    dataset : Dataset
        What else is known of the images.
    folder : str or Path
        Where the shards lie; need not exist.
    replace : bool, optional
        Whether a loss is meant.

    Returns
    -------
    list of str
        What will be lost, in words.

    Raises
    ------
    CacheError
        If anything would be lost and that is not meant.
    """
    place = Path(folder)
    there = set(listed(place, "h5"))
    found: list[str] = []
    for shard in shards:
        file = place / file_name(shard.number, shard.of)
        mark = read_if_sound(place, shard.number, shard.of)
        if (shard.number, shard.of) not in there or (mark and mark.key == shard.key):
            continue
        try:
            intact = is_intact(file)
        except FileNotFoundError:
            # Another process has put it to its address meanwhile.
            continue
        # A damaged file lists nothing that could be lost.
        if intact:
            part = dataclasses.replace(dataset, items=shard.items)
            found += require_nothing_lost(part, file, replace=replace)
    return found


def run_shards(
    shards: Sequence[Shard],
    place: ShardPlace,
    extractor: Extractor,
    dataset: Dataset,
    *,
    dtype: str | None = None,
    prune: bool = False,
    progress: Callable[[Shard, int, int], object] = lambda shard, done, total: None,
) -> Iterator[ShardResult]:
    """Make all shards that are not done.

    One that another process is at is put off to the end, and waited for then.

    Parameters
    ----------
    shards : sequence of Shard
    place : ShardPlace
    extractor, dataset, dtype, prune
        As for `run_shard`.
    progress : callable, optional
        Told of a shard how many images of how many went through.

    Yields
    ------
    ShardResult
        Of each shard, as soon as it is done.
    """

    def made(shard: Shard, *, wait: bool) -> ShardResult:
        return place.make(
            shard,
            extractor,
            dataset,
            dtype=dtype,
            prune=prune,
            wait=wait,
            progress=lambda done, total: progress(shard, done, total),
        )

    put_off = []
    for shard in shards:
        try:
            result = made(shard, wait=False)
        except ShardBusy:
            put_off.append(shard)
            continue
        yield result
    for shard in put_off:
        yield made(shard, wait=True)
