"""Hand what waits to the network: first come, first served, and together where that is quicker."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Generic, TypeVar

from service.problems import SECONDS_TO_RETRY, Problem

__all__ = ["Batcher"]

Item = TypeVar("Item")
Result = TypeVar("Result")


class _Job(Generic[Result]):
    """A request: as many results as it has items, when all of them are there."""

    def __init__(self, count: int) -> None:
        self.results: dict[int, Result] = {}
        self.done = threading.Event()
        self.given_up = False
        self._left = count
        self._counting = threading.Lock()

    def tick(self) -> None:
        """One item less to wait for, whatever became of it."""
        with self._counting:
            self._left -= 1
            if not self._left:
                self.done.set()


@dataclass(frozen=True)
class _Waiting(Generic[Item, Result]):
    item: Item
    place: int
    job: _Job[Result]


class Batcher(Generic[Item, Result]):
    """Call `work` from a few threads of its own for items that come from many.

    Parameters
    ----------
    work : callable
        Takes a list of items, gives as many results in the same order.
    largest : int
        Items of a call at most: 1, unless `work` is quicker per item the more it gets.
    calls : int
        How many calls of `work` are made at the same time.
    """

    def __init__(
        self, work: Callable[[list[Item]], Sequence[Result]], *, largest: int, calls: int = 1
    ) -> None:
        self._work = work
        self._largest = largest
        self._waiting: deque[_Waiting[Item, Result]] = deque()
        self._workers = ThreadPoolExecutor(calls, thread_name_prefix="batch")

    @property
    def waiting(self) -> int:
        """Items that no call has taken yet."""
        return len(self._waiting)

    def __call__(self, items: Sequence[Item], seconds: float | None = None) -> list[Result]:
        """Give the results of `items`; blocks until they are there.

        Parameters
        ----------
        items : sequence
        seconds : float, optional
            Longest to wait.

        Raises
        ------
        Problem
            If the results are not there by then.
        Exception
            What `work` raised on these items alone: a call that failed with the items of several
            requests is repeated for each of them, so that none fails for another's sake.
        """
        if not items:
            return []
        job: _Job[Result] = _Job(len(items))
        self._waiting.extend(_Waiting(item, place, job) for place, item in enumerate(items))
        for _ in items:
            self._workers.submit(self._work_off)
        if not job.done.wait(seconds):
            job.given_up = True
            raise Problem(
                "too_late",
                f"The request waited {seconds:g} seconds for its turn, behind others: "
                "send it again",
                retry_after=SECONDS_TO_RETRY,
            )
        if len(job.results) < len(items):
            return list(self._workers.submit(self._work, list(items)).result())
        return [job.results[place] for place in range(len(items))]

    def _work_off(self) -> None:
        taken: list[_Waiting[Item, Result]] = []
        while len(taken) < self._largest:
            try:
                first = self._waiting.popleft()
            except IndexError:
                break
            if not first.job.given_up:
                taken.append(first)
        if not taken:
            return
        try:
            results = self._work([each.item for each in taken])
            for each, result in zip(taken, results, strict=True):
                each.job.results[each.place] = result
        finally:
            for each in taken:
                each.job.tick()
