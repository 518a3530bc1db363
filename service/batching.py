"""Gather what waits: requests that arrive together share one call instead of queueing for it."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Generic, TypeVar

__all__ = ["Batcher"]

Item = TypeVar("Item")
Result = TypeVar("Result")


class _Job(Generic[Item, Result]):
    def __init__(self, items: Sequence[Item]) -> None:
        self.items = items
        self.results: list[Result] | None = None
        self.done = threading.Event()


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

    def __init__(self, work: Callable[[list[Item]], list[Result]], *, largest: int) -> None:
        self._work = work
        self._largest = largest
        self._waiting: deque[_Job[Item, Result]] = deque()
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="batch")

    def __call__(self, items: Sequence[Item]) -> list[Result]:
        """Give the results of `items`; blocks until they are there.

        Raises
        ------
        Exception
            What `work` raised on these items alone: a call that failed with the items of several
            requests is repeated for each of them, so that none fails for another's sake.
        """
        job: _Job[Item, Result] = _Job(items)
        self._waiting.append(job)
        self._worker.submit(self._work_off)
        job.done.wait()
        if job.results is None:
            return self._worker.submit(self._work, list(items)).result()
        return job.results

    def _work_off(self) -> None:
        jobs: list[_Job[Item, Result]] = []
        while self._waiting and sum(len(job.items) for job in jobs) < self._largest:
            jobs.append(self._waiting.popleft())
        if not jobs:
            return
        try:
            results = iter(self._work([item for job in jobs for item in job.items]))
            for job in jobs:
                job.results = [next(results) for _ in job.items]
        finally:
            for job in jobs:
                job.done.set()
