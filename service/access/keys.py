"""API keys: made once, kept only as hashes, each for what it may be used for."""

from __future__ import annotations

import hashlib
import hmac
import os
import re
import secrets
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import click

from features.errors import LesionError

__all__ = ["SCOPES", "Key", "KeyRing", "KeysError", "make_key", "make_key_command"]

SCOPES: Final = ("classify", "feedback", "metrics", "admin")
# Tells a leaked key from any other long word.
_PREFIX: Final = "lesion_"
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,63}")
_SHA256: Final = re.compile(r"[0-9a-f]{64}")


class KeysError(LesionError):
    """A file or setting of keys that can't be read."""


@dataclass(frozen=True)
class Key:
    """Somebody who may ask.

    Parameters
    ----------
    name : str
    scopes : frozenset of str
        What for; among `SCOPES`.
    sha256 : str
        Of the key itself, in hex. A key has 256 random bits: nobody finds it by trying, so that a
        hash made slow on purpose would protect nothing and cost time on every request.
    """

    name: str
    scopes: frozenset[str]
    sha256: str

    @property
    def line(self) -> str:
        """The key as it is written into the file of keys."""
        return f"{self.name}:{','.join(s for s in SCOPES if s in self.scopes)}:{self.sha256}"

    @classmethod
    def parse(cls, line: str) -> Key:
        """Read what `line` gives.

        Raises
        ------
        KeysError
            If it is of another form; the message doesn't repeat what may be a secret.
        """
        name, _, rest = line.partition(":")
        scopes, _, sha256 = rest.partition(":")
        known = frozenset(filter(None, scopes.split(",")))
        if not (_NAME.fullmatch(name) and _SHA256.fullmatch(sha256) and known):
            raise KeysError(
                "a line of the API keys is not of the form NAME:SCOPES:SHA256: "
                "write there what `python -m service key NAME` says"
            )
        if odd := sorted(known - set(SCOPES)):
            raise KeysError(
                f"the API key {name} has the scope {odd[0]!r}, expected {', '.join(SCOPES)}"
            )
        return cls(name, known, sha256)


def make_key(name: str, scopes: Iterable[str]) -> tuple[str, Key]:
    """Make a key.

    Returns
    -------
    tuple of str and Key
        The key, which can't be found out from the other, and what is kept of it.

    Raises
    ------
    KeysError
        If the name has letters that would not survive a file or a log.
    """
    if not _NAME.fullmatch(name):
        raise KeysError(
            f"got the name {name!r}, expected up to 64 letters, digits, dots, hyphens, @ and _"
        )
    key = _PREFIX + secrets.token_urlsafe(32)
    return key, Key(name, frozenset(scopes), _hashed(key))


class KeyRing:
    """The keys that are accepted.

    Parameters
    ----------
    keys : iterable of Key

    Raises
    ------
    KeysError
        If two have the same name.
    """

    def __init__(self, keys: Iterable[Key]) -> None:
        self._keys = tuple(keys)
        names = [key.name for key in self._keys]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise KeysError(f"two API keys are called {twice[0]}: give each its own name")

    def __len__(self) -> int:
        return len(self._keys)

    def __iter__(self) -> Iterator[Key]:
        return iter(self._keys)

    @classmethod
    def load(cls, file: Path | None, lines: Iterable[str]) -> KeyRing:
        """Read keys from a file and from settings.

        Raises
        ------
        KeysError
            If the file is missing or a line can't be read.
        """
        found = [*lines]
        if file is not None:
            try:
                found += file.read_text("utf-8").splitlines()
            except (OSError, UnicodeDecodeError) as error:
                raise KeysError(
                    f"the file of API keys {file} can't be read ({error}): "
                    "make it with `python -m service key NAME --file FILE`"
                ) from error
        stripped = (line.strip() for line in found)
        return cls(Key.parse(line) for line in stripped if line and not line.startswith("#"))

    def find(self, secret: str) -> Key | None:
        """Give the key that `secret` is, in a time that tells nothing about the others."""
        hashed = _hashed(secret)
        found = None
        for key in self._keys:
            if hmac.compare_digest(key.sha256, hashed):
                found = key
        return found


def _hashed(secret: str) -> str:
    return hashlib.sha256(secret.encode("utf-8", "surrogateescape")).hexdigest()


@click.command("key", context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("name")
@click.option(
    "--scope", "scopes", type=click.Choice(SCOPES), multiple=True, default=("classify",),
    show_default=True, help="What the key is for; may be given several times.",
)  # fmt: skip
@click.option(
    "--file", type=click.Path(path_type=Path), metavar="FILE",
    help="Add it to this file of keys, for --keys, instead of printing the line.",
)  # fmt: skip
def make_key_command(name: str, scopes: tuple[str, ...], file: Path | None) -> None:
    """Make an API key called NAME and print it, once: only its hash is kept."""
    key, kept = make_key(name, scopes)
    if file is None:
        click.echo(key)
        click.echo(f"Add this line to the file of --keys, or to LESION_KEY:\n{kept.line}", err=True)
        return
    existing = KeyRing.load(file, []) if file.exists() else KeyRing([])
    KeyRing([*existing, kept])
    try:
        # Only its owner can read it, from the first byte on.
        with open(file, "a", encoding="utf-8", opener=_owner_only) as lines:
            lines.write(kept.line + "\n")
    except OSError as error:
        raise KeysError(f"{file} can't be written ({error.strerror}): name another file") from error
    click.echo(key)
    click.echo(f"Added to {file}; it can't be shown again.", err=True)


def _owner_only(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)
