"""The machine that this runs on: its processor, and how much memory there is."""

from __future__ import annotations

import contextlib
import ctypes
import os
import platform
import sys
from pathlib import Path
from typing import Final

import psutil

__all__ = [
    "AXES_UNTIL",
    "PAIRS_UNTIL",
    "allowance",
    "available",
    "give_back",
    "machine",
    "needed_at_once",
]

# Between more images no head in memory takes all pairs.
PAIRS_UNTIL: Final = 12_000
# From here on the eigenproblem takes longer than some dozen passes over the embeddings.
AXES_UNTIL: Final = 4000


def machine() -> dict[str, str]:
    """Name processor, cores and system of this machine."""
    return {
        "processor": _processor(),
        "cores": str(os.cpu_count() or "unknown"),
        "system": f"{platform.system()} {platform.release()}, {platform.machine()}",
    }


def _processor() -> str:
    # `platform.processor` is empty on most Linux systems.
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    named = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return named[0] if named else platform.processor() or platform.machine()


_GROUP: Final = Path("/sys/fs/cgroup")


_LIMITS: Final = (_GROUP / "memory.max", _GROUP / "memory" / "memory.limit_in_bytes")


def available() -> int:
    """Give the bytes that this process may still take without swapping or being killed.

    Returns
    -------
    int
        What the system has free or can free, less if a container or ``ulimit`` allows less.
    """
    found = [int(psutil.virtual_memory().available)]
    used = psutil.Process().memory_info()
    for path in _LIMITS:
        # Absent where there is no such limit, "max" where it is not set.
        with contextlib.suppress(OSError, ValueError):
            found.append(int(path.read_text()) - used.rss)
    if sys.platform != "win32":
        import resource

        for kind, taken in ((resource.RLIMIT_AS, used.vms), (resource.RLIMIT_DATA, used.rss)):
            limit = resource.getrlimit(kind)[0]
            if limit != resource.RLIM_INFINITY:
                found.append(limit - taken)
    return max(min(found), 0)


def give_back() -> None:
    """Give memory that was freed back to the system, where the C library can: glibc keeps it.

    What XGBoost freed, some thousand small arrays, would else stay taken until the process ends.
    """
    if sys.platform.startswith("linux"):
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
        if trim is not None:
            trim(0)


def allowance(gibibytes: float | None = None) -> int:
    """Give the bytes that may still be taken.

    Parameters
    ----------
    gibibytes : float, optional
        What this process may take in all, what it has already included; as much as there is by
        default.

    Returns
    -------
    int
        At least 1.
    """
    if gibibytes is None:
        return max(available(), 1)
    return max(int(gibibytes * 2**30) - int(psutil.Process().memory_info().rss), 1)


def needed_at_once(n: int, d: int, *, folds: int, threads: int) -> int:
    """Say about how many bytes it takes to tune heads with everything in memory.

    Parameters
    ----------
    n, d : int
        Embeddings, and how long they are.
    folds, threads : int
        As many folds are worked on at the same time as there are threads for.

    Returns
    -------
    int
        For the embeddings; for XGBoost's bins, three bytes each, of two halves of the folds or of
        those that are worked on; among few, for support vectors, which may be all of them, as they
        are kept and as they are multiplied, and for tables of all pairs, of which two are kept in
        each fold and the SVM needs six more, some of them in float64; or for embeddings rotated to
        their axes, where those are fewer.
    """
    columns, at_once = n * d, min(folds, threads)
    embeddings, bins = 4 * columns, 3 * columns * max(2, at_once)
    rotated = 8 * columns * at_once if d < n and d <= AXES_UNTIL else 0
    needed = embeddings + bins + rotated
    if n <= PAIRS_UNTIL:
        needed += (2 + 4) * columns + n * n * (8 * (folds + 1) + 32 * at_once)
    return needed
