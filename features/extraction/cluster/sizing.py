"""How many cores and how much memory a process of the cluster gets."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import filelock

from features.errors import ClusterError
from features.numbers import count

__all__ = ["Share", "claim_cores", "places", "share_out"]

# More cores in a process are no faster an image, and a shard takes longer the fewer they are.
_MOST_CORES: Final = 8
# Measured, see docs/scaling.md: the network and its numbers, and a decoder for each core.
_PROCESS_BYTES: Final = 1_000_000_000
_CORE_BYTES: Final = 250_000_000


@dataclass(frozen=True)
class Share:
    """What a process of the cluster gets.

    Parameters
    ----------
    cores : int
    gpus : int
        0 or 1.
    memory : int
        In bytes; what Ray sets aside for it on a node.
    """

    cores: int
    gpus: int
    memory: int


def share_out(nodes: Sequence[dict[str, Any]]) -> Share:
    """Decide on the size of a process, so that few cores are left over.

    Where there are GPUs, each has a process, and machines without are of no use.

    Parameters
    ----------
    nodes : sequence of dict
        As ``ray.nodes()`` gives them.

    Returns
    -------
    Share

    Raises
    ------
    ClusterError
        If no node is large enough.

    Examples
    --------
    >>> share_out([{"Resources": {"CPU": 12.0, "memory": 8e9}}]).cores
    6
    """
    there = [node["Resources"] for node in nodes]
    with_gpu = [each for each in there if each.get("GPU", 0) >= 1]
    cores = [int(each.get("CPU", 0) // max(1, each.get("GPU", 0))) for each in with_gpu or there]
    cores = [each for each in cores if each >= 1]
    if not cores:
        raise ClusterError(
            "the Ray cluster has no cores to give: start its nodes with --num-cpus 1 or more"
        )
    if with_gpu:
        most = min(_MOST_CORES, *cores) if len(cores) > 1 else min(_MOST_CORES, cores[0])
    else:
        # All of them, if possible; then as many together as possible.
        most = min(
            range(1, min(_MOST_CORES, max(cores)) + 1),
            key=lambda size: (sum(each % size for each in cores), -size),
        )
    share = Share(most, 1 if with_gpu else 0, _PROCESS_BYTES + most * _CORE_BYTES)
    memory = max(each.get("memory", 0) for each in with_gpu or there)
    if memory < share.memory:
        raise ClusterError(
            f"the largest node of the Ray cluster has {memory / 1e9:.1f} GB of memory to give, "
            f"a process with {count(most, 'core')} needs {share.memory / 1e9:.1f}: start nodes "
            "with more memory, or with fewer cores (--num-cpus)"
        )
    return share


def places(nodes: Sequence[dict[str, Any]], share: Share) -> int:
    """Count the processes that there is room for, at least one.

    Parameters
    ----------
    nodes : sequence of dict
        As ``ray.nodes()`` gives them.
    share : Share
        What each gets.
    """
    wanted = {"CPU": share.cores, "GPU": share.gpus, "memory": share.memory}
    there = [node["Resources"] for node in nodes]
    room = [
        min(int(each.get(name, 0) // least) for name, least in wanted.items() if least)
        for each in there
    ]
    return max(1, sum(room))


def claim_cores(wanted: int, folder: Path | None = None) -> filelock.BaseFileLock | None:
    """Keep this process, and those that it starts, to cores that no other such process has.

    Parameters
    ----------
    wanted : int
    folder : Path, optional
        Of this machine, where claims are kept; by default that for temporary files.

    Returns
    -------
    FileLock or None
        The claim, which ends with the process; None where there is nothing to share out.
    """
    if not hasattr(os, "sched_setaffinity"):
        return None
    cores = sorted(os.sched_getaffinity(0))
    place = folder or Path(tempfile.gettempdir())
    for number in range(len(cores) // wanted if wanted < len(cores) else 0):
        claim = filelock.FileLock(place / f"lesion-cores-{os.getuid()}-{number}.lock", timeout=0)
        try:
            claim.acquire()
        except filelock.Timeout:
            continue
        os.sched_setaffinity(0, cores[number * wanted : (number + 1) * wanted])
        return claim
    return None
