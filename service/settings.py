"""What can be set, from the command line or from `LESION_*` variables: one definition for both."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import click

from features.errors import LesionError

__all__ = ["OPTIONS", "Settings", "SettingsError"]

MEBIBYTE: Final = 1024 * 1024


class SettingsError(LesionError):
    """A setting that is missing or out of range."""


def _option(name: str, **attributes: Any) -> click.Option:
    return click.Option(
        [f"--{name}"],
        envvar=f"LESION_{name.replace('-', '_').upper()}",
        show_envvar=True,
        **attributes,
    )


OPTIONS: Final = (
    _option(
        "bundle",
        required=True,
        type=click.Path(path_type=Path),
        help="The folder that fit_classifier.py wrote.",
    ),
    _option(
        "weights",
        type=click.Path(path_type=Path),
        help="The network's weights file, for a bundle that carries none.",
    ),
    _option(
        "host",
        default="127.0.0.1",
        show_default=True,
        help="Address to listen on; 0.0.0.0 is every one of this machine's.",
    ),
    _option(
        "port",
        default=8000,
        show_default=True,
        type=click.IntRange(0, 65535),
        help="Port to listen on; 0 takes a free one.",
    ),
    _option(
        "threads",
        default=16,
        show_default=True,
        type=click.IntRange(1, 256),
        help="Requests answered at the same time; their images share passes of the network.",
    ),
    _option(
        "max-upload-mb",
        default=32,
        show_default=True,
        type=click.IntRange(1, 1024),
        help="Largest request, all its images together, in MB of 1,048,576 bytes.",
    ),
    _option(
        "max-images",
        default=32,
        show_default=True,
        type=click.IntRange(1, 256),
        help="Most images in one request.",
    ),
)


@dataclass(frozen=True)
class Settings:
    """What the service was told.

    Parameters
    ----------
    bundle : Path
        The folder that is served.
    weights : Path or None
        The network's weights file, for a bundle that carries none.
    host : str
        Address to listen on.
    port : int
        Port to listen on; 0 takes a free one.
    threads : int
        Requests answered at the same time.
    max_upload_mb : int
        Largest request in MiB.
    max_images : int
        Most images in one request.
    """

    bundle: Path
    weights: Path | None = None
    host: str = "127.0.0.1"
    port: int = 8000
    threads: int = 16
    max_upload_mb: int = 32
    max_images: int = 32

    @property
    def max_upload_bytes(self) -> int:
        """Largest request in bytes."""
        return self.max_upload_mb * MEBIBYTE

    @classmethod
    def from_environment(cls) -> Settings:
        """Read the `LESION_*` variables, for a server that calls `create_app()` by itself.

        Raises
        ------
        SettingsError
            If one is missing or out of range.
        """
        command = click.Command("service", params=[*OPTIONS])
        try:
            with command.make_context("service", []) as context:
                return cls(**context.params)
        except click.UsageError as error:
            raise SettingsError(error.format_message()) from error
