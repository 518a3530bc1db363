"""A run on a cluster: shards are dealt out, done wherever there is room, and counted."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

from features.cache.shards.places import listed
from features.errors import ClusterError, LesionError
from features.extraction.cluster.connection import connected
from features.extraction.cluster.nodes import require_alike_everywhere
from features.extraction.cluster.ownership import owned
from features.extraction.cluster.sizing import Share, places, share_out
from features.extraction.cluster.word import spoken
from features.extraction.cluster.worker import EXAMPLES, ShardWorker, Tally, as_row
from features.extraction.job import Job
from features.extraction.shards.cloud import state_for
from features.extraction.shards.local import ShardPlace
from features.extraction.shards.place import place_for_shards
from features.extraction.shards.planning import Shard, into_shards, number_of_shards
from features.extraction.shards.running import require_same_options
from features.storage.addresses import is_remote

__all__ = ["ClusterOutcome", "deal_out", "extract_on_cluster"]

_SAMPLES: Final = 3
_IMAGES_OF_A_SHARD: Final = 2_000
# While a shard is done, the next one is on its way; more would keep a node that joins late idle.
_TASKS_OF_A_PROCESS: Final = 2
_LOADING_ATTEMPTS: Final = 3


@dataclass
class ClusterOutcome:
    """What became of the shards.

    Parameters
    ----------
    images, rows, failures : int
        Image files in the shards that are done, embeddings in them, and images that could not be
        read.
    done, done_before : int
        Shards that this run did, and that needed nothing.
    examples : list of str
        Some of what could not be read, and why.
    notes : list of str
        What a person should know of images that went through in this run.
    faults : dict of int to str
        By number of the shard: why it is not done.
    nodes : Counter of str
        By node, as Ray numbers them: how many shards it did in this run, as far as is known.
    lost : int
        Nodes that were there in the beginning and not in the end.
    """

    images: int = 0
    rows: int = 0
    failures: int = 0
    done: int = 0
    done_before: int = 0
    examples: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    faults: dict[int, str] = field(default_factory=dict)
    nodes: Counter[str] = field(default_factory=Counter)
    lost: int = 0


def extract_on_cluster(
    job: Job,
    address: str,
    *,
    place: ShardPlace | None = None,
    of: int | None = None,
    progress: Callable[[int, int], object] = lambda done, total: None,
) -> ClusterOutcome:
    """Extract a data set on all nodes of a Ray cluster.

    Shards that are done are left as they are. Their place holds all that there is to know, so that
    a run that was killed, on whatever machine, is taken up by running it again.

    Parameters
    ----------
    job : Job
    address : str
        As of `features.extraction.cluster.connection.connected`.
    place : ShardPlace, optional
        That of ``job.out``, if it was looked at already.
    of : int, optional
        How many shards; by default as many as are there, or one for some 2,000 images.
    progress : callable, optional
        Told after every shard how many images of how many went through; those of shards that
        were done are in neither.

    Returns
    -------
    ClusterOutcome
        With a fault for every shard that could not be done; the others are.

    Raises
    ------
    ClusterError
        If there is no such cluster, its nodes are not alike, another run has the place, or
        the run can't go on.
    CacheError
        If the place holds something else, or shards that would not go with these.
    StorageError
        If an address can't be read or written to.
    """
    # Nodes have other working folders.
    dataset, root, out = job.dataset, _everywhere(job.dataset.root), _everywhere(job.out)
    job = replace(job, dataset=replace(dataset, root=root, items=(), left_out=()), out=out)
    here = (place or place_for_shards(out)).folder
    there = {number for _, number in (*listed(here, "json"), *listed(here, "h5"))}
    if of is None:
        of = max(there, default=number_of_shards(len(dataset.items), _IMAGES_OF_A_SHARD))
    require_same_options(here, of, job.spec, job.dtype)
    shards = into_shards(
        dataset.items, job.spec.fingerprint, root=root, of=of, state=state_for(dataset)
    )
    samples = _samples(shards)
    with connected(address) as ray, owned(job.out) as claim, spoken(job.out) as word:
        facts = require_alike_everywhere(ray, job, samples, word)
        nodes = [node for node in ray.nodes() if node["Alive"]]
        share = share_out(nodes)
        outcome = ClusterOutcome()
        total, through = sum(len(shard.items) for shard in shards), 0
        progress(0, total)
        for number, told in deal_out(
            ray, shards, share, places(nodes, share), (job, share, facts, samples, word)
        ):
            if claim.compromise is not None:
                raise ClusterError(
                    f"this run lost {job.out} to another one, as after a pause of this machine: "
                    "what was done is kept; run the same command again when the other has ended"
                )
            if told["done_before"]:
                total -= told["images"]
            elif not told["fault"]:
                through += told["images"]
            _count(outcome, number, told)
            progress(through, total)
        still = {node["NodeID"] for node in ray.nodes() if node["Alive"]}
        outcome.lost = len({node["NodeID"] for node in nodes} - still)
    return outcome


def deal_out(
    ray: Any,
    shards: Sequence[Shard],
    share: Share,
    room: int,
    given: tuple[Any, ...],
    worker: type[Callable[[dict[str, Any]], dict[str, Any]]] = ShardWorker,
) -> Iterator[tuple[int, dict[str, Any]]]:
    """Have shards done wherever there is room.

    Parameters
    ----------
    ray : module
        Connected.
    shards : sequence of Shard
    share : Share
        What a process gets.
    room : int
        For how many of them there is room now; more are made where nodes join.
    given : tuple
        What `worker` is made with, besides the tally that comes last.
    worker : type, optional
        What does a shard, as `ShardWorker` does.

    Yields
    ------
    tuple of int and dict
        What came of each shard, once, as they are done.

    Raises
    ------
    ClusterError
        If the run can't go on.
    """
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    context.max_errored_blocks = 0
    context.max_consecutive_actor_init_deaths = _LOADING_ATTEMPTS
    mine = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    tally = ray.remote(num_cpus=0, scheduling_strategy=mine)(Tally).remote()
    rows = ray.data.from_items([as_row(shard) for shard in shards], override_num_blocks=len(shards))
    results = rows.map(
        worker,
        fn_constructor_args=(*given, tally),
        compute=ray.data.ActorPoolStrategy(
            min_size=1,
            # More than there is room for now: a node that joins late is used.
            max_size=len(shards),
            initial_size=min(room, len(shards)),
            max_tasks_in_flight_per_actor=_TASKS_OF_A_PROCESS,
        ),
        num_cpus=share.cores,
        num_gpus=share.gpus,
        memory=share.memory,
    )
    seen: set[int] = set()
    try:
        for batch in results.iter_batches(batch_size=None, prefetch_batches=0):
            for number, told in zip(batch["number"].tolist(), batch["told"], strict=True):
                # What a node had in memory when it was lost is made again, and told again.
                if number not in seen:
                    seen.add(number)
                    yield number, json.loads(told)
    except ray.exceptions.RayError as error:
        raise _plain(error) from error
    if missing := sorted({shard.number for shard in shards} - seen):
        raise ClusterError(
            f"Ray ended without a word of {len(missing)} shards (such as {missing[0]}): "
            "run the same command again"
        )


def _plain(error: BaseException) -> LesionError:
    """Find the sentence within what Ray wraps around it."""
    at: BaseException | None = error
    while at is not None:
        cause = getattr(at, "cause", None)
        if isinstance(at, LesionError):
            return at
        at = cause if isinstance(cause, BaseException) else at.__cause__
    told = str(error).strip().splitlines()[-1].strip()[:300]
    return ClusterError(
        f"the cluster can't go on ({type(error).__name__}: {told}): what was done is kept; "
        "see Ray's logs, and run the same command again"
    )


def _count(outcome: ClusterOutcome, number: int, told: dict[str, Any]) -> None:
    if told["fault"]:
        outcome.faults[number] = told["fault"]
        return
    for name in ("images", "rows", "failures"):
        setattr(outcome, name, getattr(outcome, name) + told[name])
    if told["node"]:
        outcome.nodes[told["node"]] += 1
    outcome.done += not told["done_before"]
    outcome.done_before += told["done_before"]
    outcome.examples += told["examples"][: EXAMPLES - len(outcome.examples)]
    outcome.notes += told["notes"]


def _everywhere(place: Path) -> Path:
    return place if is_remote(place) else place.resolve()


def _samples(shards: Sequence[Shard]) -> tuple[str, ...]:
    some = (shard.items[0].path for shard in shards if shard.items)
    return tuple(path for path, _ in zip(some, range(_SAMPLES), strict=False))
