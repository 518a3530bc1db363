"""The production server: waitress, with bodies kept in memory and a stop that drops no request."""

from __future__ import annotations

import contextlib
import errno
import io
import ipaddress
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
from service.api.reload import reload
from service.app import create_app
from service.classifier.loaded import LoadedClassifier
from service.classifier.served import Served
from service.settings import Settings
from service.telemetry import logs

__all__ = ["ListenError", "run"]

# A client hears that its request is too large only if what it sends meanwhile is taken, up to this
# many times the limit; beyond, the connection is closed on it.
PATIENCE: Final = 8
IDLE_SECONDS: Final = 60
GRACE_SECONDS: Final = 30
CONNECTIONS: Final = 500
# They say no, or that all is well, while all others are at work.
SPARE_THREADS: Final = 4


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
    logs.set_up(settings.log)
    with _Signals() as signals:
        listener = listen(settings.host, settings.port)
        _require_held_back(listener, settings)
        classifier = LoadedClassifier(settings)
        app = create_app(settings, classifier)
        server = Server(app, listener, settings)
        signals.wake = server.pull_trigger
        with ThreadPoolExecutor(1, "load") as loader:
            loading = loader.submit(classifier.load)
            loading.add_done_callback(lambda _: server.pull_trigger())
            if _ready(server, signals, loading):
                _announce(server, classifier)
            while not signals.stop:
                server.step(1)
                if signals.reload:
                    signals.reload = False
                    loader.submit(_reload, classifier, app)
            classifier.drain()
            server.serve_on(settings.drain_seconds)
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


def _require_held_back(listener: socket.socket, settings: Settings) -> None:
    host = listener.getsockname()[0]
    if settings.insecure_open or settings.keys or settings.key:
        return
    if not ipaddress.ip_address(host.partition("%")[0]).is_loopback:
        listener.close()
        raise ListenError(
            f"Without keys the service does not listen on {host}, where others could reach it: "
            "make a key with `python -m service key NAME --file keys.txt` and give "
            "--keys keys.txt, or say --insecure-open"
        )


def _reload(classifier: LoadedClassifier, app: Flask) -> None:
    # Who asked by a signal hears of a failure from the log.
    with contextlib.suppress(LesionError):
        reload(classifier, app.extensions["access"])


class _Signals:
    """What was asked for: SIGTERM or SIGINT to stop, SIGHUP to take a new bundle.

    A second signal to stop ends the process as if nobody listened.
    """

    def __init__(self) -> None:
        self.stop = False
        self.reload = False
        self.wake: Callable[[], None] = lambda: None
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> _Signals:
        for number in (signal.SIGTERM, signal.SIGINT):
            self._before[number] = signal.signal(number, self._stop)
        if hasattr(signal, "SIGHUP"):
            signal.signal(signal.SIGHUP, self._reload)
        return self

    def __exit__(self, *_: object) -> None:
        self._restore()

    def _stop(self, number: int, frame: FrameType | None) -> None:
        self.stop = True
        self._restore()
        self.wake()

    def _reload(self, number: int, frame: FrameType | None) -> None:
        self.reload = True
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
    # When the request that is being received began.
    began: float | None = None

    def received(self, data: bytes) -> bool:
        more: bool = super().received(data)
        if self.request is None:
            self.began = None
        elif self.began is None:
            self.began = time.time()
        return more

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
            threads=settings.threads + SPARE_THREADS,
            connection_limit=CONNECTIONS,
            channel_timeout=IDLE_SECONDS,
            recv_bytes=65536,
            # The largest body that is kept.
            inbuf_overflow=settings.max_upload_bytes,
            max_request_body_size=PATIENCE * settings.max_upload_bytes,
            # Past this waitress would write answers to a temporary file.
            outbuf_overflow=2**31,
            log_socket_errors=False,
            cleanup_interval=5,
            # The application reads those headers, as far as it is told to trust them.
            clear_untrusted_proxy_headers=not settings.trusted_proxies,
            ident="lesion-classifier",
        )
        self._receive_seconds = settings.max_seconds
        threads = ThreadedTaskDispatcher()
        threads.set_thread_count(settings.threads + SPARE_THREADS)
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

    def maintenance(self, now: float) -> None:
        """Close the connections that are idle, and those whose request never comes to its end."""
        super().maintenance(now)
        for channel in list(self.active_channels.values()):
            if channel.began is not None and now - channel.began > self._receive_seconds:
                channel.will_close = True

    def serve_on(self, seconds: float) -> None:
        """Answer requests for so long."""
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0:
            self.step(min(left, 1))

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


def _ready(server: Server, signals: _Signals, loading: Future[Served]) -> bool:
    """Answer requests until the bundle is loaded, or a stop is asked for."""
    while not loading.done():
        server.step(1)
        if signals.stop and not loading.done():
            # Nothing was classified, and the import of a network's library can't be interrupted.
            os._exit(0)
    loading.result()
    return not signals.stop


def _announce(server: Server, classifier: LoadedClassifier) -> None:
    bundle = classifier.bundle
    marks = f" [{', '.join(bundle.marks)}]" if bundle.marks else ""
    sys.stdout.write(f"Ready at {server.url} ({bundle.head_name} on {bundle.spec}){marks}\n")
    sys.stdout.flush()
