"""Which way a run takes: to one feature file, to shards one after another, or on a cluster."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from features.cache.writer import require_writable
from features.datasets.folders import Dataset
from features.embedding.extractor import Extractor
from features.extraction.additions import require_nothing_lost
from features.extraction.cluster import ClusterOutcome, extract_on_cluster, require_cluster
from features.extraction.job import Job
from features.extraction.run import Outcome, extract
from features.extraction.shards.cloud import state_for
from features.extraction.shards.local import ShardPlace, require_nothing_lost_from, run_shards
from features.extraction.shards.place import place_for_shards
from features.extraction.shards.planning import into_shards
from features.extraction.shards.running import ShardResult
from features.images.processes import kept_workers
from features.storage.working_copy import WorkingCopy

__all__ = ["ShardsOutcome", "Watcher", "Way", "choose_way"]


@dataclass(frozen=True)
class ShardsOutcome:
    """What became of shards that were made one after another.

    Parameters
    ----------
    results : tuple of ShardResult
    of : int
        How many shards there are to be.
    marks : Path
        A folder of this machine with the marks of all that are done.
    """

    results: tuple[ShardResult, ...]
    of: int
    marks: Path


class Watcher(Protocol):
    """Who is told what happens on the way."""

    def update(self, done: int, total: int, of: str = "") -> None:
        """Hear that `done` of `total` images went through, of a shard or of all."""

    def note(self, text: str) -> None:
        """Hear what a person should know."""

    def shard(self, result: ShardResult, of: int) -> None:
        """Hear what became of a shard."""


class Way(Protocol):
    """A way from images to where their embeddings are kept."""

    def prepare(self) -> None:
        """Find out what would spoil the end, before the images are looked at.

        Raises
        ------
        CacheError
            If nothing could be written there, or something else lies there.
        ClusterError
            If there is no such cluster.
        StorageError
            If an address can't be read, or there is no room for a copy.
        """

    def losses(self, dataset: Dataset, *, replace: bool) -> list[str]:
        """Say what would be lost from what is there, as far as is known without the network.

        Raises
        ------
        CacheError
            If anything would be lost and that is not meant.
        """

    def run(
        self, job: Job, extractor: Extractor, watcher: Watcher
    ) -> Outcome | ShardsOutcome | ClusterOutcome:
        """Embed what is missing.

        Raises
        ------
        LesionError
            If the run can't go on; what was embedded is kept.
        """


def choose_way(
    out: Path, *, of: int | None = None, number: int | None = None, cluster: str | None = None
) -> Way:
    """Choose the way of a run; nothing is looked at yet.

    Parameters
    ----------
    out : Path
        A path or an address, of a feature file or of a folder of shards.
    of : int, optional
        How many shards to make; on a cluster there is a default, else one feature file is made.
    number : int, optional
        Of the only one of them that is to be made.
    cluster : str, optional
        As of `features.extraction.cluster.extract_on_cluster`.

    Returns
    -------
    Way
    """
    if cluster:
        return _OnCluster(out, of, cluster)
    return _InShards(out, of, number) if of else _ToOneFile(out)


class _ToOneFile:
    def __init__(self, out: Path) -> None:
        self._out = out
        self._copy: WorkingCopy | None = None

    def prepare(self) -> None:
        self._copy = WorkingCopy(self._out)
        require_writable(self._copy.path)

    def losses(self, dataset: Dataset, *, replace: bool) -> list[str]:
        there = self._copy.path if self._copy else self._out
        return require_nothing_lost(dataset, there, replace=replace)

    def run(self, job: Job, extractor: Extractor, watcher: Watcher) -> Outcome:
        copy = self._copy or WorkingCopy(self._out)
        outcome = extract(
            job.dataset,
            extractor,
            copy.path,
            dtype=job.dtype,
            prune=job.prune,
            progress=watcher.update,
        )
        copy.publish()
        return outcome


class _InShards:
    def __init__(self, out: Path, of: int, number: int | None) -> None:
        self._out, self._of, self._number = out, of, number
        self._place: ShardPlace | None = None

    def prepare(self) -> None:
        self._place = place_for_shards(self._out)

    def losses(self, dataset: Dataset, *, replace: bool) -> list[str]:
        # Which shards will be made anew is known with the network.
        return []

    def run(self, job: Job, extractor: Extractor, watcher: Watcher) -> ShardsOutcome:
        place, found = self._place or place_for_shards(self._out), job.dataset
        parts = into_shards(
            found.items,
            extractor.spec.fingerprint,
            root=found.root,
            of=self._of,
            state=state_for(found),
        )
        parts = parts if self._number is None else [parts[self._number - 1]]
        place.bring(parts)
        for loss in require_nothing_lost_from(parts, found, place.folder, replace=job.replace):
            watcher.note(loss)
        results = []
        with kept_workers():
            for result in run_shards(
                parts,
                place,
                extractor,
                found,
                dtype=job.dtype,
                prune=job.prune,
                progress=lambda part, done, total: watcher.update(done, total, part.title),
            ):
                watcher.shard(result, self._of)
                results.append(result)
        return ShardsOutcome(tuple(results), self._of, place.folder)


class _OnCluster:
    def __init__(self, out: Path, of: int | None, address: str) -> None:
        self._out, self._of, self._address = out, of, address
        self._place: ShardPlace | None = None

    def prepare(self) -> None:
        self._place = place_for_shards(self._out)
        require_cluster(self._address)

    def losses(self, dataset: Dataset, *, replace: bool) -> list[str]:
        # Every process looks at the shards that it is given.
        return []

    def run(self, job: Job, extractor: Extractor, watcher: Watcher) -> ClusterOutcome:
        return extract_on_cluster(
            job, self._address, place=self._place, of=self._of, progress=watcher.update
        )
