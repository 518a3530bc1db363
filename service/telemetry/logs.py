"""What is written down: who asked for what and what came of it, never what was in it."""

from __future__ import annotations

import json
import logging
import sys
from datetime import datetime, timezone
from typing import Any

__all__ = ["set_up"]


class _Lines(logging.Formatter):
    """One JSON object a line."""

    def format(self, record: logging.LogRecord) -> str:
        values: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, timezone.utc).isoformat(
                timespec="milliseconds"
            ),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **getattr(record, "fields", {}),
        }
        if record.exc_info:
            values["exception"] = self.formatException(record.exc_info)
        return json.dumps(values, ensure_ascii=True)


def set_up(style: str) -> None:
    """Write the log of the process to standard error.

    Parameters
    ----------
    style : {"text", "json"}
        Text holds what went wrong; JSON every request, too.
    """
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        _Lines()
        if style == "json"
        else logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s")
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    logging.getLogger("service").setLevel(logging.INFO if style == "json" else logging.WARNING)
    # A stranger's wrong token is no fault of this program.
    logging.getLogger("flask_wtf.csrf").setLevel(logging.WARNING)
    logging.getLogger("waitress.queue").setLevel(logging.ERROR)
