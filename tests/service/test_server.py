from __future__ import annotations

import contextlib
import os
import resource
import signal
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.service.asking import (
    Server,
    free_port,
    lesion_jpeg,
    listening,
    multipart,
    noise_png,
    run_service,
    until,
    wait_for,
)

CLASSIFY = "/api/v1/classify"
Spawn = Callable[..., "subprocess.Popen[str]"]


def request_bytes(image: bytes, path: str = CLASSIFY) -> bytes:
    body, content_type = multipart([("image", "mole.jpg", image)])
    head = (
        f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: {content_type}\r\n"
        f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    )
    return head.encode() + body


def connect(server: Server) -> socket.socket:
    return socket.create_connection(("127.0.0.1", server.port), timeout=60)


def read_all(connection: socket.socket) -> bytes:
    received = bytearray()
    while piece := connection.recv(65536):
        received += piece
    return bytes(received)


def hang_up(connection: socket.socket) -> None:
    """Close as a killed process does: with a reset."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


def test_it_says_where_it_is_and_what_it_must_not_be_taken_for(server: Server) -> None:
    assert server.greeting.startswith(f"Ready at http://127.0.0.1:{server.port}/ ")
    assert "logistic_regression" in server.greeting
    assert "inception_v3/untrained" in server.greeting
    assert server.greeting.endswith("[untrained, synthetic]\n")


def test_help_is_quick_and_names_every_variable() -> None:
    started = time.monotonic()
    run = run_service("--help")
    assert time.monotonic() - started < 2
    assert run.returncode == 0
    for name in ("BUNDLE", "WEIGHTS", "HOST", "PORT", "THREADS", "MAX_UPLOAD_MB", "MAX_IMAGES"):
        assert f"LESION_{name}" in run.stdout.replace("\n", " ")


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["--bundle", "nowhere", "--port", "70000"], "70000"),
        (["--bundle", "nowhere", "--port", "many"], "many"),
        (["--bundle", "nowhere", "--port", "0", "--host", "no.such.host.invalid"], "--host"),
        (["--bundle", "nowhere", "--port", "0"], "nowhere"),
        ([], "--bundle"),
        (["--bundle", "nowhere", "--colour", "red"], "--colour"),
    ],
)
def test_what_a_user_can_mend_is_one_sentence(arguments: list[str], named: str) -> None:
    run = run_service(*arguments)
    assert run.returncode == 1
    assert run.stdout == ""
    assert named in run.stderr
    assert len(run.stderr.strip().splitlines()) == 1


def test_a_port_in_use_is_one_sentence(server: Server, bundle: Path) -> None:
    run = run_service("--bundle", bundle, "--port", str(server.port))
    assert run.returncode == 1
    assert f"port {server.port} is in use" in run.stderr
    assert len(run.stderr.strip().splitlines()) == 1


def test_an_altered_bundle_is_refused(bundle: Path, tmp_path: Path) -> None:
    altered = tmp_path / "altered"
    altered.mkdir()
    for file in bundle.iterdir():
        (altered / file.name).write_bytes(file.read_bytes())
    with (altered / "head.linear.safetensors").open("r+b") as head:
        head.seek(100)
        head.write(b"!")
    run = run_service("--bundle", altered, "--port", "0")
    assert run.returncode == 1
    assert "altered" in run.stderr
    assert len(run.stderr.strip().splitlines()) == 1


def test_settings_from_variables_and_readiness_that_follows_the_loading(
    bundle: Path, spawn: Spawn, tmp_path: Path, lesion: bytes
) -> None:
    port = free_port()
    process = spawn(
        env={**os.environ, "LESION_BUNDLE": str(bundle), "LESION_PORT": str(port)},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    early = Server(process, f"http://127.0.0.1:{port}/", "", tmp_path)
    assert until(lambda: listening(port))
    assert early.get("/readyz").status == 503
    assert early.get("/healthz").status == 200
    refused = early.classify(("mole.jpg", lesion))
    assert (refused.status, refused.json["code"]) == (503, "not_ready")
    assert int(refused.headers["Retry-After"]) > 0
    page = early.get("/")
    assert page.status == 503
    assert "being loaded" in page.text
    ready = wait_for(process, tmp_path)
    assert ready.port == port
    assert ready.get("/readyz").status == 200
    assert ready.classify(("mole.jpg", lesion)).status == 200
    assert ready.stop(signal.SIGINT) == 0
    assert process.stdout
    assert process.stdout.read() == ""


def test_a_stop_while_loading_is_clean(bundle: Path, spawn: Spawn) -> None:
    port = free_port()
    process = spawn(
        "--bundle", bundle, "--port", str(port), stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert until(lambda: listening(port))
    process.terminate()
    assert process.communicate(timeout=20) == ("", "")
    assert process.returncode == 0


def test_a_stop_finishes_the_request_in_flight(
    bundle: Path, start: Callable[..., Server], lesion: bytes
) -> None:
    server = start(bundle)
    request = request_bytes(lesion)
    with connect(server) as idle, connect(server) as connection:
        idle.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
        answer = b""
        while b"alive" not in answer:
            answer += idle.recv(65536)
        connection.sendall(request[: len(request) // 2])
        time.sleep(0.5)
        server.process.terminate()
        assert until(lambda: not listening(server.port))
        assert server.process.poll() is None
        connection.sendall(request[len(request) // 2 :])
        answer = read_all(connection)
        assert answer.startswith(b"HTTP/1.1 200")
        assert b'"decision"' in answer
    assert server.process.wait(20) == 0
    assert server.errors.read_text() == ""


@pytest.mark.skipif(
    not hasattr(resource, "prlimit"), reason="only Linux can forbid a process to write files"
)
def test_uploads_and_answers_never_touch_the_disk(
    bundle: Path, start: Callable[..., Server], tmp_path: Path
) -> None:
    server = start(bundle, env={**os.environ, "TMPDIR": str(tmp_path)}, cwd=tmp_path)
    before = sorted(tmp_path.rglob("*"))
    # Not earlier: TensorFlow looks for a place where it could write when it is imported.
    resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE, (0, 0))
    large = noise_png(1400)
    assert len(large) > 5 * 1024**2
    assert server.classify(("large.png", large)).status == 200
    page = server.send_form("/", *(("image", f"{n}.png", noise_png(448)) for n in range(12)))
    assert page.status == 200
    assert len(page.body) > 1024**2
    assert sorted(tmp_path.rglob("*")) == before
    assert server.errors.read_text() == ""


def test_clients_that_hang_up_disturb_nobody(server: Server, lesion: bytes) -> None:
    request = request_bytes(noise_png(1200))
    for share in (0.0005, 0.3, 0.9, 1):
        connection = connect(server)
        connection.sendall(request[: int(len(request) * share)])
        hang_up(connection)
    # One that takes a part of a long answer.
    connection = connect(server)
    connection.sendall(request_bytes(noise_png(300), "/api/v1/embed"))
    assert connection.recv(100).startswith(b"HTTP/1.1 200")
    hang_up(connection)
    assert server.classify(("mole.jpg", lesion)).status == 200
    assert server.errors.read_text() == ""


def test_twenty_at_once_get_each_their_own_answer_beside_slow_and_dying_clients(
    server: Server,
) -> None:
    images = {f"{seed}.jpg": lesion_jpeg(seed, size=128) for seed in range(20)}
    alone = {
        name: server.classify((name, image)).json["results"][0]["probability"]
        for name, image in images.items()
    }
    request = request_bytes(images["0.jpg"])
    slow, dying = connect(server), connect(server)
    slow.sendall(request[:200])
    dying.sendall(request[:-100])
    with ThreadPoolExecutor(20) as clients:
        answers = clients.map(server.classify, images.items())
        hang_up(dying)
        together = {}
        for answer in answers:
            assert answer.status == 200
            (result,) = answer.json["results"]
            together[result["filename"]] = result["probability"]
    assert together == pytest.approx(alone, abs=1e-5)
    assert len({round(probability, 6) for probability in together.values()}) > 10
    with slow:
        for start in range(200, len(request), len(request) // 5):
            slow.sendall(request[start : start + len(request) // 5])
            time.sleep(0.1)
        assert read_all(slow).startswith(b"HTTP/1.1 200")
    assert server.errors.read_text() == ""


def test_a_client_that_asks_before_sending_too_much_is_told_at_once(server: Server) -> None:
    with connect(server) as connection:
        connection.sendall(
            b"POST /api/v1/classify HTTP/1.1\r\nHost: localhost\r\n"
            b"Content-Type: multipart/form-data; boundary=x\r\n"
            b"Content-Length: 99000000\r\nExpect: 100-continue\r\n\r\n"
        )
        answer = read_all(connection)
    assert answer.startswith(b"HTTP/1.1 413")
    assert b"too_large" in answer


@pytest.mark.parametrize(
    "nonsense",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
        b"GET / HTTP/1.1\r\nno colon here\r\n\r\n",
        b"POST /api/v1/classify HTTP/1.1\r\nContent-Length: -5\r\n\r\n",
        b"POST /api/v1/classify HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"GET /" + b"a" * 300_000 + b" HTTP/1.1\r\n\r\n",
    ],
)
def test_nonsense_on_the_wire_ends_that_connection_only(server: Server, nonsense: bytes) -> None:
    with connect(server) as connection:
        answer = b""
        with contextlib.suppress(ConnectionError):
            connection.sendall(nonsense)
            answer = read_all(connection)
    assert answer == b"" or answer.split()[1] in {b"400", b"431"}
    assert server.get("/healthz").status == 200
    assert server.errors.read_text() == ""


def test_no_database_is_imported_where_no_feedback_is_kept() -> None:
    program = (
        "import sys; from service import app, server; from models.inference import classifier; "
        "print('sqlalchemy' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "False"
