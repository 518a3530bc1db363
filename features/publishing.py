"""Files that are there whole or not at all, also after a power cut."""

from __future__ import annotations

import os
from pathlib import Path

__all__ = ["flush_folder", "publish"]


def publish(aside: Path, target: Path) -> None:
    """Rename a finished file into place so that it survives a power cut."""
    with aside.open("r+b") as written:
        os.fsync(written.fileno())
    aside.replace(target)
    flush_folder(target.parent)


def flush_folder(folder: Path) -> None:
    """Make the names in a folder survive a power cut."""
    if os.name == "posix":
        opened = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(opened)
        finally:
            os.close(opened)
