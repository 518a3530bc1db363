"""Feedback in a real PostgreSQL: several writers, a server that goes away, and no password told."""

from __future__ import annotations

import contextlib
import os
import re
import socket
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import psutil
import pytest
import sqlalchemy as sql

from models.inference.feedback import FeedbackFailed
from models.inference.feedback_store import FeedbackStore
from tests.conftest import ROOT
from tests.models.inference.postgres import PASSWORD, Postgres
from tests.models.inference.test_feedback import record

# How long nothing may be heard; of a new connection psycopg waits for two seconds at least.
IN_A_HURRY = "tcp_user_timeout=500&connect_timeout=2"
WRITER = textwrap.dedent(
    """
    import sys
    from tests.models.inference.test_feedback import record
    from models.inference.feedback_store import FeedbackStore
    first = int(sys.argv[1])
    store = FeedbackStore(sys.stdin.readline().strip(), create=True)
    print("ready", flush=True)
    sys.stdin.readline()
    for number in range(first, first + 50):
        print(store.add(record(number, image=b"bytes")), flush=True)
    """
)


def test_processes_write_side_by_side_and_nothing_is_lost(postgres: Postgres) -> None:
    url = postgres.database()
    writers = [
        subprocess.Popen(
            [sys.executable, "-c", WRITER, str(first)], text=True, cwd=ROOT,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )
        for first in (0, 50)
    ]  # fmt: skip
    # Both look for the table, and make it, at the same time.
    for writer in writers:
        assert writer.stdin
        writer.stdin.write(f"{url}\n")
        writer.stdin.flush()
    for writer in writers:
        assert writer.stdout
        assert writer.stdout.readline() == "ready\n"
    told = [writer.communicate("\n", timeout=60)[0].split() for writer in writers]
    assert [len(numbers) for numbers in told] == [50, 50]
    with FeedbackStore(url) as store:
        found = store.read()
    assert sorted(int(each.sha256, 16) for each in found) == list(range(100))
    assert sorted(int(number) for numbers in told for number in numbers) == list(range(1, 101))
    assert found[0].embedding.tolist() == [int(found[0].sha256, 16)] * 8


def test_openers_at_the_same_time_all_can(postgres: Postgres) -> None:
    together = threading.Barrier(6, timeout=60)

    def open_store(url: str) -> int:
        together.wait()
        with FeedbackStore(url, create=True) as store:
            return len(store.read())

    with ThreadPoolExecutor(6) as openers:
        for _ in range(5):
            assert list(openers.map(open_store, [postgres.database()] * 6)) == [0] * 6


def test_a_server_that_was_away_is_found_again(postgres: Postgres) -> None:
    url = postgres.database()
    with FeedbackStore(url, create=True) as store:
        assert store.add(record(1)) == 1
        postgres.stop()
        postgres.start()
        assert store.add(record(2)) > 1
        postgres.stop()
        with pytest.raises(FeedbackFailed, match=r"can't be written .* nothing was kept") as told:
            store.add(record(3))
        with pytest.raises(FeedbackFailed, match="can't be opened"):
            FeedbackStore(url, create=True)
        postgres.start()
        assert not told.value.full
        assert "\n" not in str(told.value)
        assert PASSWORD not in str(told.value)
        store.add(record(4))
        assert [int(each.sha256, 16) for each in store.read()] == [1, 2, 4]


def test_a_server_that_is_silent_is_not_waited_for(postgres: Postgres) -> None:
    with FeedbackStore(f"{postgres.database()}?{IN_A_HURRY}", create=True) as store:
        store.add(record(1))
        began = time.monotonic()
        with postgres.silent():
            with pytest.raises(FeedbackFailed, match=r"can't be written .* nothing was kept"):
                store.add(record(2))
            assert time.monotonic() - began < 6
        assert [int(each.sha256, 16) for each in store.read()] == [1]


def test_of_a_line_that_went_silent_the_next_record_knows_nothing(postgres: Postgres) -> None:
    with FeedbackStore(f"{postgres.database()}?{IN_A_HURRY}", create=True) as store:
        with store._engine.connect() as connection:
            process = psutil.Process(connection.scalar(sql.text("SELECT pg_backend_pid()")))
        process.suspend()
        try:
            store.add(record(1))
        finally:
            process.resume()
        assert [int(each.sha256, 16) for each in store.read()] == [1]


@contextlib.contextmanager
def relay(port: int, cut_at: int, *, after: bool, silent: bool) -> Iterator[int]:
    """Pass bytes on to a port, and cut the line when so many commits were seen.

    `after` says whether the last of them still reaches the server, whose answer is swallowed.
    A silent line stays open on both sides, and nothing comes through any more.
    """
    seen = 0
    ends: list[socket.socket] = []
    swallowing: set[socket.socket] = set()

    def cut(*both: socket.socket) -> None:
        for end in () if silent else both:
            end.shutdown(socket.SHUT_RDWR)

    def pump(source: socket.socket, sink: socket.socket, commits: bool) -> None:
        nonlocal seen
        while data := source.recv(1 << 16):
            if commits and b"COMMIT" in data:
                seen += 1
                if seen == cut_at and after:
                    swallowing.add(source)
                elif seen == cut_at:
                    return cut(source, sink)
            if sink in swallowing:
                # What the server answers to that commit, which has taken place.
                return cut(source, sink)
            sink.sendall(data)
        return None

    def quietly(*words: object) -> None:
        with contextlib.suppress(OSError):
            pump(*words)  # type: ignore[arg-type]

    def accept() -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = listener.accept()
                server = socket.create_connection(("127.0.0.1", port))
                ends.extend([client, server])
                for way in ((client, server, True), (server, client, False)):
                    threading.Thread(target=quietly, args=way, daemon=True).start()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=accept, daemon=True).start()
        yield listener.getsockname()[1]
    for end in ends:
        end.close()


@pytest.mark.parametrize("silent", [False, True], ids=["cut", "silent"])
@pytest.mark.parametrize("after", [True, False], ids=["kept", "not kept"])
def test_a_record_is_there_once_though_the_line_is_lost_in_its_commit(
    postgres: Postgres, after: bool, silent: bool
) -> None:
    url = postgres.database()
    with FeedbackStore(url, create=True) as store:
        store.add(record(1))
    with relay(postgres.port, 1, after=after, silent=silent) as port:
        cut = url.replace(f":{postgres.port}/", f":{port}/") + "?sslmode=disable&" + IN_A_HURRY
        with FeedbackStore(cut) as store:
            store.add(record(2))
            store.add(record(3))
            assert [int(each.sha256, 16) for each in store.read()] == [1, 2, 3]


def test_no_message_has_the_password(postgres: Postgres) -> None:
    url = postgres.database()
    wrong = url.replace(PASSWORD, "guessed-one")
    broken = url.replace(f":{postgres.port}/", ":port/")
    inside = re.sub(r"//(\w+):[^@]+@", r"//\1@", url) + "?password=guessed-one"
    for address in (wrong, broken, inside, f"{url}?passfile=guessed-one&nothing=1"):
        with pytest.raises(FeedbackFailed) as told:
            FeedbackStore(address, create=True)
        assert "guessed-one" not in str(told.value)
        assert PASSWORD not in str(told.value)
        assert "\n" not in str(told.value)


def test_another_s_table_of_that_name_is_refused_at_once(postgres: Postgres) -> None:
    url = postgres.database()
    engine = sql.create_engine(url)
    with engine.begin() as connection:
        connection.execute(sql.text("CREATE TABLE feedback (id int, label text, created text)"))
    engine.dispose()
    with pytest.raises(FeedbackFailed, match="without the columns sha256, reviewer"):
        FeedbackStore(url, create=True)


def test_what_is_answered_for_is_on_the_disk_whatever_the_server_s_setting(
    postgres: Postgres,
) -> None:
    url = postgres.database()
    engine = sql.create_engine(url)
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        name = connection.scalar(sql.text("SELECT current_database()"))
        connection.execute(sql.text(f"ALTER DATABASE {name} SET synchronous_commit = off"))
    engine.dispose()
    seen: list[str] = []
    with FeedbackStore(url, create=True) as store:

        @sql.event.listens_for(store._engine, "commit")
        def note(connection: sql.Connection) -> None:
            for setting in ("synchronous_commit", "statement_timeout"):
                seen.append(connection.exec_driver_sql(f"SHOW {setting}").scalar_one())

        store.add(record(1))
    assert seen == ["on", "4s"]


def test_a_driver_that_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(FeedbackFailed, match=r"lesion-classifier\[postgres\]"):
        FeedbackStore("postgresql://somebody:secret@nowhere/name")
