from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from features.networks.devices.in_flight import Slots


class Device:
    """Does one work after the other, each for a while, and notes what was in flight."""

    def __init__(self, pause: float = 0.0) -> None:
        self.pause = pause
        self.begun: list[int] = []
        self.most = 0
        self._in_flight: dict[str, int] = {}
        self._changing = threading.Lock()
        self._computing = threading.Lock()

    def start(self, slot: str, work: int) -> Callable[[], object]:
        with self._changing:
            assert slot not in self._in_flight
            self._in_flight[slot] = work
            self.begun.append(work)
            self.most = max(self.most, len(self._in_flight))

        def finish() -> None:
            with self._computing:
                time.sleep(self.pause)
            with self._changing:
                assert self._in_flight.pop(slot) == work
            if work < 0:
                raise ValueError(f"work {work}")

        return finish


def test_work_is_begun_before_what_came_first_is_done() -> None:
    device = Device()
    slots = Slots(["a", "b"])
    slots.run(range(7), device.start)
    assert device.begun == list(range(7))
    assert device.most == 2
    slots.run([], device.start)


def test_threads_share_the_slots_and_never_wait_for_each_other_for_ever() -> None:
    device = Device(0.001)
    slots = Slots(["a", "b"])
    with ThreadPoolExecutor(4) as pool:
        runs = [
            pool.submit(slots.run, range(first, first + 9), device.start)
            for first in range(0, 90, 9)
        ]
        for each in runs:
            each.result(timeout=30)
    assert sorted(device.begun) == list(range(90))
    assert device.most == 2


def test_a_failure_is_told_when_the_rest_is_done_and_costs_no_slot() -> None:
    device = Device()
    slots = Slots(["a", "b"])
    for works in ([1, -2, 3], [-1, -1], [1, 2, -3]):
        with pytest.raises(ValueError, match="work -"):
            slots.run(works, device.start)

    def broken(slot: str, work: int) -> Callable[[], object]:
        if work == 2:
            raise KeyError("can't begin")
        return device.start(slot, work)

    with pytest.raises(KeyError, match="can't begin"):
        slots.run([0, 1, 2], broken)
    device.most = 0
    slots.run(range(3), device.start)
    assert device.most == 2
