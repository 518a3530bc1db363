"""From an image to a verdict: the one way that the terminal, the form and the API share."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from features.embedding.joined import JoinedExtractor
from features.errors import UnreadableImage
from features.images.decoding import MAX_PIXELS
from features.images.quality import Quality, check_quality
from features.images.sources.files import read_file
from models.bundle.gallery import Gallery
from models.bundle.loading import Bundle, load_bundle
from models.bundle.manifest import BundleRefused
from models.bundle.network import ReadyNetwork, ready_network
from models.inference import wording
from models.inference.evidence import Evidence, Seen, explain
from models.inference.scoring import changes_of, to_serve
from models.inference.verdict import Note, Picture, Rejected, Scales, Verdict, doubted
from models.patients.encoding import read_patient

__all__ = ["Classifier", "Picture", "Rejected", "Verdict"]

# As many decoded images as are held at once, however many are asked for.
_BATCH: Final = 16


class Classifier:
    """A bundle and the extractor of its networks, ready to judge images.

    May be shared between threads.

    Parameters
    ----------
    bundle : Bundle
    extractor : JoinedExtractor

    Raises
    ------
    BundleRefused
        If `extractor` is not the one that the bundle's head was fitted for.
    """

    def __init__(self, bundle: Bundle, extractor: JoinedExtractor) -> None:
        _require_same(bundle, extractor)
        self.bundle = replace(bundle, classes=to_serve(bundle.classes))
        self._extractor = extractor
        shown = {each.name: bool(each.spec.spread) for each in bundle.networks}
        self.warnings = (*wording.marked(bundle.marks), *wording.not_shown(shown))

    @classmethod
    def load(
        cls,
        folder: str | Path,
        weights: str | Path | None = None,
        *,
        network: Future[ReadyNetwork] | None = None,
    ) -> Classifier:
        """Load a bundle, build its networks, and try it out.

        Parameters
        ----------
        folder : str or Path
        weights : str or Path, optional
            A weights file to use instead of the bundle's own; its hash must be the same.
        network : Future of ReadyNetwork, optional
            The bundle's networks, where they are made ready meanwhile.

        Returns
        -------
        Classifier
            The first image is judged as fast as any other.

        Raises
        ------
        BundleRefused
            If the bundle is incomplete or altered, or its embeddings can't be reproduced here.
        WeightsError
            If the weights file is missing or doesn't fit the network.
        """
        bundle = load_bundle(folder, network=False)
        ready = ready_network(folder, weights) if network is None else network.result()
        if ready.identity != bundle.identity:
            raise BundleRefused(
                f"the bundle {folder} was replaced while it was being read: load it again"
            )
        classifier = cls(bundle, ready.extractor)
        classifier.bundle.probability(ready.blank)
        return classifier

    def classify(
        self,
        images: Sequence[tuple[str, bytes | Path]],
        *,
        metadata: Sequence[Mapping[str, Any] | None] | None = None,
        evidence: bool = False,
        similar: int = 0,
    ) -> list[Verdict | Rejected]:
        """Judge images.

        Parameters
        ----------
        images : sequence of (filename, bytes or Path)
            The name to call the image by, and its content or where it lies.
        metadata : sequence of (mapping or None), optional
            What is known of each image's patient: ``"age"``, ``"sex"`` and ``"site"``, as for
            `models.patients.encoding.read_patient`. Where any of it can be used, the bundle's
            fusion judges.
        evidence : bool
            Whether to say where in each image the score comes from.
        similar : int
            How many similar training images to name, if the bundle has them.

        Returns
        -------
        list of Verdict or Rejected
            One for each image in the order given; an image that can't be read doesn't keep the
            others from being judged.

        Raises
        ------
        PatientError
            If an age or sex can't be one.
        """
        found: list[Verdict | Rejected] = []
        patients = [None] * len(images) if metadata is None else list(metadata)
        for start in range(0, len(images), _BATCH):
            part = slice(start, start + _BATCH)
            found += self._classify_batch(images[part], patients[part], similar, evidence)
        return found

    def _classify_batch(
        self,
        images: Sequence[tuple[str, bytes | Path]],
        patients: Sequence[Mapping[str, Any] | None],
        similar: int,
        evidence: bool,
    ) -> list[Verdict | Rejected]:
        decoded: list[Picture | Rejected] = []
        for filename, source in images:
            try:
                decoded.append(self.look_at(source))
            except UnreadableImage as error:
                decoded.append(Rejected(filename, error.code, str(error)))
        readable = [
            (filename, pixels, patient)
            for (filename, _), pixels, patient in zip(images, decoded, patients, strict=True)
            if not isinstance(pixels, Rejected)
        ]
        names, pictures, told = map(list, zip(*readable, strict=True)) if readable else ([], [], [])
        if evidence:
            rows, explained = self._see_all(pictures)
        else:
            rows, explained = self.embed([each.frames for each in pictures]), [None] * len(pictures)
        judged = self.classify_embedded(names, rows, told, pictures=pictures, similar=similar)
        verdicts = map(lambda one, why: replace(one, evidence=why), judged, explained)
        return [pixels if isinstance(pixels, Rejected) else next(verdicts) for pixels in decoded]

    def read(self, source: bytes | Path, *, max_pixels: int = MAX_PIXELS) -> Scales:
        """Decode an image at the sizes that the networks need.

        Parameters
        ----------
        source : bytes or Path
            An image file's content, or where it lies.
        max_pixels : int, optional
            An image with more is refused before it is decoded.

        Returns
        -------
        tuple of ndarray of uint8, shape (size, size, 3)

        Raises
        ------
        UnreadableImage
            With a reason that a person understands.
        """
        return self.bundle.spec.decode(source, max_pixels=max_pixels).frames

    def look_at(self, source: bytes | Path, *, max_pixels: int = MAX_PIXELS) -> Picture:
        """Decode an image as `read` does, and see whether it is fit to be judged.

        Parameters
        ----------
        source, max_pixels
            As for `read`.

        Returns
        -------
        Picture

        Raises
        ------
        UnreadableImage
        """
        data = source if isinstance(source, bytes) else read_file(source)
        decoded = self.bundle.spec.decode(data, max_pixels=max_pixels)
        whole = [
            pixels
            for pixels, frame in zip(decoded.frames, self.bundle.spec.frames, strict=True)
            if frame.region != "lesion"
        ]
        quality = check_quality(whole[0], decoded.width, decoded.height) if whole else Quality()
        quality = replace(quality, decoding=decoded.notes)
        return Picture(decoded.frames, hashlib.sha256(data).hexdigest(), quality, decoded.boxes)

    def embed(self, images: Sequence[Scales]) -> npt.NDArray[np.float32]:
        """Embed decoded images, as a feature file keeps them.

        Parameters
        ----------
        images : sequence of tuple of ndarray
            As `read` gives them.

        Returns
        -------
        ndarray of float32, shape (n, spec.width)
        """
        if not images:
            return np.empty((0, self.bundle.spec.width), np.float32)
        return self._extractor.embed(*map(np.stack, zip(*images, strict=True)))

    @property
    def lanes(self) -> int:
        """How many threads the networks serve at the same time, each with an image of its own."""
        return self._extractor.lanes

    def classify_embedded(
        self,
        filenames: Sequence[str],
        rows: npt.NDArray[np.float32],
        metadata: Sequence[Mapping[str, Any] | None] | None = None,
        *,
        pictures: Sequence[Picture] | None = None,
        similar: int = 0,
    ) -> list[Verdict]:
        """Classify embedded images.

        Parameters
        ----------
        filenames : sequence of str
            The names to call the images by.
        rows : ndarray of float32, shape (n, spec.width)
            As `embed` gives them.
        metadata : sequence of (mapping or None), optional
            As for `classify`.
        pictures : sequence of Picture, optional
            As `look_at` gives them; without, nothing is said of their quality, nor whether they
            were trained on.
        similar : int
            As for `classify`.

        Returns
        -------
        list of Verdict

        Raises
        ------
        PatientError
        """
        if not len(rows):
            return []
        patients = [None] * len(rows) if metadata is None else metadata
        told = [self.read_patient(patient or {}) for patient in patients]
        embeddings = self.bundle.spec.combine(rows)
        probabilities = self.bundle.probability_with(embeddings, [inputs for inputs, _ in told])
        classes = self.bundle.classes.ranked(embeddings, probabilities)
        verdicts = [
            self._verdict(filename, float(probability), shares, *patient)
            for filename, probability, shares, patient in zip(
                filenames, probabilities, classes, told, strict=True
            )
        ]
        if (gallery := self.bundle.gallery) is not None:
            placed = gallery.place(embeddings)
            distances = gallery.distance(placed).tolist()
            alike = gallery.nearest(placed, similar) if similar else [()] * len(rows)
            verdicts = [
                _compared(gallery, replace(verdict, distance=distance, similar=cases))
                for verdict, distance, cases in zip(verdicts, distances, alike, strict=True)
            ]
        if pictures is None:
            return verdicts
        return [
            self._with_picture(verdict, picture)
            for verdict, picture in zip(verdicts, pictures, strict=True)
        ]

    def read_patient(self, given: Mapping[str, Any]) -> tuple[dict[str, Any], tuple[Note, ...]]:
        """Read what the bundle can use of age, sex and site, and note what it can't.

        See `models.patients.encoding.read_patient`.
        """
        fused = self.bundle.fusion
        known, unused = read_patient(given, fused.fusion.kinds if fused else {})
        return known, tuple(map(wording.not_used, unused))

    def see(self, picture: Picture) -> Seen:
        """Embed an image as `embed` does, and keep what `explain` needs of the same pass."""
        frames = (pixels[np.newaxis] for pixels in picture.frames)
        return Seen(self._extractor.look(*frames), picture.boxes)

    def explain(self, seen: Seen, *, at_once: int = 2) -> Evidence:
        """Say where in an image its score comes from.

        Parameters
        ----------
        seen : Seen
            As `see` gives it.
        at_once : int, optional
            As for `models.inference.evidence.explain`.
        """
        changes = partial(changes_of, self.bundle.classes.heads[0].estimator)
        spec, score = self.bundle.spec, self.bundle.score
        return explain(spec, seen.looks, score, seen.boxes, changes=changes, at_once=at_once)

    def with_bundle(self, bundle: Bundle) -> Classifier:
        """Judge by another bundle that needs the same embeddings, without another network.

        Raises
        ------
        BundleRefused
            If it needs others.
        """
        return Classifier(bundle, self._extractor)

    def _see_all(self, pictures: Sequence[Picture]) -> tuple[npt.NDArray[np.float32], list[Any]]:
        # One after the other: the maps of one image are as large as it is itself.
        rows, explained = [self.embed([])], []
        for picture in pictures:
            seen = self.see(picture)
            rows.append(seen.row[np.newaxis])
            explained.append(self.explain(seen))
        return np.concatenate(rows), explained

    def _verdict(
        self,
        filename: str,
        probability: float,
        classes: dict[str, float] | None,
        inputs: dict[str, Any],
        unused: tuple[Note, ...],
    ) -> Verdict:
        decision = self.bundle.decision_with(inputs)
        flagged = bool(decision.flags(probability))
        verdict = Verdict(
            filename=filename,
            label=self.bundle.labels[flagged],
            probability=probability,
            threshold=decision.threshold,
            decision=decision.decide(probability),
            flagged=flagged,
            warnings=(*self.warnings, *unused),
            classes=classes,
            inputs=inputs or None,
        )
        zone = decision.zone
        if zone is None or verdict.decision != "cannot tell":
            return verdict
        return doubted(verdict, wording.because_of_zone(zone))

    def _with_picture(self, verdict: Verdict, picture: Picture) -> Verdict:
        gallery, quality = self.bundle.gallery, picture.quality
        label = None if gallery is None else gallery.label_of(picture.sha256)
        return replace(
            doubted(verdict, *wording.faults_of(quality)),
            warnings=(*verdict.warnings, *wording.hints_of(quality)),
            known=None if label is None else wording.known_as(label),
        )


def _compared(gallery: Gallery, verdict: Verdict) -> Verdict:
    if verdict.distance is None or not gallery.is_unlike(verdict.distance):
        return verdict
    return doubted(verdict, wording.because_unlike(verdict.distance, gallery.alpha))


def _require_same(bundle: Bundle, extractor: JoinedExtractor) -> None:
    if differing := bundle.spec.differing(extractor.spec):
        raise BundleRefused(
            f"the bundle {bundle.folder} needs embeddings of {bundle.spec}, this program makes "
            f"those of {extractor.spec} ({', '.join(differing)} differ): "
            "install the version that it was made with, or extract and train again"
        )
