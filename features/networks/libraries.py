"""Libraries as they are wanted here: without what they do besides."""

from __future__ import annotations

import contextlib
import logging
import sys
from collections.abc import Iterator
from typing import Any

__all__ = ["import_openvino", "root_logger_kept"]


def import_openvino() -> Any:
    """Import OpenVINO without the part of it that reports its use to its makers."""
    # Its tools do without where the package is missing, and send nothing then.
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
    import openvino

    return openvino


@contextlib.contextmanager
def root_logger_kept() -> Iterator[None]:
    """Undo what a library does to the logger that all others hand on to.

    OpenVINO's converter has it pass errors alone, and after a conversion that failed leaves it so.
    """
    root = logging.getLogger()
    before = root.level, list(root.filters), list(root.handlers)
    try:
        yield
    finally:
        level, root.filters, root.handlers = before
        root.setLevel(level)
