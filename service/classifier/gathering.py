"""Under load heads judge a few images at a time, which takes little longer than one of them."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from concurrent.futures import TimeoutError as TookTooLong
from typing import Any, Final, Generic, TypeVar

__all__ = ["Gathering"]

Item = TypeVar("Item")
Result = TypeVar("Result")

# What an SVM takes is reading its vectors: four images cost it less than two would one by one.
_TOGETHER: Final = 4
# Longest that an image waits for others, should they not come after all.
_SECONDS: Final = 1.0


class Gathering(Generic[Item, Result]):
    """Call `work` for items that come from many threads, a few at a time while more are coming.

    Parameters
    ----------
    work : callable
        Takes a list of items, gives as many results in the same order.
    more : callable
        Whether others will come within a moment; where not, nobody waits.
    """

    def __init__(
        self, work: Callable[[list[Item]], Sequence[Result]], more: Callable[[], bool]
    ) -> None:
        self._work = work
        self._more = more
        self._changing = threading.Lock()
        self._waiting: list[tuple[Item, Future[Result | None]]] = []

    def __call__(self, item: Item) -> Result:
        """Give the result of an item.

        Raises
        ------
        Exception
            What `work` raised on this item alone.
        """
        future: Future[Any] = Future()
        with self._changing:
            self._waiting.append((item, future))
            ripe = len(self._waiting) >= _TOGETHER or not self._more()
            taken = self._taken() if ripe else []
        self._work_off(taken)
        try:
            found: Result | None = future.result(_SECONDS)
        except TookTooLong:
            with self._changing:
                left = any(each is future for _, each in self._waiting)
                taken = self._taken() if left else []
            self._work_off(taken)
            found = future.result()
        # Without a result it failed together with others: none fails for another's sake.
        return self._work([item])[0] if found is None else found

    def _taken(self) -> list[tuple[Item, Future[Result | None]]]:
        taken, self._waiting = self._waiting, []
        return taken

    def _work_off(self, taken: list[tuple[Item, Future[Result | None]]]) -> None:
        results: Sequence[Result | None] = [None] * len(taken)
        try:
            results = self._work([item for item, _ in taken]) if taken else ()
        except Exception:
            # Of several, each tries again alone and raises what it meets itself.
            if len(taken) == 1:
                raise
        finally:
            for (_, future), result in zip(taken, results, strict=True):
                future.set_result(result)
