"""The one classifier of the process: loaded once, warmed up, shared by all requests."""

from __future__ import annotations

import contextlib
import ctypes
import io
import logging
import os
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from PIL import Image

from features.errors import LesionError, UnreadableImage
from service.classifier.batching import Batcher
from service.problems import SECONDS_TO_RETRY, Problem
from service.telemetry.metrics import Metrics

if TYPE_CHECKING:
    import numpy.typing as npt

    from models.bundle.gallery import Similar
    from models.bundle.loading import Bundle
    from models.bundle.network import ReadyNetwork
    from models.inference.classifier import Classifier
    from models.inference.evidence import Evidence
    from models.inference.verdict import Rejected, Verdict
    from service.settings import Settings

__all__ = ["Case", "LoadedClassifier", "Served"]

# Of a network that runs for one thread at a time: past this a pass takes longer without doing more
# images per second.
LARGEST_PASS: Final = 16

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


@dataclass(frozen=True)
class Case:
    """What is known of an image that was classified.

    Parameters
    ----------
    verdict : Verdict
    row : ndarray of float32, shape (spec.width,)
        Its embedding, as a feature file keeps it.
    """

    verdict: Verdict
    row: npt.NDArray[np.float32]


class Served:
    """A bundle at work; a request keeps to the one that it began with.

    Parameters
    ----------
    classifier : Classifier
    settings : Settings
    metrics : Metrics
    """

    # Decoding takes memory for the whole image: no more at once than there are cores to do it.
    _decoding = threading.BoundedSemaphore(os.cpu_count() or 1)
    # The network is busy with one anyway, and a place at decoding is for those who want a verdict.
    _explaining = threading.Lock()

    def __init__(self, classifier: Classifier, settings: Settings, metrics: Metrics) -> None:
        self.classifier = classifier
        self._settings = settings
        self._metrics = metrics
        lanes = classifier.lanes
        self._embed: Batcher[Any, npt.NDArray[np.float32]] = Batcher(
            self._run, largest=LARGEST_PASS if lanes == 1 else 1, calls=lanes
        )

    @property
    def bundle(self) -> Bundle:
        """What is served."""
        return self.classifier.bundle

    @property
    def waiting(self) -> int:
        """Decoded images that wait for the network."""
        return self._embed.waiting

    def classify(
        self, images: Sequence[tuple[str, bytes]], patient: Mapping[str, str] | None = None
    ) -> list[Verdict | Rejected]:
        """Classify encoded images, together with those of other requests that wait.

        Parameters
        ----------
        images : sequence of (str, bytes)
            File name and content.
        patient : mapping of str to str, optional
            Age, sex and site, whom all images are of.

        Returns
        -------
        list of Verdict or Rejected
            One for each image, in the same order.

        Raises
        ------
        TooLate
            If their turn did not come in time.
        """
        return [
            found.verdict if isinstance(found, Case) else found
            for found in self.classify_cases(images, patient)
        ]

    def classify_cases(
        self,
        images: Sequence[tuple[str, bytes]],
        patient: Mapping[str, str] | None = None,
        *,
        similar: int = 0,
    ) -> list[Case | Rejected]:
        """Classify as `classify` does, keep the embeddings, and name `similar` training images."""
        decoded = self._decode_all(images)
        found = self._embed_all(decoded)
        rows = [row for row in found if isinstance(row, np.ndarray)]
        names, pictures = [], []
        for (name, _), picture, row in zip(images, decoded, found, strict=True):
            if isinstance(row, np.ndarray):
                names.append(name)
                pictures.append(picture)
        verdicts: Iterator[Verdict] = iter(())
        if rows:
            with self._metrics.stage.labels("head").time():
                judged = self.classifier.classify_embedded(
                    names, np.stack(rows), [patient] * len(rows), pictures=pictures, similar=similar
                )
                verdicts = iter(judged)
        cases: list[Case | Rejected] = [
            Case(next(verdicts), row) if isinstance(row, np.ndarray) else row for row in found
        ]
        for case in cases:
            self._metrics.note(case.verdict if isinstance(case, Case) else case)
        return cases

    def embed(
        self, images: Sequence[tuple[str, bytes]]
    ) -> list[npt.NDArray[np.float32] | Rejected]:
        """Embed encoded images.

        Returns
        -------
        list of ndarray of float32, shape (spec.width,), or Rejected
            One for each image, in the same order.
        """
        return self._embed_all(self._decode_all(images))

    def similar(
        self, images: Sequence[tuple[str, bytes]], count: int
    ) -> list[tuple[Similar, ...] | Rejected]:
        """Find the training images that are most like encoded images.

        Returns
        -------
        list of tuple of Similar, or Rejected
            One for each image, in the same order; nearest first.

        Raises
        ------
        Problem
            If the bundle has no gallery.
        """
        gallery = self.bundle.gallery
        if gallery is None:
            raise Problem(
                "no_gallery", "The bundle that is served holds no training images to compare with."
            )
        found = self.embed(images)
        rows = [row for row in found if isinstance(row, np.ndarray)]
        nearest: Iterator[tuple[Similar, ...]] = iter(())
        if rows:
            nearest = iter(gallery.nearest(self.bundle.spec.combine(np.stack(rows)), count))
        return [next(nearest) if isinstance(row, np.ndarray) else row for row in found]

    def _decode_all(self, images: Sequence[tuple[str, bytes]]) -> list[Any]:
        with self._metrics.stage.labels("decode").time():
            return [self._decode(name, content) for name, content in images]

    def _embed_all(self, decoded: Sequence[Any]) -> list[npt.NDArray[np.float32] | Rejected]:
        from models.inference.verdict import Rejected

        readable = [seen.frames for seen in decoded if not isinstance(seen, Rejected)]
        rows: Iterator[npt.NDArray[np.float32]] = iter(())
        if readable:
            started = time.perf_counter()
            rows = iter(self._embed(readable, self._settings.max_seconds))
            self._metrics.stage.labels("wait").observe(time.perf_counter() - started)
        return [seen if isinstance(seen, Rejected) else next(rows) for seen in decoded]

    def explain(self, content: bytes) -> Evidence:
        """Say where in an encoded image its score comes from.

        Raises
        ------
        UnreadableImage
        """
        with self._explaining, self._metrics.stage.labels("explain").time():
            return self.classifier.explain(content, max_pixels=self._settings.max_pixels)

    def warm_up(self) -> None:
        """Judge and explain blank images, as many as the network takes at the same time."""
        blank = io.BytesIO()
        Image.new("RGB", (64, 64), "grey").save(blank, "PNG")
        self.classifier.classify([("blank", blank.getvalue())] * self.classifier.lanes, similar=1)
        self.classifier.explain(blank.getvalue())

    def _decode(self, name: str, content: bytes) -> Any:
        from models.inference.verdict import Rejected

        try:
            with self._decoding:
                return self.classifier.look_at(content, max_pixels=self._settings.max_pixels)
        except UnreadableImage as error:
            return Rejected(name, error.code, str(error))

    def _run(self, images: list[Any]) -> Sequence[npt.NDArray[np.float32]]:
        self._metrics.pass_images.observe(len(images))
        with self._metrics.stage.labels("embed").time():
            return list(self.classifier.embed(images))


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
        before = self._served
        classifier = None if before is None else self._again(before.classifier)
        classifier = classifier or self._anew()
        # Imported late, as all that takes part of a second is, in which the server answers already.
        from threadpoolctl import threadpool_limits

        # Threads of the linear algebra go on spinning for a while after their work, and would take
        # the cores from the network's next pass.
        threadpool_limits(limits=1, user_api="blas")
        return Served(classifier, self._settings, self.metrics)

    def _anew(self) -> Classifier:
        with ThreadPoolExecutor(1, "network") as beside:
            network = beside.submit(self._ready_network)
            # Meanwhile: these imports and the heads take as long as the network.
            from models.inference.classifier import Classifier

            return Classifier.load(self._settings.bundle, self._settings.weights, network=network)

    def _again(self, before: Classifier) -> Classifier | None:
        from models.bundle.loading import load_bundle

        bundle = load_bundle(self._settings.bundle)
        return before.with_bundle(bundle) if bundle.spec == before.bundle.spec else None

    def _ready_network(self) -> ReadyNetwork:
        from models.bundle.network import ready_network

        return ready_network(self._settings.bundle, self._settings.weights)
