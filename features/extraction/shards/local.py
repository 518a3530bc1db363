"""Shards one after another in this process."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from features.cache.checks.seal import is_intact
from features.cache.shards.marks import read_if_sound
from features.cache.shards.places import file_name, listed
from features.datasets.folders import Dataset
from features.embedding.extractor import Extractor
from features.extraction.additions import require_nothing_lost
from features.extraction.shards.planning import Shard
from features.extraction.shards.running import ShardBusy, ShardResult, run_shard

__all__ = ["require_nothing_lost_from", "run_shards"]


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
        # A damaged file lists nothing that could be lost.
        if is_intact(file):
            part = dataclasses.replace(dataset, items=shard.items)
            found += require_nothing_lost(part, file, replace=replace)
    return found


def run_shards(
    shards: Sequence[Shard],
    folder: str | Path,
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
    shards, folder, extractor, dataset, dtype, prune
        As for `run_shard`.
    progress : callable, optional
        Told of a shard how many images of how many went through.

    Yields
    ------
    ShardResult
        Of each shard, as soon as it is done.
    """

    def made(shard: Shard, *, wait: bool) -> ShardResult:
        return run_shard(
            shard,
            folder,
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
