"""The place of shards, whether a folder or an address."""

from __future__ import annotations

from pathlib import Path

from features.cache.shards.places import require_place_for_shards
from features.extraction.shards.cloud import CloudShards, CloudShardsOfProcess
from features.extraction.shards.local import FolderShards, ShardPlace
from features.storage.addresses import is_remote

__all__ = ["place_for_process", "place_for_shards"]


def place_for_shards(out: Path) -> ShardPlace:
    """Look at the place that shards are to go to.

    Parameters
    ----------
    out : Path
        A folder, made if its parent exists, or an address.

    Returns
    -------
    ShardPlace

    Raises
    ------
    CacheError
        If they could not be written there, or something else lies there.
    StorageError
        If the address can't be read.
    """
    place: ShardPlace = CloudShards(out) if is_remote(out) else FolderShards(out)
    require_place_for_shards(place.folder)
    return place


def place_for_process(out: Path) -> ShardPlace:
    """Give that place to one of many processes, on whatever machine, without a look at it."""
    return CloudShardsOfProcess(out) if is_remote(out) else FolderShards(out)
