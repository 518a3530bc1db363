"""One shard: embedded as a whole feature file, brought to its place, and marked as done.

What is being made lies in the folder `.unfinished` until it is whole. The feature file is renamed
into its place first, and its mark after it; the mark alone makes the shard done, and only if the
file is the one that it is of. A kill at any moment thus leaves a shard that is done or one that
isn't, and what was embedded of that is taken up again.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import filelock

from features.cache.checks.seal import is_intact
from features.cache.contents import Features, read_without_embeddings
from features.cache.safe_files import open_features
from features.cache.safe_files import publish as publish_here
from features.cache.shards.marks import Mark, fits, read_if_sound
from features.cache.shards.places import UNFINISHED, file_name, listed, mark_name
from features.cache.writer import explained
from features.datasets.folders import Dataset
from features.embedding.extractor import Extractor
from features.embedding.specification import ExtractorSpec
from features.errors import CacheError, CacheMismatch
from features.extraction.run import Outcome, extract
from features.extraction.shards.planning import Shard

__all__ = [
    "ShardBusy",
    "ShardResult",
    "is_done",
    "publish",
    "require_same_options",
    "run_shard",
]


class ShardBusy(CacheError):
    """A shard that another process is at."""


@dataclass(frozen=True)
class ShardResult:
    """What became of a shard.

    Parameters
    ----------
    number : int
    rows : int
        Embeddings in it.
    failures : int
        Images of it that could not be read.
    seconds : float
        What this run took for it.
    was_done : bool
        Whether there was nothing to do.
    outcome : Outcome, optional
        What the run did, image by image; None if it was done.
    """

    number: int
    rows: int
    failures: int
    seconds: float
    was_done: bool
    outcome: Outcome | None = None


def is_done(folder: str | Path, shard: Shard) -> bool:
    """Tell whether a shard needs nothing: its mark is there, of this key, and its file fits.

    Parameters
    ----------
    folder : str or Path
        Where the shards lie; need not exist.
    shard : Shard
        As it would be made now: images that have changed since give it another key.
    """
    return _mark_if_done(Path(folder), shard) is not None


def run_shard(
    shard: Shard,
    folder: str | Path,
    extractor: Extractor,
    dataset: Dataset,
    *,
    dtype: str | None = None,
    prune: bool = False,
    work: str | Path | None = None,
    wait: bool = False,
    progress: Callable[[int, int], object] = lambda done, total: None,
) -> ShardResult:
    """Make a shard, unless it is done.

    What was embedded before, in this shard as it was or by a run that was killed, is not embedded
    again.

    Parameters
    ----------
    shard : Shard
    folder : str or Path
        Where the shards lie; made if its parent exists.
    extractor : Extractor
    dataset : Dataset
        What else is known of the images; its own items are not looked at.
    dtype : {"float32", "float16"}, optional
        How embeddings are stored; by default as the other shards have them, or ``"float32"``.
    prune : bool, optional
        Drop embeddings of files that are no longer there.
    work : str or Path, optional
        A folder to work in, on a disk of this machine, instead of one within `folder`.
    wait : bool, optional
        Wait for another process that is at the same shard, instead of refusing.
    progress : callable, optional
        Told how many images of how many went through, first with zero.

    Returns
    -------
    ShardResult

    Raises
    ------
    ShardBusy
        If another process is at it.
    CacheMismatch
        If other shards in the folder were made otherwise.
    CacheError
        If anything can't be read or written.
    WeightsError
        If the weights don't fit the network.
    """
    started = time.monotonic()
    target = Path(folder)
    place = Path(work) if work is not None else target / UNFINISHED
    with explained(target, kept=False):
        (target / UNFINISHED).mkdir(parents=True, exist_ok=True)
        place.mkdir(parents=True, exist_ok=True)
    dtype = require_same_options(target, shard.of, extractor.spec, dtype)
    with _alone(target, shard, wait=wait):
        mark = _mark_if_done(target, shard)
        if mark is not None and (
            (mark.trained_on, mark.synthetic) == (extractor.trained_on, dataset.synthetic)
            and not (prune and mark.gone)
        ):
            _clear(place, shard)
            return ShardResult(
                shard.number, mark.rows, mark.failures, time.monotonic() - started, was_done=True
            )
        # Before the images are read: what changes meanwhile gives the next run another key.
        key = shard.key
        made = place / file_name(shard.number, shard.of)
        _start_from(target / made.name, made, extractor.spec)
        part = replace(dataset, items=shard.items, ignored=0, left_out=())
        outcome = extract(part, extractor, made, dtype=dtype, prune=prune, progress=progress)
        mark = _describe(made, shard, key)
        require_same_options(target, shard.of, extractor.spec, dtype)
        told = place / mark_name(shard.number, shard.of)
        with explained(target):
            told.write_text(mark.as_text(), encoding="utf-8")
            publish(made, target)
            publish(told, target)
        _clear(place, shard)
    seconds = time.monotonic() - started
    return ShardResult(shard.number, mark.rows, mark.failures, seconds, False, outcome)


def publish(finished: Path, folder: Path) -> None:
    """Bring a finished file to its place: there it is whole or not at all.

    This is the only way that shards and marks take.

    Parameters
    ----------
    finished : Path
        On a disk of this machine; gone afterwards.
    folder : Path
        Where it goes, under its own name; a file of that name is replaced in one step.

    Raises
    ------
    OSError
        If it can't be brought there; what was there is as it was.
    """
    try:
        publish_here(finished, folder / finished.name)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        aside = folder / UNFINISHED / f".{finished.name}.partial"
        try:
            shutil.copyfile(finished, aside)
            publish_here(aside, folder / finished.name)
        finally:
            aside.unlink(missing_ok=True)
    # A file that is linked to its place already is not moved by renaming it.
    finished.unlink(missing_ok=True)


def require_same_options(
    folder: str | Path, of: int, spec: ExtractorSpec, dtype: str | None = None
) -> str:
    """Refuse a run whose shards would not go with those that are there.

    Parameters
    ----------
    folder : str or Path
        Need not exist.
    of : int
        How many shards there are to be.
    spec : ExtractorSpec
        What is to make the embeddings.
    dtype : str, optional
        How they are to be stored; if not given, as the other shards have them.

    Returns
    -------
    str
        How they are to be stored.

    Raises
    ------
    CacheMismatch
        With the difference.
    """
    place = Path(folder)
    for number, others in sorted({*listed(place, "json"), *listed(place, "h5")}):
        if others != of:
            raise CacheMismatch(
                f"{place / file_name(number, others)} is one of {others} shards, and this run is "
                f"to make {of}: say {others}, or write to another folder"
            )
    for _, others in listed(place / UNFINISHED, "h5.blocks"):
        if others != of:
            raise CacheMismatch(
                f"{place / UNFINISHED} holds the start of one of {others} shards, and this run is "
                f"to make {of}: say {others}, or delete that folder"
            )
    for number, _ in listed(place, "json"):
        mark = read_if_sound(place, number, of)
        if mark is None:
            continue
        there = place / file_name(number, of)
        mark.spec.require(spec, mine=str(there), others="this run")
        if dtype not in {None, mark.dtype}:
            raise CacheMismatch(
                f"{there} holds {mark.dtype}, this run asks for {dtype}: leave --dtype out, or "
                "write to another folder"
            )
        # All others were compared with it when they were made.
        return mark.dtype
    return dtype or "float32"


def _mark_if_done(folder: Path, shard: Shard) -> Mark | None:
    mark = read_if_sound(folder, shard.number, shard.of)
    if mark is None or mark.key != shard.key:
        return None
    return mark if fits(folder / file_name(shard.number, shard.of), mark) else None


@contextlib.contextmanager
def _alone(folder: Path, shard: Shard, *, wait: bool) -> Iterator[None]:
    lock = filelock.FileLock(folder / UNFINISHED / f"{shard.name}.lock", timeout=-1 if wait else 0)
    with explained(folder, kept=False):
        try:
            lock.acquire()
        except filelock.Timeout:
            raise ShardBusy(
                f"another process is making shard {shard.number} of {shard.of} in {folder}: wait "
                "for it, or make another shard"
            ) from None
    try:
        yield
    finally:
        lock.release()


def _start_from(before: Path, made: Path, spec: ExtractorSpec) -> None:
    """Take up what is there of a shard: what a killed run had joined, or the shard as it was."""
    if made.is_file() and not is_intact(made):
        made.unlink()
    # A damaged one counts for nothing, and is replaced in the end.
    place = next((each for each in (made, before) if each.is_file() and is_intact(each)), None)
    if place is None:
        return
    with open_features(place) as file:
        read_without_embeddings(file).spec.require(spec, mine=str(place), others="this run")
    if place == before:
        try:
            os.link(before, made)
        except OSError:
            # On another disk, or one without links.
            with explained(made):
                shutil.copyfile(before, made)


def _describe(made: Path, shard: Shard, key: str) -> Mark:
    with open_features(made) as file:
        features = read_without_embeddings(file)
        rows, dtype = len(file["embeddings"]), file["embeddings"].dtype.name
    digest = hashlib.sha256()
    with made.open("rb") as content:
        while piece := content.read(1 << 22):
            digest.update(piece)
    return Mark(
        number=shard.number,
        of=shard.of,
        key=key,
        sha256=digest.hexdigest(),
        bytes=made.stat().st_size,
        extractor=features.spec.as_dict(),
        dtype=dtype,
        rows=rows,
        items=int((features.items.path != "").sum()),
        gone=int((features.items.path == "").sum()),
        failures=len(features.failures),
        images_sha256=_digest_of_images(features),
        **{
            name: getattr(features, name)
            for name in (
                *("images", "weights_path", "trained_on", "synthetic"),
                *("reader", "created", "software"),
            )
        },
    )


def _digest_of_images(features: Features) -> str:
    hashes = sorted(set(features.items.sha256.tolist()))
    return hashlib.sha256("\n".join(hashes).encode()).hexdigest()


def _clear(place: Path, shard: Shard) -> None:
    """Remove what a run that was killed after it had published left behind."""
    for name in (file_name(shard.number, shard.of), mark_name(shard.number, shard.of)):
        (place / name).unlink(missing_ok=True)
        (place / f".{name}.partial").unlink(missing_ok=True)
