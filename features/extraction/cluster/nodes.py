"""What every node must have, looked for before the first image."""

from __future__ import annotations

import hashlib
import os
import platform
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Final

import features
from features.embedding.specification import ExtractorSpec
from features.errors import ClusterError, LesionError, StorageError
from features.extraction.cluster.word import hear
from features.extraction.job import Job
from features.extraction.shards.planning import state_of_file
from features.storage.addresses import is_remote
from features.storage.listing import told
from features.storage.objects import look_up

__all__ = ["Facts", "differences", "look", "require_alike_everywhere"]

_ANSWER_SECONDS: Final = 120.0


@dataclass(frozen=True)
class Facts:
    """What a machine has, of all that must be the same on each.

    Parameters
    ----------
    name : str
        Of the machine.
    python : str
    code : str
        Hash (hex) of this program's source.
    extractor : ExtractorSpec or str
        What the options come to there, or why they come to nothing.
    states : tuple of str
        What is seen of some of the images; see `features.extraction.shards.planning`.
    word : str
        What the run wrote to where the shards go, as it is read there.
    fault : str
        Why the store of images or shards can't be used there; empty if it can.
    """

    name: str
    python: str
    code: str
    extractor: ExtractorSpec | str
    states: tuple[str, ...]
    word: str
    fault: str = ""


def look(job: Job, samples: Sequence[str], word: Path) -> Facts:
    """See what this machine has.

    Parameters
    ----------
    job : Job
    samples : sequence of str
        Some images, relative to ``job.dataset.root``.
    word : Path
        See `features.extraction.cluster.word`.
    """
    try:
        extractor: ExtractorSpec | str = job.extractor().spec
    except LesionError as error:
        extractor = str(error)
    written, fault = "", ""
    states: tuple[str, ...] = ("",) * len(samples)
    try:
        written = hear(word)
        states = tuple(_state(os.path.join(job.dataset.root, sample)) for sample in samples)
    except StorageError as error:
        fault = str(error)
    return Facts(
        platform.node(),
        platform.python_version(),
        source_sha256(),
        extractor,
        states,
        written,
        fault,
    )


def _state(place: str) -> str:
    if not is_remote(place):
        return state_of_file(place)
    try:
        return f"etag {told(look_up(place))}"
    except StorageError as error:
        if error.kind != "missing":
            raise
    return ""


@cache
def source_sha256() -> str:
    """Hash this program's source, as far as extraction goes."""
    digest = hashlib.sha256()
    top = Path(features.__file__).parent
    for path in sorted(top.rglob("*.py")):
        digest.update(f"{path.relative_to(top)}\n".encode() + path.read_bytes())
    return digest.hexdigest()


def differences(here: Facts, there: Facts, job: Job, samples: Sequence[str]) -> list[str]:
    """Say what another machine has otherwise than this one.

    Parameters
    ----------
    here, there : Facts
    job : Job
    samples : sequence of str
        What `look` was asked for.

    Returns
    -------
    list of str
        A sentence each; nothing if all is well.
    """
    node = f"node {there.name}"
    if there.code != here.code:
        return [
            f"{node} has another version of this program ({there.code[:12]} instead of "
            f"{here.code[:12]}): install the same one on every node"
        ]
    found = []
    if there.python != here.python:
        found.append(
            f"{node} has Python {there.python} instead of {here.python}: "
            "install the same one on every node"
        )
    if isinstance(there.extractor, str):
        found.append(f"{node} has no such network: {there.extractor}")
    elif isinstance(here.extractor, ExtractorSpec) and there.extractor != here.extractor:
        try:
            here.extractor.require(there.extractor, mine="this run", others=node)
        except LesionError as error:
            found.append(str(error).rpartition(": ")[0] + ": put the same weights on every node")
    if there.fault:
        return [*found, f"{node} can't use the store: {there.fault}"]
    if there.word != here.word:
        found.append(
            f"{node} does not see what is written to {job.out}: give an --out on storage that "
            "all nodes share, at the same place"
        )
    for sample, mine, others in zip(samples, here.states, there.states, strict=True):
        if mine != others:
            seen = "sees another file" if others else "sees no file"
            place = os.path.join(job.dataset.root, sample)
            found.append(
                f"{node} {seen} at {place}: put the images on storage that all nodes share, at the "
                "same place"
            )
            break
    return found


def require_alike_everywhere(ray: Any, job: Job, samples: Sequence[str], word: Path) -> Facts:
    """Look at every node of the cluster, and refuse to begin where one is not as it must be.

    Parameters
    ----------
    ray : module
        Connected.
    job : Job
    samples : sequence of str
        Some images.
    word : Path
        See `features.extraction.cluster.word`.

    Returns
    -------
    Facts
        Of this machine.

    Raises
    ------
    ClusterError
        With a sentence for each difference.
    """
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    here = look(job, samples, word)
    if isinstance(here.extractor, str):
        raise ClusterError(here.extractor)
    if here.fault:
        raise ClusterError(here.fault)
    probe = ray.remote(num_cpus=0, max_retries=1)(look)
    asked = {}
    for node in ray.nodes():
        if node["Alive"] and node["Resources"].get("CPU", 0) >= 1:
            where = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
            ref = probe.options(scheduling_strategy=where).remote(job, samples, word)
            asked[ref] = f"{node['NodeManagerHostname']} ({node['NodeManagerAddress']})"
    answered, silent = ray.wait(list(asked), num_returns=len(asked), timeout=_ANSWER_SECONDS)
    wrong = [
        f"node {asked[ref]} did not answer within {_ANSWER_SECONDS:g} seconds" for ref in silent
    ]
    for ref in answered:
        try:
            wrong += differences(here, ray.get(ref), job, samples)
        except (ray.exceptions.TaskUnschedulableError, ray.exceptions.NodeDiedError):
            # It is lost, and Ray did not know yet.
            continue
        except ray.exceptions.RayError as error:
            last = str(error).strip().splitlines()[-1][:200]
            wrong.append(
                f"node {asked[ref]} can't run this program ({last}): "
                "install it there as here, with pip install '.[cluster]'"
            )
    if wrong:
        raise ClusterError("\n".join(dict.fromkeys(wrong)))
    return here
