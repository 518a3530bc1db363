"""A server that is started and asked over sockets, as programs and browsers would ask it."""

from __future__ import annotations

import contextlib
import http.client
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).parents[2]
BOUNDARY = "benchmark-7f3a"
# However many pages are asked for, they end then.
SOAK_SECONDS = 3600.0


@dataclass(frozen=True)
class Load:
    """What clients saw."""

    seconds: float
    accepted: list[float]
    refused: list[float]

    @property
    def rate(self) -> float:
        """Answered images per second."""
        return len(self.accepted) / self.seconds

    def percentile(self, percent: float) -> float:
        """Latency of accepted requests in milliseconds."""
        return float(np.percentile(self.accepted, percent)) * 1e3


@dataclass(frozen=True)
class Server:
    """A running server."""

    port: int
    process: subprocess.Popen[bytes]
    start: float

    def ask(self, image: bytes, *place: Any, **headers: str) -> int:
        """Post an image; give the status."""
        return self.send(image, *place, **headers)[0]

    def send(
        self,
        image: bytes,
        path: str = "/api/v1/classify",
        fields: Sequence[tuple[str, str]] = (),
        **headers: str,
    ) -> tuple[int, bytes]:
        """Post an image beside other fields; give status and answer."""
        begin = f"--{BOUNDARY}\r\nContent-Disposition: form-data; name="
        body = "".join(f'{begin}"{name}"\r\n\r\n{value}\r\n' for name, value in fields).encode()
        body += f'{begin}"image"; filename="a.jpg"\r\n\r\n'.encode() + image
        body += f"\r\n--{BOUNDARY}--\r\n".encode()
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=120)
        headers["Content-Type"] = f"multipart/form-data; boundary={BOUNDARY}"
        try:
            connection.request("POST", path, body, headers)
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()

    def open_page(self) -> tuple[str, str]:
        """Get the form as a browser does; give its cookie and token."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=120)
        try:
            connection.request("GET", "/")
            answer = connection.getresponse()
            token = re.findall(rb'name="csrf_token" value="([^"]+)"', answer.read())[0]
            return answer.headers["Set-Cookie"].partition(";")[0], token.decode()
        finally:
            connection.close()

    def ready(self) -> bool:
        """Whether it takes requests."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=5)
        try:
            connection.request("GET", "/readyz")
            return connection.getresponse().status == 200
        except OSError:
            return False
        finally:
            connection.close()

    def memory(self) -> float:
        """Give the resident memory in MB."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(re.findall(r"VmRSS:\s+(\d+)", status)[0]) / 1e3


@contextlib.contextmanager
def serving(words: Sequence[object], **variables: str) -> Iterator[Server]:
    """Start a server and wait until it is ready."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = int(free.getsockname()[1])
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "TF_CPP_MIN_LOG_LEVEL": "3"}
    environment |= {"PLAIN_PORT": str(port), **variables}
    began = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, *(str(word).format(port=port) for word in words)],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        server = Server(port, process, 0)
        while not server.ready():
            if process.poll() is not None:
                sys.exit(f"the server ended with status {process.returncode}")
            time.sleep(0.02)
        yield Server(port, process, time.perf_counter() - began)
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(60)


def load(
    server: Server, images: Sequence[bytes], clients: int, *, seconds: float = 0, requests: int = 0
) -> Load:
    """Ask with several clients at once, for some seconds or some requests in all."""
    accepted: list[float] = []
    refused: list[float] = []
    counter = iter(range(requests)) if requests else None
    lock = threading.Lock()
    end = time.perf_counter() + seconds if seconds else float("inf")

    def work(number: int) -> None:
        while time.perf_counter() < end:
            with lock:
                turn = number if counter is None else next(counter, None)
            if turn is None:
                return
            number += clients
            begin = time.perf_counter()
            status = server.ask(images[turn % len(images)])
            took = time.perf_counter() - begin
            if status not in (200, 503):
                raise RuntimeError(f"status {status}")
            (accepted if status == 200 else refused).append(took)
            if status == 503:
                time.sleep(0.1)

    began = time.perf_counter()
    threads = [threading.Thread(target=work, args=(number,)) for number in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return Load(time.perf_counter() - began, accepted, refused)


def pages(server: Server, images: Sequence[bytes], requests: int, clients: int = 2) -> list[float]:
    """Ask for whole pages, with maps and similar images; seconds of each."""
    cookie, token = server.open_page()
    seconds: list[float] = []
    fields = (("csrf_token", token), ("show", "evidence"), ("show", "similar"))

    def work(numbers: Sequence[int]) -> None:
        for number in numbers:
            begin = time.perf_counter()
            status = server.ask(images[number % len(images)], "/", fields, Cookie=cookie)
            if status == 503:
                time.sleep(0.1)
            elif status != 200:
                raise RuntimeError(f"status {status}")
            seconds.append(time.perf_counter() - begin)

    with ThreadPoolExecutor(clients) as askers:
        list(askers.map(work, [range(first, requests, clients) for first in range(clients)]))
    return seconds


def soak(server: Server, images: Sequence[bytes], requests: int) -> tuple[int, list[float]]:
    """Ask for pages in ten parts; how many there were, and the memory in MB after each part."""
    memory, done = [], 0
    end = time.perf_counter() + SOAK_SECONDS
    pages(server, images, 40)
    for _ in range(10):
        memory.append(server.memory())
        if time.perf_counter() > end:
            break
        done += len(pages(server, images, requests // 10))
    return done, [*memory, server.memory()]


def looks(server: Server, images: Sequence[bytes]) -> tuple[list[float], list[float]]:
    """Ask as the page's script does: seconds to the verdict, and to its map after that."""
    cookie, token = server.open_page()
    script = {"Cookie": cookie, "X-Lesion-Fragment": "results"}
    verdict, look = [], []
    fields = (("csrf_token", token), ("show", "evidence"), ("show", "similar"))
    for image in images[:40]:
        begin = time.perf_counter()
        page = server.send(image, "/", fields, **script)[1].decode()
        shown = time.perf_counter()
        model = re.findall(r'data-model="(\w+)"', page)[0]
        server.send(image, "/look", (("csrf_token", token), ("model", model)), **script)
        verdict.append(shown - begin)
        look.append(time.perf_counter() - shown)
    return verdict[5:], look[5:]
