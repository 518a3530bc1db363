"""Requests counted in one process, and by several in a real Redis."""

from __future__ import annotations

import logging
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from limits import RateLimitItemPerMinute

from service.access import counting
from service.access.counting import Counter
from service.settings import SettingsError
from tests.service.asking import Keys, Server, free_port, listening, run_service, until

THREE = RateLimitItemPerMinute(3)


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """Start a Redis; give its address and process."""
    pytest.importorskip("redis")
    program = shutil.which("redis-server")
    if program is None:
        pytest.skip("no redis-server on this machine")
    port = free_port()
    words = [program, "--port", str(port), "--save", "", "--dir", str(tmp_path)]
    process = subprocess.Popen([*words, "--requirepass", "secret"], stdout=subprocess.DEVNULL)
    assert until(lambda: listening(port))
    yield f"redis://:secret@127.0.0.1:{port}", process
    process.kill()
    process.wait()


def test_who_is_counted_apart_is_limited_apart() -> None:
    counter = Counter()
    assert [counter.hit(THREE, "one") for _ in range(3)] == [None] * 3
    left = counter.hit(THREE, "one")
    assert left is not None
    assert 50 < left <= 60
    assert counter.hit(THREE, "other") is None
    assert Counter().hit(THREE, "one") is None


def test_processes_with_the_same_store_count_together(
    redis: tuple[str, subprocess.Popen[bytes]],
) -> None:
    one, other = Counter(redis[0]), Counter(redis[0])
    assert [counter.hit(THREE, "who") for counter in (one, other, one)] == [None] * 3
    for counter in (one, other):
        left = counter.hit(THREE, "who")
        assert left is not None
        assert 50 < left <= 60


def test_while_the_store_is_away_the_process_counts_alone(
    redis: tuple[str, subprocess.Popen[bytes]],
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    address, process = redis
    monkeypatch.setattr(counting, "_SECONDS_APART", 0.0)
    counter = Counter(address)
    assert counter.hit(THREE, "who") is None
    process.kill()
    process.wait()
    with caplog.at_level(logging.WARNING):
        assert [counter.hit(THREE, "who") for _ in range(3)] == [None] * 3
        assert counter.hit(THREE, "who") is not None
    assert "counted in this process alone" in caplog.text
    assert "secret" not in caplog.text


@pytest.fixture
def _in_a_hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(counting, "_OF_REDIS", dict.fromkeys(counting._OF_REDIS, 0.2))


@pytest.mark.usefixtures("_in_a_hurry")
def test_a_store_that_says_nothing_is_not_waited_for(
    redis: tuple[str, subprocess.Popen[bytes]],
) -> None:
    address, process = redis
    counter = Counter(address)
    assert counter.hit(THREE, "who") is None
    process.send_signal(signal.SIGSTOP)
    began = time.monotonic()
    assert [counter.hit(THREE, "who") for _ in range(3)] == [None] * 3
    assert counter.hit(THREE, "who") is not None
    with pytest.raises(SettingsError, match="does not answer"):
        Counter(address)
    assert time.monotonic() - began < 3
    process.send_signal(signal.SIGCONT)


def test_a_store_that_is_not_there_is_one_sentence_without_its_password() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    addresses = [f"redis://:secret@127.0.0.1:{port}", "nowhere://:secret@there", "secret"]
    for address in addresses:
        with pytest.raises(SettingsError, match="--rate-storage") as told:
            Counter(address)
        assert "secret" not in str(told.value)


@pytest.mark.usefixtures("_in_a_hurry")
@pytest.mark.parametrize("kind", ["redis", "redis+sentinel", "redis+cluster"])
def test_a_store_that_takes_a_line_and_says_nothing_is_one_sentence(kind: str) -> None:
    pytest.importorskip("redis")
    began = time.monotonic()
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"{kind}://:secret@127.0.0.1:{silent.getsockname()[1]}/name"
        with pytest.raises(SettingsError, match=r"--rate-storage does not answer") as told:
            Counter(address)
    assert "secret" not in str(told.value)
    assert time.monotonic() - began < 3


@pytest.mark.slow
def test_two_services_share_a_limit(
    bundle: Path,
    start: Callable[..., Server],
    keys: Keys,
    redis: tuple[str, subprocess.Popen[bytes]],
) -> None:
    options = ("--keys", str(keys.file), "--rate-limit", "4/minute", "--rate-storage", redis[0])
    servers = [start(bundle, *options) for _ in range(2)]
    found = [
        server.ask("GET", "/api/v1/model", None, keys.header("classify")).status
        for server in servers * 3
    ]
    assert found == [200] * 4 + [429] * 2


def test_a_store_that_does_not_answer_ends_the_start(tmp_path: Path) -> None:
    run = run_service(
        "--bundle", tmp_path, "--port", "0", "--rate-storage", f"redis://127.0.0.1:{free_port()}"
    )
    assert run.returncode == 1
    assert "--rate-storage" in run.stderr
    assert len(run.stderr.strip().splitlines()) == 1
