"""Whether a run that adds to a feature file would take something out of it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from features.cache.contents import Items, read_without_embeddings
from features.cache.safe_files import open_features
from features.datasets.folders import Dataset, Item
from features.errors import CacheError, StorageError
from features.networks.weights import file_sha256
from features.numbers import count
from features.storage.addresses import full_name, is_remote
from features.storage.listing import is_listed
from features.storage.objects import look_up

__all__ = ["require_nothing_lost"]


def require_nothing_lost(dataset: Dataset, out: str | Path, *, replace: bool = False) -> list[str]:
    """Refuse a run after which images would have lost label, split or their place in the list.

    Parameters
    ----------
    dataset : Dataset
        What is to be listed.
    out : str or Path
        The feature file, which need not exist.
    replace : bool, optional
        Whether that is meant.

    Returns
    -------
    list of str
        What will be lost, in words, and what will be otherwise than before.

    Raises
    ------
    CacheError
        If anything would be lost and that is not meant, or the file can't be read.
    """
    path = Path(out)
    if not path.is_file():
        return []
    with open_features(path) as file:
        previous = read_without_embeddings(file)
    items = previous.items.take(previous.items.path != "")
    old = [os.path.join(previous.images, name) for name in items.path.tolist()]
    root = full_name(dataset.root)
    new = {os.path.join(root, item.path): item for item in dataset.items}
    known = [new.get(full_name(place)) for place in old]
    away = [at for at, item in enumerate(known) if item is None and _is_there(old[at])]
    if away:
        _find_copies(items, known, away, new)
        away = [at for at in away if known[at] is None]
    unlabelled = [
        at for at, item in enumerate(known) if item and items.label[at] and not item.label
    ]
    unsplit = [at for at, item in enumerate(known) if item and items.split[at] and not item.split]
    apart = [at for at, item in enumerate(known) if item and items.group[at] and not item.group]
    told = [
        f"{count(len(places), 'image')} {what} (such as {items.path[places[0]]})"
        for places, what in (
            (away, "would no longer be listed although still there"),
            (unlabelled, "would lose the label"),
            (unsplit, "would lose the split"),
            (apart, "would lose the group"),
        )
        if places
    ]
    if told and not replace:
        raise CacheError(
            f"{path} lists {count(len(items), 'image')} of {previous.images or 'several folders'}, "
            f"and with this run {'; '.join(told)}: give all folders and tables together, write to "
            "another --out, or say --replace if that is meant"
        )
    return [*told, *_changed(items, known)]


def _is_there(place: str) -> bool:
    if not is_remote(place):
        return os.path.isfile(place)
    if (listed := is_listed(place)) is not None:
        return listed
    try:
        look_up(place)
    except StorageError as error:
        if error.kind in ("missing", "no_bucket"):
            return False
        raise
    return True


def _changed(items: Items, known: list[Item | None]) -> list[str]:
    """Tell of images that would have another label or split than before."""
    found = []
    for name, old in (("label", items.label), ("split", items.split)):
        new = [getattr(item, name) if item else "" for item in known]
        places = [at for at, value in enumerate(new) if value and old[at] and value != old[at]]
        if places:
            first = places[0]
            found.append(
                f"{count(len(places), 'image')} will have another {name} than before (such as "
                f"{items.path[first]}: {old[first]}, now {new[first]})"
            )
    return found


def _find_copies(
    items: Items, known: list[Item | None], away: list[int], new: Mapping[str, Item]
) -> None:
    """Find the same bytes under other names: a copy of the data set loses nothing."""
    wanted = {str(items.sha256[at]) for at in away}
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        found = {
            sha256: item
            for sha256, item in zip(pool.map(_sha256, new), new.values(), strict=True)
            if sha256 in wanted
        }
    for at in away:
        known[at] = found.get(str(items.sha256[at]))


def _sha256(path: str) -> str:
    try:
        return file_sha256(Path(path))
    except OSError:
        return ""
