"""Addresses in the cloud: told from paths, and never with a secret in them."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from features.errors import StorageError

__all__ = [
    "SCHEMES",
    "Address",
    "RemotePath",
    "address_of",
    "as_place",
    "full_name",
    "is_remote",
    "without_secrets",
]

SCHEMES: Final = ("s3", "gs", "az", "https", "http")
# `Path` writes one slash where an address has two.
_REMOTE: Final = re.compile(rf"({'|'.join(SCHEMES)}):(?:/{{1,2}}(?=[^/])|/{{0,2}}$)", re.IGNORECASE)
_OTHER: Final = re.compile(r"([a-z][a-z0-9+.-]+)://", re.IGNORECASE)
_PINNED: Final = re.compile(r"(.*)#sha256=(.*)", re.DOTALL)
_SHA256: Final = re.compile(r"[0-9a-f]{64}")
_USER: Final = re.compile(r"^[a-z0-9]+:/{1,2}[^/]*@", re.IGNORECASE)
_TELLING: Final = (
    r"(?:x-amz-[\w-]*|x-goog-[\w-]*|awsaccesskeyid|googleaccessid|sig|se|sp|signature|policy"
    r"|key-pair-id|sharedaccesssignature"
    r"|[\w-]*(?:token|secret|password|passwd|credential|(?:api|access|account|shared)[_-]?key))"
)
_TOLD: Final = re.compile(rf"[?&;]{_TELLING}=", re.IGNORECASE)
_HIDDEN: Final = (
    (re.compile(r"(?<=:/)(/?)[^/\s@'\"]+@"), r"\1***@"),
    (re.compile(rf"\b({_TELLING})(=|%3d)[^\s&;'\"]+", re.IGNORECASE), r"\1\2***"),
    (re.compile(r"\b(?:AKIA|ASIA)[A-Z0-9]{12,}"), "***"),
)


class RemotePath(type(Path())):  # type: ignore[misc]
    """A path whose beginning is an address: joined as paths are, written with both slashes."""

    def __str__(self) -> str:
        return _REMOTE.sub(r"\1://", super().__str__(), count=1)

    def __fspath__(self) -> str:
        return str(self)


@dataclass(frozen=True)
class Address:
    """Where something lies that is no file of this machine.

    Parameters
    ----------
    scheme : str
        One of `SCHEMES`.
    rest : str
        Bucket and key, or host and path.
    sha256 : str
        What the address says that the content's hash must be; empty if it says nothing.
    """

    scheme: str
    rest: str
    sha256: str = ""

    def __str__(self) -> str:
        return f"{self.scheme}://{self.rest}"

    @property
    def name(self) -> str:
        """The last part, without what is asked behind it."""
        path = self.rest.partition("?")[0] if self.scheme.startswith("http") else self.rest
        return path.rstrip("/").rpartition("/")[2]

    def __truediv__(self, name: str) -> Address:
        return Address(self.scheme, f"{self.rest.rstrip('/')}/{name}")


def is_remote(place: str | os.PathLike[str]) -> bool:
    """Tell whether a place is an address in the cloud and no path.

    Examples
    --------
    >>> is_remote("s3://bucket/images"), is_remote("images"), is_remote("C:/images")
    (True, False, False)
    """
    return _REMOTE.match(os.fspath(place)) is not None


def address_of(place: str | os.PathLike[str]) -> Address:
    """Take an address apart.

    Parameters
    ----------
    place : str or PathLike
        Such as ``s3://bucket/key``; ``#sha256=…`` behind it says what its content must be.

    Returns
    -------
    Address

    Raises
    ------
    StorageError
        If there is a name and password, a key or a signature in it, which would end up in files
        and logs; or if the hash is none.
    """
    text = os.fspath(place)
    found = _REMOTE.match(text)
    if found is None:
        raise StorageError(
            "unusable",
            f"got {without_secrets(text)}, expected an address that begins with "
            f"{', '.join(f'{scheme}://' for scheme in SCHEMES)}",
        )
    if _USER.match(text) or _TOLD.search(text):
        raise StorageError(
            "unusable",
            f"{without_secrets(text)} has a secret in it, which would end up in files and logs: "
            "leave it out, and give credentials by the environment or the provider's own files "
            "(docs/data.md)",
        )
    rest, sha256 = text[found.end() :], ""
    if pinned := _PINNED.fullmatch(rest):
        rest, sha256 = pinned[1], pinned[2].lower()
        if not _SHA256.fullmatch(sha256):
            raise StorageError(
                "unusable",
                f"got #sha256={pinned[2][:80]} behind {rest}, expected 64 hexadecimal digits, as "
                "sha256sum prints them",
            )
    return Address(found[1].lower(), rest, sha256)


def as_place(text: str | os.PathLike[str]) -> Path:
    """Give a path that keeps what is an address as it is.

    Raises
    ------
    StorageError
        If it has a secret in it, or begins as an address of an unknown kind does.
    """
    if is_remote(text):
        address_of(text)
        return RemotePath(os.fspath(text))
    if other := _OTHER.match(os.fspath(text)):
        raise StorageError(
            "unusable",
            f"got an address that begins with {other[0]}, expected "
            f"{', '.join(f'{scheme}://' for scheme in SCHEMES)} or a path",
        )
    return Path(text)


def full_name(place: str | os.PathLike[str]) -> str:
    """Give the absolute path of a place, or its address."""
    return str(RemotePath(os.fspath(place))) if is_remote(place) else os.path.abspath(place)


def without_secrets(text: str) -> str:
    """Blot out passwords, signatures and keys in a text that somebody else wrote.

    Examples
    --------
    >>> without_secrets("s3://me:word@bucket/x?X-Amz-Signature=12ab&versionId=3")
    's3://***@bucket/x?X-Amz-Signature=***&versionId=3'
    """
    for pattern, instead in _HIDDEN:
        text = pattern.sub(instead, text)
    return text
