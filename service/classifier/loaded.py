"""The one classifier of the process: loaded once, warmed up, shared by all requests."""

from __future__ import annotations

import contextlib
import ctypes
import logging
import os
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final

from features.errors import LesionError
from features.storage.addresses import is_remote
from service.classifier.served import Served
from service.problems import SECONDS_TO_RETRY, Problem
from service.telemetry.metrics import Metrics

if TYPE_CHECKING:
    from models.bundle.loading import Bundle
    from models.bundle.network import ReadyNetwork
    from models.inference.classifier import Classifier
    from service.settings import Settings

__all__ = ["PRELOADED", "LoadedClassifier"]

PRELOADED: Final = (
    "gunicorn was started with --preload (preload_app), which loads the network before the "
    "processes are made, and none of them could use it: leave --preload out"
)

# Of mallopt(3).
_ARENAS: Final = -8
_MMAP_THRESHOLD: Final = -3

logger = logging.getLogger(__name__)


def _leave_if_preloaded() -> None:
    # In a process that gunicorn made after the network was loaded. Its threads are not there, so
    # that every request would wait for them; the status tells gunicorn to give up.
    if "gunicorn.arbiter" in sys.modules:
        os.write(2, f"{PRELOADED}\n".encode())
        os._exit(3)


def _give_memory_back() -> None:
    # By itself glibc's malloc has a heap for each thread, and keeps in each what a map once took:
    # 200 MB after a few. To be called before there are threads.
    if sys.platform == "linux":
        with contextlib.suppress(AttributeError):
            mallopt = ctypes.CDLL(None).mallopt
            mallopt(_ARENAS, 2)
            mallopt(_MMAP_THRESHOLD, 4 << 20)


class LoadedClassifier:
    """The bundle's classifier that many threads may ask, and how another takes its place.

    Parameters
    ----------
    settings : Settings
    """

    def __init__(self, settings: Settings) -> None:
        _give_memory_back()
        self.metrics = Metrics()
        self.metrics.ready.set(0)
        self.metrics.watch_queue(lambda: self._served.waiting if self._served else 0)
        self.draining = False
        self._settings = settings
        self._served: Served | None = None
        self._process = os.getpid()
        os.register_at_fork(after_in_child=_leave_if_preloaded)
        self._loading = threading.Lock()
        self._turns = threading.BoundedSemaphore(settings.threads)

    def load(self) -> Served:
        """Load the bundle, or load it anew; what was served before is served until it is done.

        Returns
        -------
        Served
            The network has run, so that the first request is as quick as any. What only some
            requests need is tried out afterwards, beside them.

        Raises
        ------
        BundleRefused
            If the bundle is incomplete, altered, or not reproducible here: what was served before
            still is.
        Problem
            If it is being loaded already.
        """
        if not self._loading.acquire(blocking=False):
            raise Problem(
                "reload_running",
                "A bundle is already being loaded: try again once that has finished",
            )
        again = self._served is not None
        try:
            served = self._prepare()
            self._served = served
        except LesionError as error:
            if again:
                self.metrics.reloads.labels("refused").inc()
                logger.error("the new bundle is not taken, the old one stays in service: %s", error)
            raise
        finally:
            self._loading.release()
        if again:
            self.metrics.reloads.labels("taken").inc()
        # What a first request would otherwise wait for; the answers of this one are not missed.
        threading.Thread(target=served.warm_up, name="warm-up").start()
        created = datetime.fromisoformat(served.bundle.created).timestamp()
        self.metrics.serving(served.bundle, created)
        self.metrics.ready.set(1)
        return served

    def drain(self) -> None:
        """Say from now on that no more requests should come; those that do are still answered."""
        self.draining = True
        self.metrics.ready.set(0)

    @property
    def ready(self) -> bool:
        """Whether images can be classified and more requests should come."""
        return self._usable and not self.draining

    @property
    def served(self) -> Served:
        """What is served now.

        Raises
        ------
        Problem
            Until `load` has come to its end.
        """
        if not self._usable or self._served is None:
            raise Problem(
                "not_ready",
                "The classifier is still being loaded: try again in a few seconds.",
                retry_after=SECONDS_TO_RETRY,
            )
        return self._served

    @property
    def bundle(self) -> Bundle:
        """The bundle that is served now.

        Raises
        ------
        Problem
            Until `load` has come to its end.
        """
        return self.served.bundle

    @contextlib.contextmanager
    def turn(self) -> Iterator[Served]:
        """Take one of the places for requests that work.

        Raises
        ------
        Problem
            At once, if none is free.
        Problem
            Until `load` has come to its end.
        """
        served = self.served
        if not self._turns.acquire(blocking=False):
            self.metrics.refused.labels("busy").inc()
            raise Problem(
                "busy",
                f"{self._settings.threads} requests are being answered, the most allowed at "
                "once: try again in a moment",
                retry_after=1,
            )
        try:
            yield served
        finally:
            self._turns.release()

    @property
    def _usable(self) -> bool:
        # The network's threads don't live on in a forked process.
        return self._served is not None and self._process == os.getpid()

    def _prepare(self) -> Served:
        before, folder = self._served, self._folder()
        classifier = None if before is None else self._again(before.classifier, folder)
        classifier = classifier or self._anew(folder)
        # Imported late, as all that takes part of a second is, in which the server answers already.
        from threadpoolctl import threadpool_limits

        # Threads of the linear algebra go on spinning for a while after their work, and would take
        # the cores from the network's next pass.
        threadpool_limits(limits=1, user_api="blas")
        return Served(classifier, self._settings, self.metrics)

    def _folder(self) -> Path:
        if not is_remote(self._settings.bundle):
            return self._settings.bundle
        from models.bundle.fetching import fetch_bundle

        return fetch_bundle(self._settings.bundle)

    def _anew(self, folder: Path) -> Classifier:
        with ThreadPoolExecutor(1, "network") as beside:
            network = beside.submit(self._ready_network, folder)
            # Meanwhile: these imports and the heads take as long as the network.
            from models.inference.classifier import Classifier

            return Classifier.load(folder, self._settings.weights, network=network)

    def _again(self, before: Classifier, folder: Path) -> Classifier | None:
        from models.bundle.loading import load_bundle

        bundle = load_bundle(folder)
        return before.with_bundle(bundle) if bundle.spec == before.bundle.spec else None

    def _ready_network(self, folder: Path) -> ReadyNetwork:
        from models.bundle.network import ready_network

        return ready_network(folder, self._settings.weights)
