"""Ray, imported only when it is asked for, and reached or refused within seconds."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from typing import Any, Final

from features.errors import ClusterError

__all__ = ["connected", "require_cluster"]

_REACHED_SECONDS: Final = 4.0
# Ray itself tries for more than a minute, and speaks of it all the while.
_ANSWERED_SECONDS: Final = 10.0
_QUIET: Final = {
    "RAY_BACKEND_LOG_LEVEL": "fatal",
    "RAY_DATA_LOG_LEVEL": "CRITICAL",
    "RAY_USAGE_STATS_ENABLED": "0",
    # As it will be in later versions; else Ray warns of it.
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
}


@contextlib.contextmanager
def connected(address: str) -> Iterator[Any]:
    """Be a driver of a Ray cluster; meanwhile nothing comes to standard output.

    Parameters
    ----------
    address : str
        ``"auto"`` for the cluster that this machine is part of, or the ``HOST:PORT`` of its head.

    Yields
    ------
    module
        ``ray``, connected.

    Raises
    ------
    ClusterError
        If Ray is not installed or no cluster answers, within 15 seconds.
    """
    require_cluster(address)
    import ray

    try:
        with _without_words():
            ray.init(
                address=address, namespace="lesion", log_to_driver=False, logging_level="CRITICAL"
            )
    except (ConnectionError, RuntimeError, ValueError) as error:
        told = " ".join(str(error).split())[:300]
        raise ClusterError(f"the Ray cluster at {address} can't be joined: {told}") from error
    # Whatever befalls a node, Ray says at length on standard output.
    with open(os.devnull, "w", encoding="utf-8") as nowhere, contextlib.redirect_stdout(nowhere):
        try:
            yield ray
        finally:
            ray.shutdown()


def require_cluster(address: str) -> None:
    """Refuse to begin without Ray or a cluster that answers.

    Parameters
    ----------
    address : str
        As of `connected`.

    Raises
    ------
    ClusterError
        If Ray is not installed or no cluster answers, within 15 seconds.
    """
    for name, value in _QUIET.items():
        os.environ.setdefault(name, value)
    try:
        import ray.data  # noqa: F401
    except ImportError as error:
        raise ClusterError(
            f"--cluster needs Ray Data, which is not installed ({error.name} is missing): "
            "pip install '.[cluster]', on this machine and on every node"
        ) from error
    _require_answer(address)


@contextlib.contextmanager
def _without_words() -> Iterator[None]:
    """Keep what compiled code says of itself from the terminal; errors of Python come through."""
    sys.stderr.flush()
    kept = os.dup(2)
    try:
        with open(os.devnull, "wb") as nowhere:
            os.dup2(nowhere.fileno(), 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


def _require_answer(address: str) -> None:
    words = [sys.executable, "-m", "ray.scripts.scripts", "health-check"]
    if address != "auto":
        host, colon, port = address.rpartition(":")
        if not host or not colon or "/" in host or not (port.isascii() and port.isdecimal()):
            raise ClusterError(
                f"got --cluster {address}, expected auto or the HOST:PORT of a cluster's head "
                "(of a machine that is part of it; Ray's client, ray://, will not do)"
            )
        try:
            socket.create_connection((host.strip("[]"), int(port)), _REACHED_SECONDS).close()
        except (OSError, OverflowError) as error:
            raise _silent(address) from error
        words += ["--address", address]
    try:
        done = subprocess.run(words, capture_output=True, timeout=_ANSWERED_SECONDS, check=False)
    except subprocess.TimeoutExpired as error:
        raise _silent(address) from error
    if done.returncode == 1:
        raise _silent(address)


def _silent(address: str) -> ClusterError:
    where = "on this machine" if address == "auto" else f"at {address}"
    return ClusterError(
        f"no Ray cluster answers {where}: start one with `ray start --head --port 6379`, join this "
        "machine to it with `ray start --address HOST:6379`, and give --cluster HOST:6379"
    )
