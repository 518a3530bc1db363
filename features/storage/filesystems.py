"""Where addresses lead: the library for each kind, its retries, and its failures in words.

Credentials are found by the libraries themselves, where each provider's own tools look, and nowhere
else: the environment, the provider's files, the machine's metadata.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import importlib
import logging
import os
import random
import threading
import time
from collections.abc import Callable
from typing import Any, Final, TypeVar

from features.errors import StorageError
from features.storage.addresses import Address, without_secrets

__all__ = [
    "CONNECT_SECONDS",
    "SILENT_SECONDS",
    "Passing",
    "explained",
    "failures",
    "filesystem",
    "patiently",
    "run",
]

TRIES: Final = 4
CONNECT_SECONDS: Final = 10
# Without a byte for so long, a connection is given up.
SILENT_SECONDS: Final = 30
# botocore's own ten would make thirty others wait.
_CONNECTIONS: Final = 64
_MAKING: Final = threading.Lock()
_CHANCE: Final = random.SystemRandom()
_LONGEST_PAUSE: Final = 8.0
_EXTRAS: Final = {
    "s3": ("s3", "s3fs"),
    "gs": ("gcs", "gcsfs"),
    "az": ("azure", "adlfs"),
    "https": ("https", "aiohttp"),
    "http": ("https", "aiohttp"),
}
_CREDENTIALS: Final = {
    "s3": "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, AWS_PROFILE or ~/.aws (for a public bucket "
    "FSSPEC_S3_ANON=true)",
    "gs": "GOOGLE_APPLICATION_CREDENTIALS, or `gcloud auth application-default login`",
    "az": "AZURE_STORAGE_CONNECTION_STRING, AZURE_STORAGE_ACCOUNT_NAME with "
    "AZURE_STORAGE_ACCOUNT_KEY or AZURE_STORAGE_SAS_TOKEN, or `az login`",
    "https": "~/.netrc",
    "http": "~/.netrc",
}
_BUCKETS: Final = {"az": ("container", "account"), "gs": ("bucket", "project")}
# What they log of a failure that is told in a sentence is tracebacks, and more than once.
_LOUD: Final = {"gs": ("gcsfs",), "az": ("azure",)}
_GOOGLE: Final = "GOOGLE_APPLICATION_CREDENTIALS"
_AIOHTTP: Final = ("aiohttp", ("ClientError",))
_RAISED: Final[dict[str, tuple[tuple[str, tuple[str, ...]], ...]]] = {
    "s3": (_AIOHTTP, ("botocore.exceptions", ("BotoCoreError", "ClientError", "HTTPClientError"))),
    "gs": (
        _AIOHTTP,
        ("google.auth.exceptions", ("GoogleAuthError",)),
        ("gcsfs.retry", ("HttpError", "ChecksumError")),
    ),
    "az": (("azure.core.exceptions", ("AzureError",)),),
    "https": (_AIOHTTP,),
    "http": (_AIOHTTP,),
}
_OF_CONNECTIONS: Final = frozenset(
    {
        *("ClientConnectionError", "ClientPayloadError"),  # aiohttp
        *("HTTPClientError", "IncompleteReadError", "ResponseParserError"),  # botocore
        *("ServiceRequestError", "ServiceResponseError"),  # azure-core
    }
)

T = TypeVar("T")


class Passing(OSError):
    """A failure that may be gone in a moment."""


def filesystem(address: Address) -> Any:
    """Give the fsspec file system of an address, one for each kind in a process.

    Raises
    ------
    StorageError
        If the package for it is not installed, or there are no credentials at all.
    """
    # Threads that come at the same time would each make one of their own, which takes long.
    with _MAKING:
        return _filesystem(address.scheme, os.getpid())


def run(address: Address, work: Callable[..., Any], *arguments: Any) -> Any:
    """Let a coroutine of a file system work, and try again while its failures may pass.

    Parameters
    ----------
    address : Address
        What it is about.
    work : callable
        Gives a coroutine, from the file system and `arguments`.

    Raises
    ------
    StorageError
        In one sentence, whatever went wrong.
    """
    found = filesystem(address)
    from fsspec.asyn import sync

    return patiently(address, lambda: sync(found.loop, work, found, *arguments))


def patiently(address: Address, work: Callable[[], T]) -> T:
    """Do something, again while its failures may pass, after pauses that grow.

    Raises
    ------
    StorageError
        In one sentence, whatever went wrong.
    """
    for tried in range(1, TRIES + 1):
        try:
            return work()
        except failures(address.scheme) as error:
            if tried == TRIES or not _may_pass(error):
                raise explained(address, error) from None
        # As botocore does: those that failed together do not come back together.
        time.sleep(_CHANCE.uniform(0.5, 1) * min(_LONGEST_PAUSE, 0.2 * 2**tried))
    raise AssertionError


def explained(address: Address, error: BaseException) -> StorageError:
    """Say in one sentence what went wrong; nothing secret is in it."""
    why = without_secrets(" ".join(str(error).split()))[:200] or type(error).__name__
    name = type(error).__name__
    if (
        isinstance(error, PermissionError)
        or any(word in name for word in ("Credential", "AuthenticationError", "RefreshError"))
        or getattr(error, "code", None) in (401, 403)
    ):
        return StorageError(
            "refused",
            f"{address} is refused ({why}): check the credentials ("
            f"{_CREDENTIALS[address.scheme]}) and what they may do there",
        )
    if isinstance(error, FileNotFoundError):
        if "bucket" in why.casefold() or "container" in why.casefold():
            where = address.rest.partition("/")[0]
            kind, what = _BUCKETS.get(address.scheme, ("bucket", "region"))
            return StorageError(
                "no_bucket", f"there is no {kind} {where} for {address}: check its name and {what}"
            )
        return StorageError("missing", f"there is nothing at {address}: check the address")
    if isinstance(error, (ValueError, TypeError)):
        return StorageError("unusable", f"{address} can't be used ({why}): check the address")
    return StorageError(
        "unreachable",
        f"{address} gave no good answer, however often it was asked ({why}): try again later, and "
        "check address and network",
    )


def _may_pass(error: BaseException) -> bool:
    if isinstance(error, (Passing, asyncio.TimeoutError, TimeoutError, ConnectionError)):
        return True
    # The libraries' own errors of connections, without importing what may not be there.
    return any(kind.__name__ in _OF_CONNECTIONS for kind in type(error).__mro__)


@functools.lru_cache(maxsize=8)
def failures(scheme: str) -> tuple[type[Exception], ...]:
    """Give what a file system and the libraries below it are known to raise."""
    found: list[type[Exception]] = [OSError, asyncio.TimeoutError, ValueError]
    for module, names in _RAISED[scheme]:
        with contextlib.suppress(ImportError):
            made = importlib.import_module(module)
            found += [getattr(made, name) for name in names]
    return tuple(found)


@functools.lru_cache(maxsize=8)
def _filesystem(scheme: str, _process: int) -> Any:
    extra, package = _EXTRAS[scheme]
    try:
        importlib.import_module(package)
        import fsspec
    except ImportError as error:
        raise StorageError(
            "unusable",
            f"{scheme}:// needs the package {package}, which is not installed: "
            f"pip install 'lesion-classifier[{extra}]'",
        ) from error
    for name in _LOUD.get(scheme, ()):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    try:
        if scheme == "gs":
            # The other class of gcsfs asks for the kind of each bucket first, by gRPC.
            made = importlib.import_module("gcsfs.core").GCSFileSystem(**_options(scheme))
        else:
            made = fsspec.filesystem(scheme if scheme != "http" else "https", **_options(scheme))
        if scheme == "gs" and os.environ.get(_GOOGLE) and made.credentials.method == "anon":
            # gcsfs would ask without any.
            raise PermissionError(f"{_GOOGLE} names no file of credentials that can be used")
    except failures(scheme) as error:
        # Without an address to be wrong, it is the credentials that are.
        wrong = PermissionError(str(error)) if isinstance(error, ValueError) else error
        raise explained(Address(scheme, "…"), wrong) from None
    if scheme == "s3":
        # Of what botocore does not try again: bodies that end early.
        made.retries = 2
    return made


def _options(scheme: str) -> dict[str, Any]:
    # What was listed is not kept: that would be a million keys.
    kept = {"use_listings_cache": False, "skip_instance_cache": True}
    if scheme == "s3":
        retries = {"mode": "standard", "total_max_attempts": TRIES}
        waits = {"connect_timeout": CONNECT_SECONDS, "read_timeout": SILENT_SECONDS}
        return {
            **kept,
            "config_kwargs": {"retries": retries, "max_pool_connections": _CONNECTIONS, **waits},
        }
    if scheme == "az":
        return kept
    import aiohttp

    timeout = aiohttp.ClientTimeout(
        total=None, sock_connect=CONNECT_SECONDS, sock_read=SILENT_SECONDS
    )
    if scheme == "gs":
        return {**kept, "requests_timeout": timeout}
    return {"skip_instance_cache": True, "client_kwargs": {"timeout": timeout, "trust_env": True}}
