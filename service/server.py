"""The production server: waitress, with bodies kept in memory and a stop that drops no request."""

from __future__ import annotations

import errno
import io
import logging
import os
import signal
import socket
import sys
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from types import FrameType
from typing import Any, Final

from flask import Flask
from waitress import wasyncore
from waitress.adjustments import Adjustments
from waitress.channel import HTTPChannel
from waitress.parser import HTTPRequestParser
from waitress.server import TcpWSGIServer
from waitress.task import ThreadedTaskDispatcher
from waitress.utilities import RequestEntityTooLarge

from features.errors import LesionError
from service.app import create_app
from service.classifier import LoadedClassifier
from service.settings import Settings

__all__ = ["ListenError", "run"]

# A client hears that its request is too large only if what it sends meanwhile is taken, up to this
# many times the limit; beyond, the connection is closed on it.
PATIENCE: Final = 8
IDLE_SECONDS: Final = 60
GRACE_SECONDS: Final = 30
CONNECTIONS: Final = 500


class ListenError(LesionError):
    """An address that can't be listened on."""


def run(settings: Settings) -> None:
    """Serve until SIGTERM or SIGINT; requests in flight are finished.

    Parameters
    ----------
    settings : Settings

    Raises
    ------
    ListenError
        If the port is in use or not allowed.
    BundleRefused
        If the bundle is incomplete, altered, or not reproducible here.
    """
    logging.basicConfig(format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    logging.getLogger("waitress.queue").setLevel(logging.ERROR)
    with _Stop() as stop:
        listener = listen(settings.host, settings.port)
        classifier = LoadedClassifier(settings.bundle, settings.weights)
        server = Server(create_app(settings, classifier), listener, settings)
        stop.wake = server.pull_trigger
        with ThreadPoolExecutor(1, "load") as loader:
            loading = loader.submit(classifier.load)
            loading.add_done_callback(lambda _: server.pull_trigger())
            if _ready(server, stop, loading):
                _announce(server, classifier)
            while not stop.requested:
                server.step(1)
            server.finish()


def listen(host: str, port: int) -> socket.socket:
    """Open the listening socket.

    Raises
    ------
    ListenError
        If that is not possible, with the reason.
    """
    try:
        family, _, _, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        return socket.create_server(address[:2], family=family, backlog=1024)
    except socket.gaierror as error:
        raise ListenError(
            f"{host!r} is not an address of this machine ({error.strerror}): "
            "give --host an address such as 127.0.0.1"
        ) from error
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            reason = f"port {port} is in use: stop what uses it, or choose another with --port"
        elif error.errno == errno.EACCES:
            reason = f"port {port} needs privileges: choose one above 1023 with --port"
        else:
            reason = f"{os.strerror(error.errno or 0)}: choose another --host or --port"
        raise ListenError(f"Can't listen on {host}:{port}, {reason}") from error


class _Stop:
    """Whether SIGTERM or SIGINT came; a second one ends the process as if nobody listened."""

    def __init__(self) -> None:
        self.requested = False
        self.wake: Callable[[], None] = lambda: None
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> _Stop:
        for number in (signal.SIGTERM, signal.SIGINT):
            self._before[number] = signal.signal(number, self._request)
        return self

    def __exit__(self, *_: object) -> None:
        self._restore()

    def _request(self, number: int, frame: FrameType | None) -> None:
        self.requested = True
        self._restore()
        self.wake()

    def _restore(self) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)


class _Body:
    """A request's body in memory; of one above the limit, only the length.

    Parameters
    ----------
    limit : int
        In bytes.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._length = 0
        self._file = io.BytesIO()

    def __len__(self) -> int:
        return self._length

    def append(self, data: bytes) -> None:
        self._length += len(data)
        if self._length <= self._limit:
            self._file.write(data)
        else:
            self._file = io.BytesIO()

    def getfile(self) -> io.BytesIO:
        self._file.seek(0)
        return self._file

    def close(self) -> None:
        self._file.close()


class _Parser(HTTPRequestParser):  # type: ignore[misc]
    """Leaves it to the application to say that a body is too large, in its own words."""

    body_rcv: Any
    content_length: int
    expect_continue: bool

    def parse_header(self, header_plus: bytes) -> None:
        super().parse_header(header_plus)
        limit = self.adj.inbuf_overflow
        if self.content_length > limit and self.expect_continue:
            # The client asks before it sends: it is told at once, and sends nothing.
            self.expect_continue = False
            self._hand_over_unread()
        elif self.body_rcv is not None:
            # waitress' own buffer moves to a temporary file.
            self.body_rcv.buf = _Body(limit)

    def received(self, data: bytes) -> int:
        consumed: int = super().received(data)
        if isinstance(self.error, RequestEntityTooLarge):
            self._hand_over_unread()
        return consumed

    def _hand_over_unread(self) -> None:
        self.headers["CONTENT_LENGTH"] = str(max(self.content_length, self.body_bytes_received))
        self.headers["CONNECTION"] = "close"
        self.error = None
        self.body_rcv = None
        self.content_length = 0
        self.completed = True


class _Channel(HTTPChannel):  # type: ignore[misc]
    parser_class = _Parser

    @property
    def busy(self) -> bool:
        """Whether a request is being received, worked on, or answered."""
        # In this order: an answer is in the output before its request is off the list.
        return bool(self.request or self.requests or self.total_outbufs_len)


class Server(TcpWSGIServer):  # type: ignore[misc]
    """A waitress server that is driven step by step.

    Parameters
    ----------
    app : Flask
    listener : socket
        Where connections come from.
    settings : Settings
    """

    channel_class = _Channel

    def __init__(self, app: Flask, listener: socket.socket, settings: Settings) -> None:
        self.channels_map: dict[int, Any] = {}
        adjustments = Adjustments(
            sockets=[listener],
            threads=settings.threads,
            connection_limit=CONNECTIONS,
            channel_timeout=IDLE_SECONDS,
            recv_bytes=65536,
            # The largest body that is kept.
            inbuf_overflow=settings.max_upload_bytes,
            max_request_body_size=PATIENCE * settings.max_upload_bytes,
            # Past this waitress would write answers to a temporary file.
            outbuf_overflow=2**31,
            log_socket_errors=False,
            ident="lesion-classifier",
        )
        threads = ThreadedTaskDispatcher()
        threads.set_thread_count(settings.threads)
        super().__init__(
            app,
            self.channels_map,
            True,
            listener,
            dispatcher=threads,
            adj=adjustments,
            sockinfo=(listener.family, listener.type, listener.proto, listener.getsockname()),
            bind_socket=False,
        )

    @property
    def url(self) -> str:
        """Where a browser on this machine finds the page."""
        host = f"[{self.effective_host}]" if ":" in self.effective_host else self.effective_host
        return f"http://{host}:{self.effective_port}/"

    def step(self, seconds: float) -> None:
        """Receive and send what there is, waiting for it at most so long."""
        wasyncore.loop(timeout=seconds, use_poll=True, map=self.channels_map, count=1)

    def finish(self) -> None:
        """Take no more connections, answer the requests in flight, and close."""
        self.accepting = False
        self.del_channel()
        self.socket.close()
        deadline = time.monotonic() + GRACE_SECONDS
        while self.active_channels and time.monotonic() < deadline:
            for channel in list(self.active_channels.values()):
                if not channel.busy:
                    channel.will_close = True
            self.step(0.1)
        self.task_dispatcher.shutdown()
        wasyncore.close_all(self.channels_map)


def _ready(server: Server, stop: _Stop, loading: Future[None]) -> bool:
    """Answer requests until the bundle is loaded, or a stop is asked for."""
    while not loading.done():
        server.step(1)
        if stop.requested and not loading.done():
            # Nothing was classified, and the import of a network's library can't be interrupted.
            os._exit(0)
    loading.result()
    return not stop.requested


def _announce(server: Server, classifier: LoadedClassifier) -> None:
    bundle = classifier.bundle
    marks = f" [{', '.join(bundle.marks)}]" if bundle.marks else ""
    sys.stdout.write(f"Ready at {server.url} ({bundle.head_name} on {bundle.spec}){marks}\n")
    sys.stdout.flush()
