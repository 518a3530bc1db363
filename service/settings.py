"""What can be set, from the command line or from `LESION_*` variables: one definition for both."""

from __future__ import annotations

from dataclasses import MISSING, dataclass, field, fields
from pathlib import Path
from typing import Any, Final

import click

from features.errors import LesionError
from features.storage.options import FILE, PLACE

__all__ = ["OPTIONS", "Settings", "SettingsError", "variable"]

MEBIBYTE: Final = 1024 * 1024
_SHORTEST_SECRET: Final = 16


class SettingsError(LesionError):
    """A setting that is missing or out of range."""


_FOLDER_OR_FILE: Final = click.Path(path_type=Path)


def _option(
    help_text: str, default: Any = MISSING, *, shown: bool = True, **attributes: Any
) -> Any:
    """Make a field of `Settings` that says all about its option and its variable."""
    if default is MISSING:
        attributes["required"] = True
    else:
        attributes["default"] = default
        attributes["show_default"] = type(default) is int or bool(default)
    metadata = {**attributes, "help": help_text}
    return field(default=default, repr=shown, metadata=metadata)


@dataclass(frozen=True)
class Settings:
    """What the service was told: each field is an option, a `LESION_*` variable, and its default.

    A field's name with hyphens is the option, in capitals behind `LESION_` the variable; what its
    `_option` says of it is what `python -m service --help` prints.
    """

    bundle: Path = _option(
        "The folder that fit_classifier.py wrote, or its address (s3://, gs://, az://, https://); "
        "#sha256=HASH behind that is the hash of its bundle.json.",
        type=PLACE,
    )
    weights: Path | None = _option(
        "The network's weights file, for a bundle that carries none.", None, type=FILE
    )
    host: str = _option(
        "Address to listen on; 0.0.0.0 is every one of this machine's.", "127.0.0.1"
    )
    port: int = _option(
        "Port to listen on; 0 takes a free one.", 8000, type=click.IntRange(0, 65535)
    )
    threads: int = _option(
        "Requests worked on at the same time; more get a 503.", 32, type=click.IntRange(1, 256)
    )
    max_upload_mb: int = _option(
        "Largest request, all its images together, in MB of 1,048,576 bytes.",
        32,
        type=click.IntRange(1, 1024),
    )
    max_images: int = _option("Most images in one request.", 32, type=click.IntRange(1, 256))
    max_megapixels: int = _option(
        "Largest image, in millions of pixels.", 50, type=click.IntRange(1, 89)
    )
    max_seconds: int = _option(
        "Longest that a request may wait for its turn, or take to arrive.",
        30,
        type=click.IntRange(1, 3600),
    )
    rate_limit: str = _option(
        "Most requests of one key, or address without a key: 10/second, 300/minute. "
        "[default: none]",
        "",
        metavar="N/UNIT",
    )
    rate_storage: str = _option(
        "Where requests are counted: in each process, or for all of them in a store such as "
        "redis://HOST:PORT.",
        "memory://",
        shown=False,
        metavar="ADDRESS",
    )
    keys: Path | None = _option(
        "API keys, one a line, as `python -m service key` prints them; read again on reload.",
        None,
        type=_FOLDER_OR_FILE,
        metavar="FILE",
    )
    key: tuple[str, ...] = _option(
        "An API key without a file; several as options, or separated by spaces.",
        (),
        multiple=True,
        metavar="NAME:SCOPES:HASH",
    )
    insecure_open: bool = _option(
        "Answer other machines although no keys are set: anyone who reaches the port can ask.",
        False,
        is_flag=True,
    )
    secret: str = _option(
        "Signs cookies; the same in all workers.  [default: a new one at every start]",
        "",
        shown=False,
        metavar="TEXT",
    )
    trusted_proxies: int = _option(
        "How many proxies in front set X-Forwarded-For, -Proto, -Host and -Prefix.",
        0,
        type=click.IntRange(0, 8),
    )
    drain_seconds: int = _option(
        "How long /readyz says no before a stop closes the port.", 0, type=click.IntRange(0, 600)
    )
    log: str = _option(
        "text: what went wrong; json: that and every request, one object a line.",
        "text",
        type=click.Choice(["text", "json"]),
    )
    feedback: str = _option(
        "Where reviewers' labels are kept: an SQLite file or an SQLAlchemy address.",
        "",
        shown=False,
        metavar="PATH|URL",
    )
    feedback_images: bool = _option("Keep the images of reviewed cases, too.", False, is_flag=True)

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


def variable(name: str) -> str:
    """Give the environment variable of a field of `Settings`."""
    return f"LESION_{name.upper()}"


OPTIONS: Final = tuple(
    click.Option(
        [f"--{each.name.replace('_', '-')}"],
        envvar=variable(each.name),
        show_envvar=True,
        **each.metadata,
    )
    for each in fields(Settings)
)


def _require_rate(text: str) -> None:
    from limits import parse_many

    try:
        parse_many(text)
    except ValueError as error:
        raise SettingsError(
            f"got --rate-limit {text!r}, expected a number per time such as 300/minute"
        ) from error
