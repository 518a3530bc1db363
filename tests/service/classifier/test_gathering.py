"""Items of several threads go through together where others are coming; nobody waits in vain."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import pytest

from service.classifier import gathering
from service.classifier.gathering import Gathering


class Work:
    """Doubles numbers, and fails on 13."""

    def __init__(self) -> None:
        self.calls: list[int] = []
        self.more = True

    def __call__(self, items: Sequence[int]) -> list[int]:
        self.calls.append(len(items))
        if 13 in items:
            raise ValueError("13")
        return [2 * item for item in items]

    def gathering(self) -> Gathering[int, int]:
        return Gathering(self, lambda: self.more)


def test_while_others_come_four_go_together() -> None:
    work = Work()
    gathered = work.gathering()
    with ThreadPoolExecutor(8) as askers:
        assert list(askers.map(gathered, range(8))) == [0, 2, 4, 6, 8, 10, 12, 14]
    assert work.calls == [4, 4]


def test_nobody_waits_where_none_is_coming() -> None:
    work = Work()
    work.more = False
    began = time.monotonic()
    assert work.gathering()(21) == 42
    assert time.monotonic() - began < gathering._SECONDS / 2


def test_the_last_that_comes_takes_along_who_waits() -> None:
    work = Work()
    gathered = work.gathering()
    with ThreadPoolExecutor(1) as askers:
        first = askers.submit(gathered, 1)
        while not gathered._waiting:
            time.sleep(0.001)
        work.more = False
        assert gathered(2) == 4
        assert first.result() == 2
    assert work.calls == [2]


def test_who_is_left_waiting_goes_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gathering, "_SECONDS", 0.05)
    work = Work()
    assert work.gathering()(21) == 42
    assert work.calls == [1]


def test_none_fails_for_another_s_sake() -> None:
    work = Work()
    gathered = work.gathering()
    together = threading.Barrier(4, timeout=10)

    def ask(number: int) -> int | str:
        together.wait()
        try:
            return gathered(number)
        except ValueError as error:
            return str(error)

    with ThreadPoolExecutor(4) as askers:
        assert list(askers.map(ask, [1, 13, 3, 4])) == [2, "13", 6, 8]
    assert sorted(work.calls) == [1, 1, 1, 1, 4]
