from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from service.classifier.batching import Batcher
from service.problems import Problem


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
        while batcher.waiting < 10:
            pass
        go_on.set()
        assert first.result(20) == [0]
        assert [f.result(20) for f in others] == [[2 * n, 2 * n + 200] for n in range(1, 6)]
    assert [len(call) for call in calls] == [1, 4, 4, 2]


def test_a_request_larger_than_a_call_takes_several() -> None:
    batcher = Batcher(lambda items: [(item, len(items)) for item in items], largest=4)
    assert batcher(range(10)) == [(n, 4 if n < 8 else 2) for n in range(10)]


def test_calls_at_the_same_time_keep_the_order_of_a_request() -> None:
    both = threading.Barrier(2, timeout=20)

    def work(items: list[int]) -> list[int]:
        assert len(items) == 1
        both.wait()
        return items

    batcher = Batcher(work, largest=1, calls=2)
    assert batcher(range(8)) == list(range(8))


def test_what_was_given_up_is_not_worked_on() -> None:
    entered, go_on, seen = threading.Event(), threading.Event(), []

    def work(items: list[int]) -> list[int]:
        seen.extend(items)
        entered.set()
        assert go_on.wait(20)
        return items

    batcher = Batcher(work, largest=1)
    with ThreadPoolExecutor(1) as askers:
        first = askers.submit(batcher, [0])
        assert entered.wait(20)
        with pytest.raises(Problem, match=r"waited 0\.05 seconds"):
            batcher([1, 2], 0.05)
        go_on.set()
        assert first.result(20) == [0]
        assert askers.submit(batcher, [3]).result(20) == [3]
    assert seen == [0, 3]


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
        while batcher.waiting < 3:
            pass
        go_on.set()
        assert first.result(20) == [1.0]
        assert good.result(20) == [0.5]
        with pytest.raises(ZeroDivisionError):
            bad.result(20)
    assert batcher([5.0]) == [0.2]
