from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from service.batching import Batcher


def test_what_waits_shares_a_call_and_everyone_gets_their_own() -> None:
    calls: list[list[int]] = []
    entered, go_on = threading.Event(), threading.Event()

    def double(items: list[int]) -> list[int]:
        calls.append(items)
        entered.set()
        assert go_on.wait(20)
        return [2 * item for item in items]

    batcher = Batcher(double, largest=4)
    with ThreadPoolExecutor(11) as askers:
        first = askers.submit(batcher, [0])
        assert entered.wait(20)
        others = [askers.submit(batcher, [n, n + 100]) for n in range(1, 6)]
        while len(batcher._waiting) < 5:
            pass
        go_on.set()
        assert first.result(20) == [0]
        assert [f.result(20) for f in others] == [[2 * n, 2 * n + 200] for n in range(1, 6)]
    assert [len(call) for call in calls] == [1, 4, 4, 2]


def test_a_request_larger_than_a_call_goes_whole() -> None:
    batcher = Batcher(lambda items: [len(items)] * len(items), largest=4)
    assert batcher(range(10)) == [10] * 10


def test_nothing_in_nothing_out() -> None:
    batcher = Batcher(lambda items: items, largest=4)
    assert batcher([]) == []


def test_a_fault_reaches_only_who_caused_it() -> None:
    entered, go_on = threading.Event(), threading.Event()

    def invert(items: list[float]) -> list[float]:
        entered.set()
        assert go_on.wait(20)
        return [1 / item for item in items]

    batcher = Batcher(invert, largest=8)
    with ThreadPoolExecutor(4) as askers:
        first = askers.submit(batcher, [1.0])
        assert entered.wait(20)
        good, bad = askers.submit(batcher, [2.0]), askers.submit(batcher, [4.0, 0.0])
        while len(batcher._waiting) < 2:
            pass
        go_on.set()
        assert first.result(20) == [1.0]
        assert good.result(20) == [0.5]
        with pytest.raises(ZeroDivisionError):
            bad.result(20)
    assert batcher([5.0]) == [0.2]
