"""``python -m features``: look at feature files, check them, and turn them into others."""

from __future__ import annotations

import importlib
import sys
from typing import Final

import click

from features.errors import LesionError
from features.presenting import print_anything
from features.storage.fetching import named

__all__ = ["main"]

_COMMANDS: Final = {
    "audit": "features.audit.command",
    "doctor": "features.embedding.doctor.command",
    "export": "features.cache.commands",
    "inspect": "features.cache.commands",
    "merge": "features.cache.commands",
    "networks": "features.networks.imported.commands",
    "verify": "features.cache.commands",
}


class _OnDemand(click.Group):
    """Imports a command when it is asked for, so that ``--help`` comes at once."""

    def list_commands(self, context: click.Context) -> list[str]:
        return sorted(_COMMANDS)

    def get_command(self, context: click.Context, name: str) -> click.Command | None:
        if name not in _COMMANDS:
            return None
        command = getattr(importlib.import_module(_COMMANDS[name]), name)
        return command if isinstance(command, click.Command) else None


@click.group(
    cls=_OnDemand,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
def main() -> None:
    """Look at feature files, check them, and turn them into others."""
    print_anything()


if __name__ == "__main__":
    try:
        main(prog_name="python -m features")
    except LesionError as error:
        sys.exit(f"error: {named(str(error))}")
