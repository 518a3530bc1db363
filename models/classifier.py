"""From an image to a verdict: the one way that the terminal, the form and the API share."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
import numpy.typing as npt

from features.errors import UnreadableImage
from features.extractor import Extractor, load_extractor
from features.images import decode
from features.marks import MARKS
from models.bundle import Bundle, BundleRefused, load_bundle

__all__ = ["Classifier", "Rejected", "Verdict"]

# As many decoded images as are held at once, however many are asked for.
_BATCH: Final = 16

Decision = Literal["suspicious", "not suspicious"]


@dataclass(frozen=True)
class Verdict:
    """What a bundle says of one image; decision support, not a diagnosis.

    Parameters
    ----------
    filename : str
    label : str
        The class that the decision stands for.
    probability : float
        Calibrated probability of the positive class.
    threshold : float
        At or above it the decision is ``"suspicious"``.
    decision : {"suspicious", "not suspicious"}
    warnings : tuple of str
        Sentences to be shown beside it.
    """

    filename: str
    label: str
    probability: float
    threshold: float
    decision: Decision
    warnings: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """Give JSON-ready values."""
        return {**asdict(self), "warnings": list(self.warnings)}


@dataclass(frozen=True)
class Rejected:
    """An image that could not be read, and why.

    Parameters
    ----------
    filename : str
    code : str
        As of `features.errors.UnreadableImage`.
    message : str
    """

    filename: str
    code: str
    message: str

    def as_dict(self) -> dict[str, Any]:
        """Give JSON-ready values."""
        return {
            "filename": self.filename,
            "error": {"code": self.code, "message": self.message},
        }


class Classifier:
    """A bundle and its extractor, ready to judge images.

    May be shared between threads: images are decoded in the threads that ask, and the network
    runs for one of them at a time.

    Parameters
    ----------
    bundle : Bundle
    extractor : Extractor

    Raises
    ------
    BundleRefused
        If `extractor` is not the one that the bundle's head was fitted for.
    """

    def __init__(self, bundle: Bundle, extractor: Extractor) -> None:
        _require_same(bundle, extractor)
        self.bundle = bundle
        self._extractor = extractor
        self._running = threading.Lock()
        self.warnings = tuple(MARKS[mark] for mark in bundle.marks)

    @classmethod
    def load(cls, folder: str | Path, weights: str | Path | None = None) -> Classifier:
        """Load a bundle, build its network, and try it out.

        Parameters
        ----------
        folder : str or Path
        weights : str or Path, optional
            A weights file to use instead of the bundle's own; its hash must be the same.

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
        bundle = load_bundle(folder)
        spec = bundle.spec
        try:
            extractor = load_extractor(
                spec.network,
                "untrained" if spec.untrained else weights or bundle.network_path or "",
                input_size=spec.input_size,
                precision=spec.precision.partition(":")[0],
                serving=True,
            )
        except ValueError as error:
            raise BundleRefused(
                f"the bundle {folder} needs a network that this program can't build ({error}): "
                "update the program, or fit the classifier anew"
            ) from error
        classifier = cls(bundle, extractor)
        blank = np.zeros((1, spec.input_size, spec.input_size, 3), np.uint8)
        bundle.probability(extractor.embed(blank))
        return classifier

    def classify(self, images: Sequence[tuple[str, bytes | Path]]) -> list[Verdict | Rejected]:
        """Judge images.

        Parameters
        ----------
        images : sequence of (filename, bytes or Path)
            The name to call the image by, and its content or where it lies.

        Returns
        -------
        list of Verdict or Rejected
            One for each image in the order given; an image that can't be read doesn't keep the
            others from being judged.
        """
        found: list[Verdict | Rejected] = []
        for start in range(0, len(images), _BATCH):
            found += self._classify_batch(images[start : start + _BATCH])
        return found

    def _classify_batch(
        self, images: Sequence[tuple[str, bytes | Path]]
    ) -> list[Verdict | Rejected]:
        size = self.bundle.spec.input_size
        decoded: list[npt.NDArray[np.uint8] | Rejected] = []
        for filename, source in images:
            try:
                decoded.append(decode(source, size).pixels)
            except UnreadableImage as error:
                decoded.append(Rejected(filename, error.code, str(error)))
        readable = [pixels for pixels in decoded if not isinstance(pixels, Rejected)]
        probabilities = iter(self._probabilities(readable))
        return [
            pixels if isinstance(pixels, Rejected) else self._verdict(filename, next(probabilities))
            for (filename, _), pixels in zip(images, decoded, strict=True)
        ]

    def _probabilities(self, pixels: list[npt.NDArray[np.uint8]]) -> list[float]:
        if not pixels:
            return []
        with self._running:
            embeddings = self._extractor.embed(np.stack(pixels))
        return [float(value) for value in self.bundle.probability(embeddings)]

    def _verdict(self, filename: str, probability: float) -> Verdict:
        threshold = self.bundle.threshold
        suspicious = probability >= threshold
        return Verdict(
            filename=filename,
            label=self.bundle.labels[suspicious],
            probability=probability,
            threshold=threshold,
            decision="suspicious" if suspicious else "not suspicious",
            warnings=self.warnings,
        )


def _require_same(bundle: Bundle, extractor: Extractor) -> None:
    needed, found = bundle.spec.as_dict(), extractor.spec.as_dict()
    differing = [key.replace("_", " ") for key in needed if needed[key] != found[key]]
    if differing:
        raise BundleRefused(
            f"the bundle {bundle.folder} needs embeddings of {bundle.spec}, this program makes "
            f"those of {extractor.spec} ({', '.join(differing)} differ): "
            "install the version that it was made with, or extract and fit anew"
        )
