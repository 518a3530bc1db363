"""A thread of its own hands feedback to the store, so that a silent store holds no request up."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from concurrent.futures import TimeoutError as TookTooLong
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any, Final

from models.inference.feedback import FeedbackFailed

if TYPE_CHECKING:
    from models.inference.feedback import FeedbackRecord
    from models.inference.feedback_store import FeedbackStore

__all__ = ["Keeper"]

logger = logging.getLogger(__name__)

# Longest that a request waits for the store: it needs less to find out by itself that a PostgreSQL
# is silent, while a file on a disk that is gone may wait for ever.
_SECONDS: Final = 15.0
# Who comes while the store has been at one thing for so long is told so at once, since each that
# waits holds one of the server's threads.
_SECONDS_AT_ONE: Final = 3.0
# Between two looks at a store that works, and at one that failed.
_SECONDS_APART: Final = 30.0
_SECONDS_AFTER_FAILURE: Final = 5.0


class Keeper:
    """Writes records to a store one after the other, and knows whether it answers.

    Parameters
    ----------
    store : FeedbackStore
    """

    def __init__(self, store: FeedbackStore) -> None:
        self._store = store
        self._tasks: SimpleQueue[tuple[Future[Any], Callable[[], Any]]] = SimpleQueue()
        self._starting = threading.Lock()
        self._thread: threading.Thread | None = None
        # When it began with what it is at.
        self._since: float | None = None
        self._asked = time.monotonic()
        self._failed = False

    @property
    def failing(self) -> bool:
        """Whether the store failed when it was last asked, or doesn't answer now.

        One that was not asked for a while is asked beside, for who looks next.
        """
        stuck = self._stuck
        apart = _SECONDS_AFTER_FAILURE if self._failed else _SECONDS_APART
        if self._since is None and time.monotonic() - self._asked > apart:
            self._asked = time.monotonic()
            self._submit(self._store.check)
        return stuck or self._failed

    def add(self, record: FeedbackRecord) -> int:
        """Keep a record, as `FeedbackStore.add` does.

        Raises
        ------
        FeedbackFailed
            If it could not be kept, or the store has not answered in time; the message says what
            became of the record.
        """
        if self._stuck:
            raise FeedbackFailed(
                "the feedback store has not answered somebody else for "
                f"{_SECONDS_AT_ONE:g} seconds, nothing was kept: record it again once it does"
            )
        task = self._submit(lambda: self._store.add(record))
        try:
            number: int = task.result(_SECONDS)
        except TookTooLong:
            if task.cancel():
                kept = "nothing was kept: record it again once it does"
            else:
                kept = (
                    "so whether this was kept can't be told: record it again once it does, of "
                    "several records the latest counts"
                )
            raise FeedbackFailed(
                f"the feedback store has not answered for {_SECONDS:g} seconds, {kept}"
            ) from None
        return number

    @property
    def _stuck(self) -> bool:
        since = self._since
        return since is not None and time.monotonic() - since > _SECONDS_AT_ONE

    def _submit(self, task: Callable[[], Any]) -> Future[Any]:
        future: Future[Any] = Future()
        with self._starting:
            if self._thread is None:
                # Not a pool's: Python would wait for it at the end, and so for the store.
                self._thread = threading.Thread(target=self._work, name="feedback", daemon=True)
                self._thread.start()
        self._tasks.put((future, task))
        return future

    def _work(self) -> None:
        while True:
            future, task = self._tasks.get()
            if not future.set_running_or_notify_cancel():
                continue
            self._since = time.monotonic()
            before = self._failed
            try:
                result = task()
            except Exception as error:  # noqa: BLE001 - raised where it is waited for
                self._failed = True
                if not before:
                    logger.warning("the feedback store fails: %s", error)
                future.set_exception(error)
            else:
                self._failed = False
                future.set_result(result)
            finally:
                self._since, self._asked = None, time.monotonic()
