"""What a process of the cluster does: a shard after the other, read, decoded and embedded there."""

from __future__ import annotations

import contextlib
import json
import pickle
import time
import zlib
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from features.errors import ClusterError, LesionError
from features.extraction.cluster.nodes import Facts, differences, look
from features.extraction.cluster.sizing import Share, claim_cores
from features.extraction.job import Job
from features.extraction.shards.local import require_nothing_lost_from
from features.extraction.shards.place import place_for_process
from features.extraction.shards.planning import Shard, state_of_file
from features.extraction.shards.running import ShardBusy, ShardResult
from features.images.processes import kept_workers

__all__ = ["EXAMPLES", "MOST_DEATHS", "ShardWorker", "Tally", "as_row", "told_of"]

EXAMPLES: Final = 10
MOST_DEATHS: Final = 3
_PATIENCE_SECONDS: Final = 60.0


def as_row(shard: Shard) -> dict[str, Any]:
    """Make a row of a shard; its pixels and bytes stay where they are."""
    if shard.state is not state_of_file:
        shard = shard.with_key()
    return {"number": shard.number, "shard": zlib.compress(pickle.dumps(shard), 1)}


class Tally:
    """Keeps count, for the whole run, of what was begun and of what came of it.

    What was begun and never ended has brought its process down; Ray would try it again for ever,
    or give up the whole run. And what is told of a shard may be lost with a node, so that it is
    asked for again when it is done.
    """

    def __init__(self) -> None:
        self._deaths: Counter[str] = Counter()
        self._made: set[str] = set()

    def begin(self, what: str) -> tuple[int, bool]:
        """Tell how often that was begun without an end, and whether this run has made it."""
        before = self._deaths[what]
        self._deaths[what] += 1
        return before, what in self._made

    def end(self, what: str, *, made: bool) -> None:
        """Take note that it came to an end, and whether anything was made."""
        del self._deaths[what]
        if made:
            self._made.add(what)


class ShardWorker:
    """Does shards; Ray makes one in each of its processes.

    Parameters
    ----------
    job : Job
    share : Share
        What this process gets.
    here : Facts
        Of the machine that the run was started on; a node that joins late is compared, too.
    samples, word
        As of `features.extraction.cluster.nodes.look`.
    tally : ActorHandle of Tally
    """

    def __init__(
        self,
        job: Job,
        share: Share,
        here: Facts,
        samples: Sequence[str],
        word: Path,
        tally: Any,
    ) -> None:
        import ray

        self._ray, self._job, self._tally = ray, job, tally
        there = look(job, samples, word)
        if wrong := differences(here, there, job, samples):
            raise ClusterError(wrong[0])
        self._place = place_for_process(job.out)
        self._cores = claim_cores(share.cores)
        # For as long as this process lives.
        self._kept = contextlib.ExitStack()
        self._kept.enter_context(kept_workers())
        self._extractor = job.extractor()
        self._node = str(ray.get_runtime_context().get_node_id())
        loading = f"loading on {self._node}"
        deaths, _ = self._begin(loading)
        if deaths >= MOST_DEATHS:
            raise ClusterError(
                f"node {there.name} lost {MOST_DEATHS} processes while they loaded the network: "
                "see its memory and the logs of Ray"
            )
        self._extractor.prepare()
        self._end(loading, made=False)

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        """Do a shard, unless it is done; tell what came of it, in numbers and a few sentences."""
        shard: Shard = pickle.loads(zlib.decompress(row["shard"]))  # noqa: S301 - our own
        deaths, made = self._begin(shard.name)
        if deaths >= MOST_DEATHS:
            self._end(shard.name, made=False)
            return told_of(shard, fault=f"it brought down {MOST_DEATHS} processes in turn")
        job = self._job
        try:
            self._place.bring([shard])
            lost = require_nothing_lost_from(
                [shard], job.dataset, self._place.folder, replace=job.replace
            )
            result = self._run(shard)
        except (LesionError, OSError) as error:
            self._end(shard.name, made=False)
            return told_of(shard, fault=str(error))
        # A process that died of something else may have made it all the same.
        made = made or deaths > 0 or not result.was_done
        self._end(shard.name, made=made)
        outcome = result.outcome
        return told_of(
            shard,
            rows=result.rows,
            failures=result.failures,
            done_before=not made,
            node="" if result.was_done else self._node,
            examples=[
                f"{failure.path}: {failure.reason}"
                for failure in (outcome.failures if outcome else ())[:EXAMPLES]
            ],
            notes=[*lost, *(outcome.notes if outcome else ())],
        )

    def _run(self, shard: Shard) -> ShardResult:
        job = self._job
        # A process that Ray believes dead may be ending still, with the shard in its hands.
        until = time.monotonic() + _PATIENCE_SECONDS
        while True:
            try:
                return self._place.make(
                    shard, self._extractor, job.dataset, dtype=job.dtype, prune=job.prune
                )
            except ShardBusy:
                if time.monotonic() > until:
                    raise
                time.sleep(0.5)

    def _begin(self, what: str) -> tuple[int, bool]:
        found: tuple[int, bool] = self._ray.get(self._tally.begin.remote(what))
        return found

    def _end(self, what: str, *, made: bool) -> None:
        self._ray.get(self._tally.end.remote(what, made=made))


def told_of(shard: Shard, **more: Any) -> dict[str, Any]:
    """Make a row of what came of a shard: all have the same columns, as Ray Data wants it."""
    nothing = {
        **dict.fromkeys(("rows", "failures"), 0),
        "done_before": False,
        "fault": "",
        "node": "",
        "examples": [],
        "notes": [],
    }
    told = {"images": len(shard.items), **nothing, **more}
    return {"number": shard.number, "told": json.dumps(told)}
