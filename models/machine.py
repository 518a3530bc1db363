"""What a report was made on, and with which options."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Any

__all__ = ["machine", "options_text"]


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


def options_text(options: Mapping[str, Any]) -> dict[str, str]:
    """Write the options of a command as a person gives them.

    Parameters
    ----------
    options : mapping
        Values by parameter name.

    Returns
    -------
    dict of str to str
        Of paths only the last part: folders may name people.

    Examples
    --------
    >>> options_text({"on_leak": "drop", "heads": (), "out": Path("home/me/bundle")})
    {'on-leak': 'drop', 'heads': 'default', 'out': 'bundle'}
    """
    return {name.replace("_", "-"): _written(value) for name, value in options.items()}


def _written(value: Any) -> str:
    if value is None or value == ():
        return "default"
    if isinstance(value, tuple):
        return ", ".join(map(_written, value))
    if isinstance(value, bool):
        return "yes" if value else "no"
    return value.name if isinstance(value, Path) else str(value)
