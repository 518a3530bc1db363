"""Libraries as they are wanted here: without what they do besides."""

from __future__ import annotations

import sys
from typing import Any

__all__ = ["import_openvino"]


def import_openvino() -> Any:
    """Import OpenVINO without the part of it that reports its use to its makers."""
    # Its tools do without where the package is missing, and send nothing then.
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
    import openvino

    return openvino
