"""One thing that was looked at, and what to do about it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

__all__ = ["Finding", "State"]

State = Literal["ok", "missing", "optional"]


@dataclass(frozen=True)
class Finding:
    """What was found of one thing.

    Parameters
    ----------
    topic, name : str
        Such as ``"extras"`` and ``"DICOM"``.
    value : str
        What was found, for a person.
    state : {"ok", "missing", "optional"}
        ``"missing"`` if nothing can be extracted without it, ``"optional"`` if something can't.
    mend : str
        How to get it; empty if it is there.
    """

    topic: str
    name: str
    value: str
    state: State = "ok"
    mend: str = ""
