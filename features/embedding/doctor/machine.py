"""The machine as a process in a container sees it: cores, memory, disk."""

from __future__ import annotations

import math
import os
import platform
import re
import shutil
from pathlib import Path
from typing import Final

import psutil

__all__ = ["cores", "disk_free", "instructions", "memory_free", "processor", "readable_size"]

# What a control group, such as a container, allows; the second name of each is of version 1.
CONTROL_GROUPS: Final = Path("/sys/fs/cgroup")
_INSTRUCTIONS: Final = {
    "avx2": "AVX2",
    "avx512f": "AVX-512",
    "avx512_vnni": "VNNI",
    "avx512_bf16": "bf16",
    "amx_bf16": "AMX",
}


def cores(groups: Path = CONTROL_GROUPS) -> tuple[int, int]:
    """Count the cores that this process may use, and those of the machine.

    Parameters
    ----------
    groups : Path, optional
        Where the control group's limits are told.

    Returns
    -------
    tuple of int
        The first is the least of the process's own affinity and the group's share of time,
        rounded up.
    """
    machine = os.cpu_count() or 1
    mine = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else machine
    share = _share(groups)
    return (min(mine, max(1, math.ceil(share))) if share is not None else mine), machine


def memory_free(groups: Path = CONTROL_GROUPS) -> tuple[int, int]:
    """Give the memory in bytes that may still be taken, and that there is in all.

    Parameters
    ----------
    groups : Path, optional
        Where the control group's limits are told.
    """
    system = psutil.virtual_memory()
    limit = _number(groups / "memory.max", groups / "memory/memory.limit_in_bytes")
    used = _number(groups / "memory.current", groups / "memory/memory.usage_in_bytes")
    if limit is None or limit >= system.total:
        return int(system.available), int(system.total)
    return int(max(0, min(system.available, limit - (used or 0)))), int(limit)


def disk_free(folder: Path) -> int:
    """Give the free bytes of the disk that a folder is on, or would be on."""
    there = folder.absolute()
    while not there.is_dir() and there != there.parent:
        there = there.parent
    return shutil.disk_usage(there).free


def processor() -> str:
    """Name the processor."""
    model = re.search(r"^model name\s*: (.+)", _cpuinfo(), re.MULTILINE)
    return model[1] if model else platform.processor() or platform.machine()


def instructions() -> tuple[str, ...]:
    """Name what the processor has for matrix products."""
    found = re.search(r"^flags\s*:(.*)", _cpuinfo(), re.MULTILINE)
    flags = set(found[1].split()) if found else set()
    return tuple(name for flag, name in _INSTRUCTIONS.items() if flag in flags)


def readable_size(count: int) -> str:
    """Write a number of bytes for a person.

    Examples
    --------
    >>> readable_size(3 * 2**30)
    '3.0 GiB'
    >>> readable_size(5 * 2**20)
    '5 MiB'
    """
    return f"{count / 2**30:.1f} GiB" if count >= 2**30 else f"{count / 2**20:.0f} MiB"


def _share(groups: Path) -> float | None:
    try:
        quota, period = (groups / "cpu.max").read_text(encoding="ascii").split()
    except (OSError, ValueError):
        quota_us = _number(groups / "cpu/cpu.cfs_quota_us")
        period_us = _number(groups / "cpu/cpu.cfs_period_us")
        return quota_us / period_us if quota_us and period_us and quota_us > 0 else None
    return None if quota == "max" else int(quota) / int(period)


def _number(*places: Path) -> int | None:
    for place in places:
        # Absent where there is no such limit, "max" where it is not set.
        try:
            return int(place.read_text(encoding="ascii"))
        except (OSError, ValueError):
            continue
    return None


def _cpuinfo() -> str:
    try:
        return Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
