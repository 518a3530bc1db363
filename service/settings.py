"""What can be set, from the command line or from `LESION_*` variables: one definition for both."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import click

from features.errors import LesionError

__all__ = ["OPTIONS", "Settings", "SettingsError"]

MEBIBYTE: Final = 1024 * 1024
_SHORTEST_SECRET: Final = 16


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
        default=32,
        show_default=True,
        type=click.IntRange(1, 256),
        help="Requests worked on at the same time; more get a 503.",
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
    _option(
        "max-megapixels",
        default=50,
        show_default=True,
        type=click.IntRange(1, 89),
        help="Largest image, in millions of pixels.",
    ),
    _option(
        "max-seconds",
        default=30,
        show_default=True,
        type=click.IntRange(1, 3600),
        help="Longest that a request may wait for its turn, or take to arrive.",
    ),
    _option(
        "rate-limit",
        default="",
        metavar="N/UNIT",
        help="Most requests of one key, or address without a key: 10/second, 300/minute. "
        "[default: none]",
    ),
    _option(
        "keys",
        type=click.Path(path_type=Path),
        metavar="FILE",
        help="API keys, one a line, as `python -m service key` prints them; read again on reload.",
    ),
    _option(
        "key",
        multiple=True,
        metavar="NAME:SCOPES:HASH",
        help="An API key without a file; several as options, or separated by spaces.",
    ),
    _option(
        "insecure-open",
        is_flag=True,
        help="Answer other machines although no keys are set: anyone who reaches the port can ask.",
    ),
    _option(
        "secret",
        default="",
        metavar="TEXT",
        help="Signs cookies; the same in all workers.  [default: a new one at every start]",
    ),
    _option(
        "trusted-proxies",
        default=0,
        show_default=True,
        type=click.IntRange(0, 8),
        help="How many proxies in front set X-Forwarded-For, -Proto, -Host and -Prefix.",
    ),
    _option(
        "drain-seconds",
        default=0,
        show_default=True,
        type=click.IntRange(0, 600),
        help="How long /readyz says no before a stop closes the port.",
    ),
    _option(
        "log",
        default="text",
        show_default=True,
        type=click.Choice(["text", "json"]),
        help="text: what went wrong; json: that and every request, one object a line.",
    ),
    _option(
        "feedback",
        default="",
        metavar="PATH|URL",
        help="Where reviewers' labels are kept: an SQLite file or an SQLAlchemy address.",
    ),
    _option(
        "feedback-images",
        is_flag=True,
        help="Keep the images of reviewed cases, too.",
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
    max_megapixels : int
        Largest image, in millions of pixels.
    max_seconds : int
        Longest that a request waits for its turn, or takes to arrive.
    rate_limit : str
        Such as ``"300/minute"``; empty for none.
    keys : Path or None
        File of API keys.
    key : tuple of str
        API keys in the form of the file's lines.
    insecure_open : bool
        Whether other machines are answered without keys.
    secret : str
        Signs cookies; empty for a new one at every start.
    trusted_proxies : int
        How many proxies in front may say who asks.
    drain_seconds : int
        How long the service says that it is not ready before it stops.
    log : {"text", "json"}
    feedback : str
        Path or SQLAlchemy URL of the feedback store; empty for none.
    feedback_images : bool
        Whether images are kept with the feedback.
    """

    bundle: Path
    weights: Path | None = None
    host: str = "127.0.0.1"
    port: int = 8000
    threads: int = 32
    max_upload_mb: int = 32
    max_images: int = 32
    max_megapixels: int = 50
    max_seconds: int = 30
    rate_limit: str = ""
    keys: Path | None = None
    key: tuple[str, ...] = ()
    insecure_open: bool = False
    secret: str = field(default="", repr=False)
    trusted_proxies: int = 0
    drain_seconds: int = 0
    log: str = "text"
    feedback: str = ""
    feedback_images: bool = False

    def __post_init__(self) -> None:
        if self.secret and len(self.secret) < _SHORTEST_SECRET:
            raise SettingsError(
                f"got a --secret of {len(self.secret)} letters, expected {_SHORTEST_SECRET} or "
                "more: `openssl rand -hex 32` makes one"
            )
        if self.rate_limit:
            _require_rate(self.rate_limit)
        if self.feedback_images and not self.feedback:
            raise SettingsError(
                "--feedback-images keeps images with the feedback, but there is none: "
                "give --feedback PATH too"
            )

    @property
    def max_pixels(self) -> int:
        """Largest image in pixels."""
        return self.max_megapixels * 1_000_000

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


def _require_rate(text: str) -> None:
    from limits import parse_many

    try:
        parse_many(text)
    except ValueError as error:
        raise SettingsError(
            f"got --rate-limit {text!r}, expected a number per time such as 300/minute"
        ) from error
