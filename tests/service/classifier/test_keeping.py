"""A feedback store that does not answer, here a database file that somebody else has locked."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from models.inference.feedback import FeedbackFailed
from models.inference.feedback_store import FeedbackStore
from service.classifier import keeping
from service.classifier.keeping import Keeper
from tests.models.inference.test_feedback import record
from tests.service.asking import until


@contextmanager
def locked(path: Path) -> Iterator[None]:
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        yield


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(keeping, "_SECONDS", 0.3)
    monkeypatch.setattr(keeping, "_SECONDS_AT_ONE", 0.2)
    monkeypatch.setattr(keeping, "_SECONDS_APART", 0.1)
    monkeypatch.setattr(keeping, "_SECONDS_AFTER_FAILURE", 0.1)
    return tmp_path / "feedback.db"


def test_nobody_waits_for_a_store_that_does_not_answer(path: Path) -> None:
    with FeedbackStore(path, create=True) as store, ThreadPoolExecutor(2) as askers:
        keeper = Keeper(store)
        assert keeper.add(record(1)) == 1
        assert not keeper.failing
        with locked(path):
            began = time.monotonic()
            first = askers.submit(keeper.add, record(2))
            assert until(lambda: keeper._since is not None)
            second = askers.submit(keeper.add, record(3))
            with pytest.raises(FeedbackFailed, match=r"for 0\.3 seconds, so whether this was kept"):
                first.result()
            with pytest.raises(FeedbackFailed, match=r"for 0\.3 seconds, nothing was kept"):
                second.result()
            with pytest.raises(FeedbackFailed, match=r"somebody else .* nothing was kept"):
                keeper.add(record(4))
            assert time.monotonic() - began < 2
            assert keeper.failing
        # The first one's was at the store all the time.
        assert until(lambda: not keeper.failing)
        assert keeper.add(record(5)) == 3
        assert [int(each.sha256, 16) for each in store.read()] == [1, 2, 5]


def test_a_store_that_failed_is_looked_at_again(path: Path) -> None:
    with FeedbackStore(path, create=True) as store:
        keeper = Keeper(store)
        content = path.read_bytes()
        store.close()
        path.write_bytes(b"no database")
        with pytest.raises(FeedbackFailed, match=r"can't be written .* nothing was kept"):
            keeper.add(record(1))
        assert keeper.failing
        path.write_bytes(content)
        assert until(lambda: not keeper.failing)
        # One that is not asked for anything is found to fail as well.
        store.close()
        path.write_bytes(b"no database")
        assert until(lambda: keeper.failing)
