"""Several processes: `gunicorn -c python:service.workers "service:create_app()"`.

Settings of gunicorn, with what the processes must have in common: the secret that signs cookies,
and the place where their metrics are added up. `python -m service.workers` tells whether the bundle
can be served, as the master asks before it replaces workers.
"""

from __future__ import annotations

import ipaddress
import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from typing import TYPE_CHECKING, Any

from service.settings import Settings, variable

if TYPE_CHECKING:
    from gunicorn.arbiter import Arbiter
    from gunicorn.workers.base import Worker


def _told(name: str) -> str:
    return os.environ.get(variable(name), str(getattr(Settings, name)))


worker_class = "gthread"
workers = int(os.environ.get("WEB_CONCURRENCY", "2"))
# Some are left to say no, or that all is well, while the others work.
threads = int(_told("threads")) + 4
bind = f"{_told('host')}:{_told('port')}"
# A network that was loaded before the fork has lost its threads after it.
preload_app = False
timeout = 120
graceful_timeout = 30
keepalive = 60
control_socket_disable = True

os.environ.setdefault(variable("secret"), secrets.token_hex(32))
if "PROMETHEUS_MULTIPROC_DIR" not in os.environ:
    os.environ["PROMETHEUS_MULTIPROC_DIR"] = tempfile.mkdtemp(prefix="lesion-metrics-")
_MASTER = os.getpid()


def on_starting(server: Arbiter) -> None:
    """Refuse to fork after loading, and to be reached by others without keys."""
    if server.cfg.preload_app:
        from service.classifier.loaded import PRELOADED

        sys.exit(PRELOADED)
    settings = Settings.from_environment()
    if settings.keys or settings.key or settings.insecure_open:
        return
    for address in server.cfg.address:
        if isinstance(address, tuple) and not _is_loopback(str(address[0])):
            sys.exit(
                f"Without keys the service does not listen on {address[0]}, where others could "
                "reach it: set LESION_KEYS, or LESION_INSECURE_OPEN=1"
            )


def when_ready(server: Arbiter) -> None:
    """Let SIGHUP replace the workers only if new ones could serve."""
    replace = signal.getsignal(signal.SIGHUP)

    def verify_first(number: int, frame: Any) -> None:
        # Elsewhere, so that the master goes on watching its workers meanwhile.
        threading.Thread(target=check, args=(number, frame), daemon=True).start()

    def check(number: int, frame: Any) -> None:
        verdict = subprocess.run(
            [sys.executable, "-m", "service.workers"],
            capture_output=True,
            text=True,
            check=False,
            env={k: v for k, v in os.environ.items() if k != "PROMETHEUS_MULTIPROC_DIR"},
        )
        if verdict.returncode == 0 and callable(replace):
            replace(number, frame)
        else:
            server.log.error("The old bundle stays in service: %s", verdict.stderr.strip())

    signal.signal(signal.SIGHUP, verify_first)


def child_exit(server: Arbiter, worker: Worker) -> None:
    """Take a worker that is gone out of the gauges."""
    from prometheus_client.multiprocess import mark_process_dead

    mark_process_dead(worker.pid)  # type: ignore[no-untyped-call]


def on_exit(server: Arbiter) -> None:
    """Remove the shared counters."""
    if os.getpid() == _MASTER:
        shutil.rmtree(os.environ["PROMETHEUS_MULTIPROC_DIR"], ignore_errors=True)


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _verify() -> None:
    from features.errors import LesionError
    from service.access.rules import Access
    from service.classifier.loaded import LoadedClassifier

    try:
        settings = Settings.from_environment()
        Access(settings)
        LoadedClassifier(settings).load()
    except LesionError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    _verify()
