"""Count how often somebody asked: in this process, or together with others in a shared store."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING, Any, Final

from limits.errors import ConfigurationError, StorageError
from limits.storage import MemoryStorage, MovingWindowSupport, Storage, storage_from_string
from limits.strategies import MovingWindowRateLimiter

from service.settings import SettingsError

if TYPE_CHECKING:
    from limits import RateLimitItem

__all__ = ["Counter"]

logger = logging.getLogger(__name__)

_TO_MEND: Final = (
    "give --rate-storage an address such as redis://127.0.0.1:6379 of a store that runs and whose "
    "client is installed (`pip install 'lesion-classifier[redis]'`), or leave it out to count in "
    "each process"
)
_NO_ANSWER: Final = f"the {{}} store of --rate-storage does not answer: {_TO_MEND}"
# So long a store that failed is left alone: each try could hold a request up.
_SECONDS_APART: Final = 5.0
# A store that takes what is sent and says nothing would hold every request up for ever.
_SECONDS: Final = 1
_OF_REDIS: Final = {"socket_timeout": _SECONDS, "socket_connect_timeout": _SECONDS}
_OF_MONGODB: Final = dict.fromkeys(
    ("serverSelectionTimeoutMS", "connectTimeoutMS", "socketTimeoutMS"), 1000 * _SECONDS
)


class Counter:
    """Counts in a moving window.

    Parameters
    ----------
    address : str
        Of the store, as the library limits reads it: ``memory://`` for this process alone,
        ``redis://HOST:PORT`` and others for all that give the same.

    Raises
    ------
    SettingsError
        If there is no such store, or it can't be reached now. Its address, which may hold a
        password, is not repeated.
    """

    def __init__(self, address: str = "memory://") -> None:
        self._alone = MovingWindowRateLimiter(MemoryStorage())
        self._shared: MovingWindowRateLimiter | None = None
        self._failed = -_SECONDS_APART
        if not address.startswith("memory:"):
            self._shared = MovingWindowRateLimiter(_open(address))

    def hit(self, limit: RateLimitItem, *who: str) -> float | None:
        """Count once more.

        Returns
        -------
        float or None
            None if that is within the limit; else how many seconds until it will be. While a
            shared store can't be reached, this process counts for itself.
        """
        if self._shared is not None and time.monotonic() - self._failed >= _SECONDS_APART:
            try:
                return _hit(self._shared, limit, who)
            except StorageError as error:
                self._failed = time.monotonic()
                logger.warning(
                    "the store of --rate-storage can't be reached (%s): requests are counted in "
                    "this process alone until it can",
                    type(error.storage_error).__name__,
                )
        return _hit(self._alone, limit, who)


def _hit(
    counted: MovingWindowRateLimiter, limit: RateLimitItem, who: tuple[str, ...]
) -> float | None:
    if counted.hit(limit, *who):
        return None
    return max(0.0, counted.get_window_stats(limit, *who).reset_time - time.time())


def _open(address: str) -> Storage:
    kind, separator, _ = address.partition("://")
    if not separator:
        raise SettingsError(f"--rate-storage has no address with :// in it: {_TO_MEND}")
    try:
        storage = storage_from_string(address, wrap_exceptions=True, **_patience(kind))
    except (ConfigurationError, ValueError, TypeError) as error:
        raise SettingsError(
            f"--rate-storage has an address of the kind {kind!r} that can't be used: {_TO_MEND}"
        ) from error
    except Exception as error:
        # Of a cluster the client itself says so, and with its address.
        if type(error).__module__.partition(".")[0] not in ("redis", "valkey"):
            raise
        raise SettingsError(_NO_ANSWER.format(kind)) from None
    if not isinstance(storage, Storage) or not isinstance(storage, MovingWindowSupport):
        raise SettingsError(f"a store of the kind {kind!r} can't count in windows: {_TO_MEND}")
    if not storage.check():
        raise SettingsError(_NO_ANSWER.format(kind))
    return storage


def _patience(kind: str) -> dict[str, Any]:
    if kind.startswith("mongodb"):
        return _OF_MONGODB
    if kind.endswith("+sentinel"):
        return {**_OF_REDIS, "sentinel_kwargs": _OF_REDIS}
    return _OF_REDIS if kind.startswith(("redis", "valkey")) else {}
