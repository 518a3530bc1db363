"""The one classifier of the process: loaded once, warmed up, shared by all requests."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

from PIL import Image

from features.errors import LesionError
from service.batching import Batcher

if TYPE_CHECKING:
    from models.bundle import Bundle
    from models.classifier import Classifier, Rejected, Verdict

__all__ = ["LoadedClassifier", "NotReady"]

# Past this a pass of the network on a CPU takes longer without doing more images per second.
LARGEST_PASS: Final = 16


class NotReady(LesionError):
    """A request that came before the bundle was loaded."""


class LoadedClassifier:
    """A bundle's classifier that many threads may ask.

    Parameters
    ----------
    bundle : Path
        The bundle's folder.
    weights : Path, optional
        The network's weights file, for a bundle that carries none.
    """

    def __init__(self, bundle: Path, weights: Path | None = None) -> None:
        self._folder = bundle
        self._weights = weights
        self._loaded: Classifier | None = None
        self._classify: Batcher[tuple[str, bytes | Path], Verdict | Rejected] | None = None

    def load(self) -> None:
        """Load the bundle and run images through it, so that the first request is as quick.

        Raises
        ------
        BundleRefused
            If the bundle is incomplete, altered, or not reproducible here.
        """
        # Imported late: it takes seconds, in which the server answers already.
        from models.classifier import Classifier

        loaded = Classifier.load(self._folder, self._weights)
        # The network prepares itself anew when it first meets several images at once.
        grey = _grey_image(loaded.bundle.spec.input_size)
        loaded.classify([("warm-up", grey), ("warm-up", grey)])
        self._classify = Batcher(loaded.classify, largest=LARGEST_PASS)
        self._loaded = loaded

    @property
    def ready(self) -> bool:
        """Whether images can be classified."""
        return self._loaded is not None

    @property
    def bundle(self) -> Bundle:
        """What is served.

        Raises
        ------
        NotReady
            Until `load` has come to its end.
        """
        if self._loaded is None:
            raise NotReady("The classifier is still being loaded: try again in a few seconds.")
        return self._loaded.bundle

    def classify(self, images: Sequence[tuple[str, bytes]]) -> list[Verdict | Rejected]:
        """Classify encoded images, together with those of other requests that wait.

        Parameters
        ----------
        images : sequence of (str, bytes)
            File name and content.

        Returns
        -------
        list of Verdict or Rejected
            One for each image, in the same order.

        Raises
        ------
        NotReady
            Until `load` has come to its end.
        """
        if self._classify is None:
            raise NotReady("The classifier is still being loaded: try again in a few seconds.")
        return self._classify(images)


def _grey_image(size: int) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (size, size), (128, 128, 128)).save(file, "PNG")
    return file.getvalue()
