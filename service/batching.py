"""Gather what waits: requests that arrive together share one call instead of queueing for it."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Generic, TypeVar

from features.errors import LesionError

__all__ = ["Batcher", "TooLate"]

Item = TypeVar("Item")
Result = TypeVar("Result")


class TooLate(LesionError):
    """A request whose turn did not come in the time that it may wait."""


class _Job(Generic[Item, Result]):
    def __init__(self, items: Sequence[Item]) -> None:
        self.items = items
        self.results: list[Result] | None = None
        self.done = threading.Event()
        self.given_up = False


class Batcher(Generic[Item, Result]):
    """Call `work`, which is quicker per item the more it gets, from many threads.

    One thread does the work, so `work` is never entered twice at the same time.

    Parameters
    ----------
    work : callable
        Takes a list of items, gives as many results in the same order.
    largest : int
        Stop gathering when a call has this many items; a single request may bring more.
    """

    def __init__(self, work: Callable[[list[Item]], Sequence[Result]], *, largest: int) -> None:
        self._work = work
        self._largest = largest
        self._waiting: deque[_Job[Item, Result]] = deque()
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="batch")

    @property
    def waiting(self) -> int:
        """Items that no call has taken yet."""
        return sum(len(job.items) for job in tuple(self._waiting))

    def __call__(self, items: Sequence[Item], seconds: float | None = None) -> list[Result]:
        """Give the results of `items`; blocks until they are there.

        Parameters
        ----------
        items : sequence
        seconds : float, optional
            Longest to wait.

        Raises
        ------
        TooLate
            If the results are not there by then.
        Exception
            What `work` raised on these items alone: a call that failed with the items of several
            requests is repeated for each of them, so that none fails for another's sake.
        """
        job: _Job[Item, Result] = _Job(items)
        self._waiting.append(job)
        self._worker.submit(self._work_off)
        if not job.done.wait(seconds):
            job.given_up = True
            raise TooLate(
                f"The request waited {seconds:g} seconds for its turn, others came first: "
                "send it again"
            )
        if job.results is None:
            return list(self._worker.submit(self._work, list(items)).result())
        return job.results

    def _work_off(self) -> None:
        jobs: list[_Job[Item, Result]] = []
        while self._waiting and sum(len(job.items) for job in jobs) < self._largest:
            job = self._waiting.popleft()
            if not job.given_up:
                jobs.append(job)
        if not jobs:
            return
        try:
            results = iter(self._work([item for job in jobs for item in job.items]))
            for job in jobs:
                job.results = [next(results) for _ in job.items]
        finally:
            for job in jobs:
                job.done.set()
