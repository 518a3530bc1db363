from __future__ import annotations

import os
from pathlib import Path

import psutil
import pytest

from features.embedding.doctor import machine

MINE = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({}, MINE),
        ({"cpu.max": "max 100000\n"}, MINE),
        ({"cpu.max": "50000 100000\n"}, 1),
        ({"cpu.max": "6400000 100000\n"}, MINE),
        ({"cpu/cpu.cfs_quota_us": "20000\n", "cpu/cpu.cfs_period_us": "100000\n"}, 1),
        ({"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, MINE),
    ],
)
def test_cores_are_those_that_the_container_may_use(
    tmp_path: Path, files: dict[str, str], expected: int
) -> None:
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    assert machine.cores(tmp_path) == (expected, os.cpu_count())


def test_memory_is_what_the_container_leaves(tmp_path: Path) -> None:
    total = psutil.virtual_memory().total
    assert machine.memory_free(tmp_path)[1] == total
    (tmp_path / "memory.max").write_text("max\n")
    assert machine.memory_free(tmp_path)[1] == total
    (tmp_path / "memory.max").write_text(str(300 << 20))
    (tmp_path / "memory.current").write_text(str(200 << 20))
    assert machine.memory_free(tmp_path) == (100 << 20, 300 << 20)
    (tmp_path / "memory.current").write_text(str(400 << 20))
    assert machine.memory_free(tmp_path) == (0, 300 << 20)


def test_the_disk_of_a_folder_that_is_not_there_yet(tmp_path: Path) -> None:
    there = psutil.disk_usage(str(tmp_path)).free
    assert machine.disk_free(tmp_path / "not" / "yet") == pytest.approx(there, rel=0.05)
