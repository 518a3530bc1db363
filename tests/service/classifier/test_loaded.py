from __future__ import annotations

import subprocess
import sys

import pytest

from tests.conftest import ROOT

MANY_THREADS_ALLOCATE = r"""
import re, threading
from pathlib import Path
import numpy as np
from service.classifier.loaded import LoadedClassifier
from service.settings import Settings

LoadedClassifier(Settings(bundle=Path("none")))

def memory():
    return int(re.findall(r"VmRSS:\s+(\d+)", Path("/proc/self/status").read_text())[0]) / 1e3

before, kept, meet = memory(), [], threading.Barrier(24)

def work():
    meet.wait()
    for _ in range(3):
        maps = [np.ones(220_000) for _ in range(8)]
        kept.append(bytes(2000))
        del maps
    meet.wait()

threads = [threading.Thread(target=work) for _ in range(24)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
print(memory() - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="heaps are those of glibc")
def test_threads_give_back_the_memory_that_maps_took() -> None:
    done = subprocess.run(
        [sys.executable, "-c", MANY_THREADS_ALLOCATE],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    # Some 280 MB with a heap for each thread.
    assert float(done.stdout) < 160
