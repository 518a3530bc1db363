"""Ask a real server over a socket, and the images to ask about."""

from __future__ import annotations

import contextlib
import http.client
import io
import json
import os
import re
import secrets
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
from PIL import Image

from features.datasets.drawn import sample_lesion
from features.datasets.drawn_lesion import draw_lesion

READY_SECONDS = 120
Part = tuple[str, str | None, bytes]


def lesion_jpeg(seed: int = 0, label: Any = "melanoma", size: int = 256) -> bytes:
    rng = np.random.default_rng(seed)
    file = io.BytesIO()
    Image.fromarray(draw_lesion(sample_lesion(rng, label), size)).save(file, "JPEG", quality=90)
    return file.getvalue()


def noise_png(side: int) -> bytes:
    """Give an image that no compression makes small."""
    pixels = np.random.default_rng(0).integers(0, 256, (side, side, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG", compress_level=0)
    return file.getvalue()


def multipart(parts: Sequence[Part]) -> tuple[bytes, str]:
    """Encode (field, file name or None, content) and give the body and its content type."""
    boundary = secrets.token_hex(16)
    body = bytearray()
    for field, filename, content in parts:
        body += f'--{boundary}\r\nContent-Disposition: form-data; name="{field}"'.encode()
        if filename is not None:
            body += f'; filename="{filename}"\r\nContent-Type: application/octet-stream'.encode()
        body += b"\r\n\r\n" + content + b"\r\n"
    body += f"--{boundary}--\r\n".encode()
    return bytes(body), f"multipart/form-data; boundary={boundary}"


@dataclass(frozen=True)
class Answer:
    status: int
    headers: http.client.HTTPMessage
    body: bytes

    @property
    def text(self) -> str:
        return self.body.decode()

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass(frozen=True)
class Keys:
    """API keys by name, and the file of their hashes."""

    file: Path
    of: Mapping[str, str]

    def header(self, name: str) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.of[name]}"}


@dataclass(frozen=True)
class Page:
    answer: Answer
    cookie: str
    token: str


@dataclass(frozen=True)
class Server:
    process: subprocess.Popen[str]
    url: str
    greeting: str
    errors: Path

    @property
    def port(self) -> int:
        port = urlsplit(self.url).port
        assert port
        return port

    def ask(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        with contextlib.closing(connection):
            connection.request(method, path, body, dict(headers or {}))
            response = connection.getresponse()
            return Answer(response.status, response.headers, response.read())

    def get(self, path: str) -> Answer:
        return self.ask("GET", path)

    def send(self, path: str, *parts: Part, **headers: str) -> Answer:
        body, content_type = multipart(parts)
        return self.ask("POST", path, body, {"Content-Type": content_type, **headers})

    def classify(self, *images: tuple[str, bytes], **headers: str) -> Answer:
        parts = (("image", name, data) for name, data in images)
        return self.send("/api/v1/classify", *parts, **headers)

    def open_page(self, path: str = "/", cookie: str = "") -> Page:
        """Get a page as a browser does, with its cookie and the token of its form."""
        answer = self.ask("GET", path, None, {"Cookie": cookie} if cookie else {})
        given = answer.headers.get("Set-Cookie", "").partition(";")[0]
        token = re.search(r'name="csrf_token" value="([^"]+)"', answer.text)
        return Page(answer, given or cookie, token[1] if token else "")

    def send_form(self, path: str, *parts: Part, cookie: str = "", **headers: str) -> Answer:
        """Send a form as a browser does that has opened it before."""
        page = self.open_page("/sign-in" if path.startswith("/sign-") else "/", cookie)
        token: Part = ("csrf_token", None, page.token.encode())
        return self.send(path, token, *parts, Cookie=page.cookie, **headers)

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        self.process.send_signal(number)
        return self.process.wait(60)


def wait_for(process: subprocess.Popen[str], errors: Path) -> Server:
    """Give the server once it says that it is ready."""
    assert process.stdout
    with killed_after(process, READY_SECONDS):
        greeting = process.stdout.readline()
    assert greeting.startswith("Ready at http://"), errors.read_text()
    return Server(process, greeting.split()[2], greeting, errors)


def listening(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


@contextlib.contextmanager
def killed_after(process: subprocess.Popen[str], seconds: float) -> Iterator[None]:
    timer = threading.Timer(seconds, process.kill)
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def until(condition: Callable[[], bool], seconds: float = 20) -> bool:
    """Wait for something to come true."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if condition():
            return True
        time.sleep(0.05)
    return condition()


def run_service(*arguments: str | Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the command where it is expected to end by itself."""
    return subprocess.run(
        [sys.executable, "-m", "service", *arguments],
        capture_output=True,
        text=True,
        timeout=READY_SECONDS,
        env={**os.environ, **environment},
        check=False,
    )
