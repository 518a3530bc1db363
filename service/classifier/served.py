"""A bundle at work: what a request asks of it."""

from __future__ import annotations

import hashlib
import io
import os
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np
from PIL import Image

from features.errors import UnreadableImage
from service.classifier.batching import Batcher
from service.classifier.gathering import Gathering
from service.classifier.recent import Recent
from service.problems import Problem

if TYPE_CHECKING:
    import numpy.typing as npt

    from models.bundle.gallery import Similar
    from models.bundle.loading import Bundle
    from models.inference.classifier import Classifier
    from models.inference.evidence import Evidence
    from models.inference.verdict import Picture, Rejected, Verdict
    from service.settings import Settings
    from service.telemetry.metrics import Metrics

__all__ = ["Case", "Served"]

# Of a network that runs for one thread at a time: past this a pass takes longer without doing more
# images per second.
LARGEST_PASS: Final = 16


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


class _Embedded(NamedTuple):
    """An image that the network has seen, and what is asked of the head."""

    name: str
    row: npt.NDArray[np.float32]
    picture: Picture
    patient: Mapping[str, str] | None
    similar: int


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
        self._recent = Recent()
        lanes = classifier.lanes
        self._embed: Batcher[Any, npt.NDArray[np.float32]] = Batcher(
            self._run, largest=LARGEST_PASS if lanes == 1 else 1, calls=lanes
        )
        # Where so many images wait for the network, the next row comes as soon as it has done one.
        self._judge = Gathering(self._judge_all, more=lambda: self.waiting >= max(4, lanes))

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
        explained_next: bool = False,
    ) -> list[Case | Rejected]:
        """Classify as `classify` does, keep the embeddings, and name `similar` training images.

        What the network saw of an image that is explained next is kept for that, for seconds.
        """
        decoded = self._decode_all(images)
        found = self._embed_all(decoded, keep=explained_next)
        seen = [
            _Embedded(name, row, picture, patient, similar)
            for (name, _), picture, row in zip(images, decoded, found, strict=True)
            if isinstance(row, np.ndarray)
        ]
        with self._metrics.stage.labels("head").time():
            verdicts = iter(self._judge_all(seen) if len(seen) != 1 else [self._judge(seen[0])])
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
            placed = gallery.place(self.bundle.spec.combine(np.stack(rows)))
            nearest = iter(gallery.nearest(placed, count))
        return [next(nearest) if isinstance(row, np.ndarray) else row for row in found]

    def _decode_all(self, images: Sequence[tuple[str, bytes]]) -> list[Any]:
        with self._metrics.stage.labels("decode").time():
            return [self._decode(name, content) for name, content in images]

    def _embed_all(
        self, decoded: Sequence[Any], *, keep: bool = False
    ) -> list[npt.NDArray[np.float32] | Rejected]:
        from models.inference.verdict import Rejected

        readable = [(seen, keep) for seen in decoded if not isinstance(seen, Rejected)]
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
            seen = self._recent.take(hashlib.sha256(content).hexdigest())
            if seen is None:
                seen = self.classifier.see(self._look_at(content))
            return self.classifier.explain(seen)

    def warm_up(self) -> None:
        """Judge and explain blank images, as many as the network takes at the same time."""
        blank = io.BytesIO()
        Image.new("RGB", (64, 64), "grey").save(blank, "PNG")
        several = max(2, self.classifier.lanes)
        self.classifier.classify([("blank", blank.getvalue())] * several, similar=1)
        # Without threads of its own: a stop in the meantime would forbid them.
        seen = self.classifier.see(self.classifier.look_at(blank.getvalue()))
        self.classifier.explain(seen, at_once=1)

    def _decode(self, name: str, content: bytes) -> Any:
        from models.inference.verdict import Rejected

        try:
            with self._decoding:
                return self._look_at(content)
        except UnreadableImage as error:
            return Rejected(name, error.code, str(error))

    def _judge_all(self, seen: list[_Embedded]) -> list[Verdict]:
        if not seen:
            return []
        most = max(each.similar for each in seen)
        verdicts = self.classifier.classify_embedded(
            [each.name for each in seen],
            np.stack([each.row for each in seen]),
            [each.patient for each in seen],
            pictures=[each.picture for each in seen],
            similar=most,
        )
        return [
            replace(verdict, similar=verdict.similar[: each.similar])
            for verdict, each in zip(verdicts, seen, strict=True)
        ]

    def _look_at(self, content: bytes) -> Picture:
        return self.classifier.look_at(content, max_pixels=self._settings.max_pixels)

    def _run(self, images: list[tuple[Picture, bool]]) -> Sequence[npt.NDArray[np.float32]]:
        self._metrics.pass_images.observe(len(images))
        with self._metrics.stage.labels("embed").time():
            rows = iter(self.classifier.embed([each.frames for each, keep in images if not keep]))
            return [self._see(each) if keep else next(rows) for each, keep in images]

    def _see(self, picture: Picture) -> npt.NDArray[np.float32]:
        seen = self.classifier.see(picture)
        self._recent.keep(picture.sha256, seen)
        return seen.row
