"""Several nodes of a Ray cluster on this machine, each started as on a machine of its own."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil

ROOT = Path(__file__).parents[2]


def free_port() -> int:
    """Find a port that nothing listens at."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Machines:
    """A head, which gives no cores, and nodes that come and go; close it in the end."""

    def __init__(self) -> None:
        # Names of sockets must be short.
        self._folder = Path(tempfile.mkdtemp(prefix="ray"))
        self._started: list[subprocess.Popen[bytes]] = []
        self.address = f"127.0.0.1:{free_port()}"
        port = self.address.rpartition(":")[2]
        self._start("--head", "--port", port, "--include-dashboard=false", cores=0)

    def add(self) -> psutil.Process:
        """Start a node with one core; it is killed by killing what this gives."""
        return self._start("--address", self.address, cores=1)

    def close(self) -> None:
        """Kill them all."""
        for process in reversed(self._started):
            with contextlib.suppress(psutil.NoSuchProcess):
                for child in psutil.Process(process.pid).children(recursive=True):
                    with contextlib.suppress(psutil.NoSuchProcess):
                        child.kill()
            process.kill()
            process.wait()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _start(self, *words: str, cores: int) -> psutil.Process:
        head = (
            ("--temp-dir", str(self._folder), "--disable-usage-stats") if "--head" in words else ()
        )
        command = [
            *(sys.executable, "-m", "ray.scripts.scripts", "start", "--block", *words, *head),
            *("--node-ip-address", "127.0.0.1", "--num-cpus", str(cores), "--num-gpus", "0"),
            *("--memory", str(4 * 10**9), "--object-store-memory", str(80 * 10**6)),
        ]
        log = (self._folder / f"node{len(self._started)}.log").open("wb")
        with log:
            process = subprocess.Popen(
                command,
                cwd=ROOT,
                stdout=log,
                stderr=log,
                env={**os.environ, "PYTHONPATH": str(ROOT), "RAY_USAGE_STATS_ENABLED": "0"},
            )
        self._started.append(process)
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            assert process.poll() is None, Path(log.name).read_text()
            if b"Ray runtime started" in Path(log.name).read_bytes():
                (raylet,) = (
                    child
                    for child in psutil.Process(process.pid).children()
                    if child.name() == "raylet"
                )
                return raylet
            time.sleep(0.1)
        raise AssertionError(Path(log.name).read_text())


def workers(raylet: psutil.Process) -> list[psutil.Process]:
    """Name the processes of a node that embed images."""
    return [child for child in raylet.children() if "MapWorker" in " ".join(child.cmdline())]
