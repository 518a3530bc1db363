"""Several processes under gunicorn."""

from __future__ import annotations

import http.client
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from service import create_app
from tests.conftest import ROOT
from tests.service.asking import Keys, Server, free_port, lesion_jpeg, until

pytestmark = pytest.mark.slow


def alive(server: Server) -> bool:
    try:
        return server.get("/readyz").status == 200
    except (OSError, http.client.HTTPException):
        return False


@pytest.fixture
def workers(own_bundle: Path, keys: Keys, tmp_path: Path) -> Iterator[Server]:
    """Start two workers."""
    errors, port = tmp_path / "stderr.txt", free_port()
    environment = {
        **os.environ,
        "LESION_BUNDLE": str(own_bundle),
        "LESION_KEYS": str(keys.file),
        "LESION_FEEDBACK": str(tmp_path / "feedback.db"),
        "LESION_PORT": str(port),
        "WEB_CONCURRENCY": "2",
    }
    words = ["-m", "gunicorn", "-c", "python:service.workers", "service:create_app()"]
    with errors.open("w") as stderr:
        process = subprocess.Popen(
            [sys.executable, *words], env=environment, stderr=stderr, text=True, cwd=ROOT
        )
    server = Server(process, f"http://127.0.0.1:{port}/", "", errors)
    assert until(lambda: alive(server) and len(children(process.pid)) == 2, 180), errors.read_text()
    yield server
    process.terminate()
    process.wait(60)


def children(pid: int) -> set[int]:
    listed = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    return {int(child) for child in listed.split()}


def identities(server: Server, keys: Keys, times: int = 20) -> set[str]:
    asked = [
        server.ask("GET", "/api/v1/model", None, {**keys.header("classify"), "Connection": "close"})
        for _ in range(times)
    ]
    return {answer.json["model"]["id"] for answer in asked}


def serving(server: Server, keys: Keys, identity: str) -> int:
    """Count the processes that have read a bundle: one that has not yet isn't asked anything."""
    metrics = server.ask("GET", "/metrics", None, keys.header("metrics")).text
    of = re.findall(r"^lesion_bundle_created_seconds{(.*)}", metrics, re.MULTILINE)
    return sum(f'bundle="{identity}"' in labels for labels in of)


def spoil(bundle: Path) -> None:
    with (bundle / "head.linear.safetensors").open("r+b") as head:
        head.seek(100)
        head.write(b"!")


def test_workers_count_together_and_honour_each_other_s_forms(
    workers: Server, keys: Keys, lesion: bytes
) -> None:
    with ThreadPoolExecutor(4) as clients:
        answers = list(
            clients.map(
                lambda _: workers.classify(("mole.jpg", lesion), **keys.header("classify")),
                range(24),
            )
        )
    assert {answer.status for answer in answers} == {200}
    assert len({answer.json["results"][0]["probability"] for answer in answers}) == 1
    metrics = workers.ask("GET", "/metrics", None, keys.header("metrics")).text
    found = re.search(r"^lesion_probability_count (\S+)", metrics, re.MULTILINE)
    assert found
    assert float(found[1]) == 24
    secret = ("key", None, keys.of["classify"].encode())
    for _ in range(8):
        answer = workers.send_form("/sign-in", secret)
        assert answer.status == 303
        cookie = answer.headers["Set-Cookie"].partition(";")[0]
        assert workers.send_form("/", ("image", "a.jpg", lesion), cookie=cookie).status == 200


def test_a_killed_worker_is_replaced_and_the_others_serve_on(workers: Server, keys: Keys) -> None:
    over, image = threading.Event(), lesion_jpeg(size=96)
    statuses: list[int] = []

    def ask() -> None:
        while not over.is_set():
            try:
                answer = workers.classify(("mole.jpg", image), **keys.header("classify"))
            except (OSError, http.client.HTTPException):
                # What the killed one was working on is lost with its connection.
                statuses.append(0)
            else:
                statuses.append(answer.status)

    with ThreadPoolExecutor(4) as clients:
        running = [clients.submit(ask) for _ in range(4)]
        try:
            assert until(lambda: statuses.count(200) > 10, 60), workers.errors.read_text()
            before = children(workers.process.pid)
            os.kill(min(before), signal.SIGKILL)
            assert until(lambda: len(children(workers.process.pid) - before) == 1, 60)
            served = statuses.count(200)
            assert until(lambda: statuses.count(200) > served + 20, 60)
        finally:
            over.set()
        for each in running:
            each.result()
    assert set(statuses) <= {0, 200}
    assert statuses.count(0) <= 8


def test_all_workers_take_another_bundle_and_none_an_altered_one(
    workers: Server, keys: Keys, own_bundle: Path, other_bundle: Path
) -> None:
    (before,) = identities(workers, keys)
    aside = own_bundle.with_name("replaced")
    own_bundle.rename(aside)
    shutil.copytree(other_bundle, own_bundle)
    old = children(workers.process.pid)
    reload = workers.ask("POST", "/api/v1/reload", None, keys.header("admin"))
    assert reload.status == 200
    after = reload.json["now"][:16]
    assert after != before
    # The others follow once gunicorn's master has verified it too.
    assert until(lambda: not old & children(workers.process.pid), 120)
    assert until(lambda: serving(workers, keys, after) == 2, 60)
    assert identities(workers, keys) == {after}
    spoil(own_bundle)
    refused = workers.ask("POST", "/api/v1/reload", None, keys.header("admin"))
    assert refused.status == 409
    workers.process.send_signal(signal.SIGHUP)
    assert until(lambda: "The old bundle stays in service" in workers.errors.read_text(), 60)
    assert identities(workers, keys) == {after}


def test_workers_that_others_could_reach_need_keys(bundle: Path) -> None:
    words = ["-m", "gunicorn", "-c", "python:service.workers", "service:create_app()"]
    run = subprocess.run(
        [sys.executable, *words],
        env={**os.environ, "LESION_BUNDLE": str(bundle), "LESION_HOST": "0.0.0.0",  # noqa: S104
             "LESION_PORT": str(free_port())},
        capture_output=True, text=True, check=False, timeout=60, cwd=ROOT,
    )  # fmt: skip
    assert run.returncode != 0
    assert "Without keys the service does not listen on 0.0.0.0" in run.stderr


def test_a_network_loaded_before_a_fork_is_not_used_after_it(
    bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LESION_BUNDLE", str(bundle))
    app = create_app()
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(writer, str(app.test_client().get("/readyz").status_code).encode())
        os._exit(0)
    os.waitpid(child, 0)
    assert os.read(reader, 10) == b"503"
    assert app.test_client().get("/readyz").status_code == 200


@pytest.mark.parametrize(
    "words", [["-c", "python:service.workers"], ["--bind", "127.0.0.1:0"]], ids=["ours", "plain"]
)
def test_loading_before_the_processes_are_made_is_refused_at_start(
    own_bundle: Path, words: list[str], tmp_path: Path
) -> None:
    """A network's threads are not there after a fork: each request would wait for them for ever."""
    done = subprocess.run(
        [sys.executable, "-m", "gunicorn", "--preload", *words, "service:create_app()"],
        env={**os.environ, "LESION_BUNDLE": str(own_bundle), "LESION_PORT": str(free_port())},
        capture_output=True,
        text=True,
        cwd=ROOT,
        timeout=180,
        check=False,
    )
    assert done.returncode != 0
    assert "leave --preload out" in done.stderr
