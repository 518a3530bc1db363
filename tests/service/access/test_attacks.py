"""What strangers send: nothing crashes, is written, or is shown that should not be."""

from __future__ import annotations

import contextlib
import os
import random
import socket
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.service.asking import Answer, Server, lesion_jpeg, multipart, noise_png

Start = Callable[..., Server]
CLASSIFY = "/api/v1/classify"

fuzzed = settings(
    max_examples=60, deadline=None, suppress_health_check=[*HealthCheck], derandomize=True
)


def sane(answer: Answer) -> None:
    assert answer.status < 500
    assert b"Traceback" not in answer.body
    assert b'File "' not in answer.body


def raw(server: Server, data: bytes) -> bytes:
    """Send bytes as they are and give what comes back."""
    received = bytearray()
    with (
        socket.create_connection(("127.0.0.1", server.port), timeout=20) as connection,
        contextlib.suppress(OSError),
    ):
        connection.sendall(data)
        connection.shutdown(socket.SHUT_WR)
        while piece := connection.recv(65536):
            received += piece
    return bytes(received)


names = st.text(st.characters(codec="latin-1", exclude_characters="\r\n\0"), max_size=200)


@fuzzed
@given(name=names, value=names)
def test_headers_of_any_content(server: Server, name: str, value: str) -> None:
    known = random.Random(name).choice(  # noqa: S311
        ["X-Request-ID", "Authorization", "Cookie", "Origin", "Sec-Fetch-Site", "Content-Type",
         "Content-Length", "X-Forwarded-For", "X-Forwarded-Prefix", "Host", "Accept", name]
    )  # fmt: skip
    head = f"POST {CLASSIFY} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
    answer = raw(server, head.encode() + f"{known}: {value}\r\n\r\n".encode("latin-1"))
    assert b"Traceback" not in answer
    assert answer[9:10] in b"2345"
    assert answer[9:12] not in (b"500",)
    # A header that came in never makes one that goes out.
    assert answer.count(b"X-Request-Id:") <= 1
    assert server.get("/healthz").status == 200


@fuzzed
@given(boundary=st.text(max_size=80), body=st.binary(max_size=2000), cut=st.integers(0, 400))
def test_multipart_of_any_content(server: Server, boundary: str, body: bytes, cut: int) -> None:
    mark = boundary.encode("ascii", "ignore").replace(b"\r", b"").replace(b"\n", b"")
    whole, _ = multipart([("image", "mole.jpg", body)])
    sent = whole[: max(0, len(whole) - cut)]
    real = whole[2 : whole.index(b"\r\n")]
    for announced in (mark, real):
        content_type = b"multipart/form-data; boundary=" + announced
        answer = raw(
            server,
            b"POST %s HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Type: %s\r\n"
            b"Content-Length: %d\r\n\r\n%s" % (CLASSIFY.encode(), content_type, len(sent), sent),
        )
        assert answer[9:12] in (b"400", b"413", b"415", b"422")
        assert b"Traceback" not in answer


def test_a_thousand_fields_and_a_thousand_headers(server: Server, lesion: bytes) -> None:
    parts = [(f"field{number}", None, b"x") for number in range(3000)]
    answer = server.send(CLASSIFY, *parts, ("image", "mole.jpg", lesion))
    assert answer.status in (200, 413)
    lines = b"".join(b"X-%d: y\r\n" % number for number in range(5000))
    answer_bytes = raw(server, b"GET / HTTP/1.1\r\nHost: localhost\r\n" + lines + b"\r\n")
    assert answer_bytes[9:12] in (b"200", b"431", b"400")
    large = server.send(CLASSIFY, ("label", None, bytes(2 * 1024**2)))
    assert large.status in (400, 413)


@pytest.mark.parametrize(
    "name",
    [
        "../../../../etc/passwd",
        "..\\..\\windows\\system32\\config",
        "/etc/shadow",
        "C:\\Users\\x.jpg",
        "file:///etc/passwd",
        "\N{RIGHT-TO-LEFT OVERRIDE}gpj.exe",
        "a" * 5000,
        "'; DROP TABLE feedback; --",
        "{{ 7 * 7 }}{% raw %}",
        "<img src=x onerror=alert(1)>.jpg",
        "javascript:alert(1)",
        "con.jpg",
        ".",
    ],
)
def test_tricks_in_file_names_are_only_names(
    server: Server, lesion: bytes, name: str, tmp_path: Path
) -> None:
    for content in (lesion, b"words"):
        answer = server.classify((name, content))
        sane(answer)
        assert len(answer.json["results"][0]["filename"]) <= 255
        page = server.send_form("/", ("image", name, content))
        sane(page)
        assert "<img src=x" not in page.text
        assert "root:" not in page.text
        assert "49" not in page.text or "{{ 7 * 7 }}" not in name or "{{ 7 * 7 }}" in page.text


@pytest.mark.parametrize(
    "path",
    [
        "/static/../service/settings.py",
        "/static/%2e%2e/settings.py",
        "/static/..%2f..%2fsetup.cfg",
        "/static//etc/passwd",
        "/static/%00",
        "/report/../../etc/passwd",
        "/%ff%fe",
        "/docs%0d%0aSet-Cookie:%20a=b",
        "//evil.example/",
        "/sign-in?next=//evil.example",
        "/?" + "a" * 10_000,
    ],
)
def test_tricks_in_addresses_lead_nowhere(server: Server, path: str) -> None:
    answer = server.get(path)
    sane(answer)
    assert "Location" not in answer.headers
    assert "a=b" not in str(answer.headers)
    assert b"root:" not in answer.body
    assert b"install_requires" not in answer.body


def mutated(image: bytes, rng: random.Random) -> bytes:
    data = bytearray(image)
    for _ in range(rng.randint(1, 30)):
        place = rng.randrange(len(data))
        match rng.randrange(4):
            case 0:
                data[place] = rng.randrange(256)
            case 1:
                del data[place : place + rng.randint(1, 50)]
            case 2:
                data[place:place] = rng.randbytes(rng.randint(1, 20))
            case _:
                data[place : place + 4] = rng.choice([bytes(4), b"\xff" * 4, b"\x7f\xff\xff\xff"])
        if len(data) < 4:
            break
    return bytes(data)


def send_mutated(server: Server, count: int) -> None:
    rng = random.Random(0)  # noqa: S311
    seeds = [lesion_jpeg(size=64), noise_png(40)]
    for _ in range(0, count, 20):
        images = [(f"{n}", mutated(rng.choice(seeds), rng)) for n in range(20)]
        answer = server.classify(*images)
        sane(answer)
        assert len(answer.json["results"]) == 20
    assert server.errors.read_text() == ""


def test_mutated_images(server: Server) -> None:
    send_mutated(server, 400)


@pytest.mark.slow
def test_ten_thousand_mutated_images_leave_no_trace_in_memory(bundle: Path, start: Start) -> None:
    server = start(bundle)
    send_mutated(server, 2000)
    before = resident(server)
    send_mutated(server, 8000)
    assert resident(server) - before < 60


def resident(server: Server) -> float:
    """Give the memory of the process in MB."""
    pages = int(Path(f"/proc/{server.process.pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1024**2


@pytest.mark.real_data
def test_every_file_of_the_robustness_collection(server: Server, real_data: Path) -> None:
    files = [path for path in sorted((real_data / "data" / "robustness").rglob("*"))
             if path.is_file() and path.stat().st_size < 7 * 1024**2]  # fmt: skip
    if not files:
        pytest.skip("the collection is not there")
    for path in files:
        answer = server.classify((path.name, path.read_bytes()))
        sane(answer)
        (result,) = answer.json["results"]
        assert "decision" in result or result["error"]["message"]
    assert server.errors.read_text() == ""


def test_two_hundred_connections_at_once(server: Server) -> None:
    image = lesion_jpeg(size=64)
    with contextlib.ExitStack() as stack:
        idle = [
            stack.enter_context(socket.create_connection(("127.0.0.1", server.port), timeout=30))
            for _ in range(100)
        ]
        for connection in idle:
            connection.sendall(b"POST /api/v1/classify HTTP/1.1\r\nHost: localhost\r\n")
        with ThreadPoolExecutor(100) as clients:
            answers = list(clients.map(lambda _: server.classify(("a.jpg", image)), range(200)))
    statuses = [answer.status for answer in answers]
    assert set(statuses) <= {200, 503}
    assert statuses.count(200) >= 32
    assert all(a.json["code"] == "busy" for a in answers if a.status == 503)
    assert server.get("/readyz").status == 200
    assert server.errors.read_text() == ""
