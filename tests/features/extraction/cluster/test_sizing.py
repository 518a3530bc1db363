from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from features.errors import ClusterError
from features.extraction.cluster.sizing import places, share_out
from tests.conftest import ROOT


def node(cpu: float, gpu: float = 0, memory: float = 64e9) -> dict[str, object]:
    return {"Resources": {"CPU": cpu, "GPU": gpu, "memory": memory}}


@pytest.mark.parametrize(
    ("nodes", "cores", "gpus", "room"),
    [
        ([node(1), node(1)], 1, 0, 2),
        ([node(2), node(3)], 1, 0, 5),
        ([node(16), node(64, memory=13e9)], 8, 0, 6),
        ([node(12)], 6, 0, 2),
        ([node(0), node(4)], 4, 0, 1),
        ([node(16, gpu=2), node(64)], 8, 1, 2),
        ([node(6, gpu=2), node(16, gpu=1)], 3, 1, 3),
    ],
)
def test_no_core_is_left_over_and_every_gpu_has_a_process(
    nodes: list[dict[str, object]], cores: int, gpus: int, room: int
) -> None:
    share = share_out(nodes)
    assert (share.cores, share.gpus) == (cores, gpus)
    assert places(nodes, share) == room


@pytest.mark.parametrize(
    ("nodes", "told"),
    [
        ([node(0)], "has no cores to give"),
        ([node(4, memory=1e9)], "has 1.0 GB of memory to give, a process with 4 cores needs 2.0"),
    ],
)
def test_a_cluster_that_is_too_small_is_refused(nodes: list[dict[str, object]], told: str) -> None:
    with pytest.raises(ClusterError, match=told):
        share_out(nodes)


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="Linux only")
def test_processes_on_a_machine_have_cores_of_their_own(tmp_path: Path) -> None:
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < 2:
        pytest.skip("needs two cores")
    text = (
        "import os, sys, time; from pathlib import Path\n"
        "from features.extraction.cluster.sizing import claim_cores\n"
        "claim = claim_cores(1, Path(sys.argv[1]))\n"
        "print(*os.sched_getaffinity(0), flush=True)\n"
        "sys.stdin.read()\n"
    )
    command = [sys.executable, "-c", text, str(tmp_path)]
    there = {"env": {**os.environ, "PYTHONPATH": str(ROOT)}, "text": True}
    started = [
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, **there)
        for _ in range(2)
    ]
    taken = [process.stdout.readline().split() for process in started]
    for process in started:
        process.communicate()
    assert sorted(taken) == [[str(core)] for core in cores[:2]]
