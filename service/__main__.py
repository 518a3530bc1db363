"""`python -m service --bundle bundle/`: serve a bundle until told to stop."""

from __future__ import annotations

import sys
from typing import Any

import click

from features.errors import LesionError
from service.access.keys import make_key_command
from service.settings import OPTIONS, Settings


def serve(**values: Any) -> None:
    """Serve a bundle: a page for people at /, an API for programs at /api/v1/classify.

    Every option can also be given as the environment variable named beside it. Uploads stay in
    memory and are forgotten with the answer. The results are decision support, not a diagnosis.

    `python -m service key NAME` makes an API key. SIGHUP takes the bundle that is in the folder.
    """
    from service.server import run

    run(Settings(**values))


command = click.Command(
    "service",
    params=[*OPTIONS],
    callback=serve,
    help=serve.__doc__,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)


def main() -> None:
    """Run the command; whatever a user can mend is one sentence on stderr and exit code 1."""
    try:
        if sys.argv[1:2] == ["key"]:
            make_key_command.main(
                sys.argv[2:], prog_name="python -m service key", standalone_mode=False
            )
        else:
            command.main(prog_name="python -m service", standalone_mode=False)
    except click.exceptions.Abort:
        sys.exit(130)
    except click.ClickException as error:
        sys.exit(f"{error.format_message()} See `python -m service --help`.")
    except LesionError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
