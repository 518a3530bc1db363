"""Batches in flight: the next is on its way while the device computes the one before."""

from __future__ import annotations

import queue
from collections import deque
from collections.abc import Callable, Iterable
from typing import Generic, TypeVar

__all__ = ["Slots"]

Slot = TypeVar("Slot")
Work = TypeVar("Work")


class Slots(Generic[Slot]):
    """Places for work that was started and is not done; shared between threads.

    Work that follows takes the place of what is done first, also where several threads bring work:
    none of them waits for the end of all that another brought.

    Parameters
    ----------
    slots : iterable
        What each work needs for itself until it is done.
    """

    def __init__(self, slots: Iterable[Slot]) -> None:
        self._idle: queue.SimpleQueue[Slot] = queue.SimpleQueue()
        for slot in slots:
            self._idle.put(slot)

    def run(
        self,
        todo: Iterable[Work],
        start: Callable[[Slot, Work], Callable[[], object]],
    ) -> None:
        """Start each work in turn, and return when all are done.

        Parameters
        ----------
        todo : iterable
        start : callable
            Begins a work in a slot and gives what waits for its end.

        Raises
        ------
        Exception
            The first that a work raised, after what else was started is done.
        """
        begun: deque[tuple[Slot, Callable[[], object]]] = deque()
        try:
            for work in todo:
                slot = self._take(begun)
                try:
                    finish = start(slot, work)
                except BaseException:
                    self._idle.put(slot)
                    raise
                begun.append((slot, finish))
            while begun:
                self._finish(begun)
        finally:
            while begun:
                slot, finish = begun.popleft()
                try:
                    finish()
                finally:
                    self._idle.put(slot)

    def _take(self, begun: deque[tuple[Slot, Callable[[], object]]]) -> Slot:
        # Whoever waits for a slot holds none: otherwise threads could wait for each other for ever.
        while begun:
            try:
                return self._idle.get_nowait()
            except queue.Empty:
                self._finish(begun)
        return self._idle.get()

    def _finish(self, begun: deque[tuple[Slot, Callable[[], object]]]) -> None:
        slot, finish = begun.popleft()
        try:
            finish()
        finally:
            self._idle.put(slot)
