"""A file in an archive, and which names are refused."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from features.errors import DatasetError, UnreadableImage
from features.presenting import shown

__all__ = ["MAX_BYTES", "Member", "require_harmless", "too_large"]

MAX_BYTES: Final = 1_000_000_000
_ABSOLUTE: Final = re.compile(r"[/\\]|[A-Za-z]:")


@dataclass(frozen=True)
class Member:
    """A file that a source holds.

    Parameters
    ----------
    name : str
        Relative to the source, with forward slashes.
    size : int, optional
        In bytes, where that is known without reading it.
    mtime : float, optional
        When it was last changed, in seconds since 1970, where that is known.
    """

    name: str
    size: int | None = None
    mtime: float | None = None


def require_harmless(archive: Path, name: str) -> None:
    """Refuse an archive with a name that leads out of it.

    Raises
    ------
    DatasetError
    """
    if not name or "\0" in name or ".." in re.split(r"[/\\]", name) or _ABSOLUTE.match(name):
        raise DatasetError(
            f"{archive} holds a file of the name {shown(name)!r}, which leads out of the archive: "
            "unpack it by a program that you trust, and give the folder"
        )


def too_large() -> UnreadableImage:
    """Say that a file is larger than any image."""
    limit = f"{MAX_BYTES // 10**6} MB"
    return UnreadableImage("too_large", f"the file is larger than the {limit} allowed")
