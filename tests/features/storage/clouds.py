"""A real S3 server on the loopback behind a proxy that makes what goes wrong in networks."""

from __future__ import annotations

import http.client
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar

SLOW_DOWN = b"<Error><Code>SlowDown</Code><Message>Reduce your request rate.</Message></Error>"
DENIED = (
    b"<Error><Code>InvalidAccessKeyId</Code><Message>The AWS Access Key Id you provided does not "
    b"exist in our records.</Message></Error>"
)


@dataclass
class Fault:
    """What happens to requests whose path holds a text, so many times.

    Parameters
    ----------
    method, path : str
    kind : {"status", "cut", "slow", "before"}
    times : int
    status : int
    body : bytes
    seconds : float
        How long nothing comes.
    before : callable, optional
        Called before the request goes on.
    """

    method: str
    path: str
    kind: str
    times: int = 1
    status: int = 503
    body: bytes = SLOW_DOWN
    seconds: float = 0.0
    before: Callable[[], object] = lambda: None


class Proxy(ThreadingHTTPServer):
    """Passes requests on to a server, but for the faults that it was given."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, port: int) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.behind = port
        self.faults: list[Fault] = []
        self.delay = 0.0
        self.asked: list[tuple[str, str]] = []
        self.most = 0
        self.now = 0
        self.lock = threading.Lock()
        threading.Thread(target=self.serve_forever, args=(0.05,), daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def reset(self) -> None:
        self.faults.clear()
        self.asked.clear()
        self.delay, self.most = 0.0, 0

    def count(self, method: str, path: str) -> int:
        return sum(each == method and path in asked for each, asked in self.asked)

    def take(self, method: str, path: str) -> Fault | None:
        with self.lock:
            self.asked.append((method, path))
            for fault in self.faults:
                if fault.method == method and fault.path in path and fault.times:
                    fault.times -= 1
                    return fault
        return None


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Proxy
    _behind: ClassVar = threading.local()

    def log_message(self, *_: Any) -> None:
        pass

    def _pass_on(self) -> None:
        proxy = self.server
        with proxy.lock:
            proxy.now += 1
            proxy.most = max(proxy.most, proxy.now)
        try:
            self._answer(proxy.take(self.command, self.path))
        except ConnectionError:
            # The server or whoever asked is gone.
            self.close_connection = True
        finally:
            with proxy.lock:
                proxy.now -= 1

    def _answer(self, fault: Fault | None) -> None:
        data = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        time.sleep(self.server.delay)
        if fault is not None:
            fault.before()
            time.sleep(fault.seconds)
            if fault.kind == "status":
                self._send(fault.status, {"Content-Type": "application/xml"}, fault.body)
                return
        connection = http.client.HTTPConnection("127.0.0.1", self.server.behind, timeout=30)
        headers = {name: value for name, value in self.headers.items() if name != "Connection"}
        connection.request(self.command, self.path, data or None, headers)
        answer = connection.getresponse()
        body = answer.read()
        kept = {
            name: value
            for name, value in answer.getheaders()
            if name.lower() not in {"transfer-encoding", "connection", "content-length"}
        }
        length = answer.getheader("Content-Length") or str(len(body))
        connection.close()
        if fault is not None and fault.kind == "cut":
            self._send(answer.status, {**kept, "Content-Length": length}, body[: len(body) // 2])
            self.close_connection = True
            return
        self._send(answer.status, {**kept, "Content-Length": length}, body)

    def _send(self, status: int, headers: dict[str, str], body: bytes) -> None:
        self.send_response_only(status)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def __getattr__(self, name: str) -> Any:
        # http.server calls what is called as the method is.
        if name.startswith("do_"):
            return self._pass_on
        raise AttributeError(name)
