"""The specification of an extractor: all that changes an embedding, and its fingerprint."""

from __future__ import annotations

import contextlib
import hashlib
import json
import platform
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from importlib import metadata
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from features.embedding.views import View, combine, parse_views
from features.errors import CacheMismatch
from features.images.colour import AS_IS
from features.images.decoding import PIXELS_VERSION, Frame

__all__ = ["ExtractorSpec", "software_versions"]


@dataclass(frozen=True)
class ExtractorSpec:
    """All that changes an embedding, and nothing else.

    Parameters
    ----------
    network : str
        Name of the frozen network, e.g. ``"inception_v3"``.
    weights : {"pretrained", "untrained"}
        Whether the network has learnt from images.
    weights_sha256 : str
        Hash of the weights file; for untrained weights, of the values.
    input_size : int
        Side of the square input, in pixels.
    dim : int
        Length of the embedding of one view.
    layers : tuple of str
        Layers that the embedding is read from.
    pooling : str
        How positions are summed up: ``"mean"`` or ``"mean+std"``.
    views : tuple of str
        Which views of an image are embedded, as `features.embedding.views.parse_views` reads them.
    colour : {"as-is", "shades-of-grey"}
        Whether the colour of the light is taken out.
    precision : str
        Number format of the network's arithmetic: ``"fp32"``, ``"tf32"``, ``"bf16"``, or
        ``"int8:"`` and the beginning of the quantised network's hash.
    pixels : int
        Version of the decoder, `features.images.decoding.PIXELS_VERSION`.
    preparation : tuple of str
        As of `features.networks.registry.Network`: nothing for networks that are known by name.
    """

    network: str
    weights: str
    weights_sha256: str
    input_size: int
    dim: int
    layers: tuple[str, ...]
    pooling: str = "mean"
    views: tuple[str, ...] = ("identity",)
    colour: str = AS_IS
    precision: str = "fp32"
    pixels: int = PIXELS_VERSION
    preparation: tuple[str, ...] = ()

    @property
    def looks(self) -> tuple[View, ...]:
        """The views, parsed."""
        return parse_views(self.views, self.input_size, self.colour)

    @property
    def frames(self) -> tuple[Frame, ...]:
        """What an image must be decoded to."""
        return tuple(dict.fromkeys(view.frame for view in self.looks))

    @property
    def width(self) -> int:
        """Numbers that are kept of an image: the embeddings of all views."""
        return self.dim * len(self.views)

    @property
    def head_dim(self) -> int:
        """Numbers that a head is given: the views of each frame averaged."""
        return self.dim * len(self.frames)

    @property
    def spread(self) -> tuple[str, ...]:
        """The layers that are spread over the image, so that places of it can be left out."""
        told = [line for line in self.preparation if line.startswith(_SPREAD)]
        if not told:
            return self.layers
        there = json.loads(told[0].removeprefix(_SPREAD))
        return tuple(layer for layer in self.layers if layer in there)

    def combine(self, rows: npt.NDArray[np.floating]) -> npt.NDArray[np.float32]:
        """Turn what is kept of images, (n, width), into what heads are given, (n, head_dim)."""
        return combine(rows, self.looks, self.dim)

    @property
    def fingerprint(self) -> str:
        """Sha256 (hex) of the specification."""
        canonical = json.dumps(self.as_dict(), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(canonical.encode()).hexdigest()

    @property
    def untrained(self) -> bool:
        """Whether the network's weights are random."""
        return self.weights == "untrained"

    @property
    def seeded(self) -> bool:
        """Whether the weights are made from a seed wherever they are needed, and kept nowhere."""
        return self.untrained and not self.preparation

    def as_dict(self) -> dict[str, Any]:
        """Give the specification as JSON-ready values."""
        return {
            key: list(value) if isinstance(value, tuple) else value
            for key, value in asdict(self).items()
            # What was made before there was a choice keeps its fingerprint.
            if value != _IMPLIED.get(key, ...)
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> ExtractorSpec:
        """Read what `as_dict` gave.

        Raises
        ------
        ValueError
            If a field is missing or unknown, or can't be what it is.
        """
        names = {field.name for field in fields(cls)}
        if set(values) | set(_IMPLIED) != names:
            odd = ", ".join(sorted((set(values) | set(_IMPLIED)) ^ names))
            raise ValueError(f"the extractor's description has missing or unknown fields: {odd}")
        given: dict[str, Any] = {
            key: tuple(value) if isinstance(value, list) else value for key, value in values.items()
        }
        preparation = given.get("preparation", ())
        if not isinstance(preparation, tuple) or not all(isinstance(x, str) for x in preparation):
            raise ValueError(
                "the extractor's description has a preparation that is no list of texts"
            )
        return cls(**given)

    def require(self, other: ExtractorSpec, *, mine: str, others: str) -> None:
        """Refuse to go on if `other` gives other numbers.

        Parameters
        ----------
        other : ExtractorSpec
        mine, others : str
            What the two belong to, for the message: ``"features.h5"``, ``"this run"``.

        Raises
        ------
        CacheMismatch
            With every difference spelled out.
        """
        if self == other:
            return
        ours, theirs = {**_IMPLIED, **self.as_dict()}, {**_IMPLIED, **other.as_dict()}
        told = "; ".join(
            f"{key.replace('_', ' ')} {_short(ours[key])} against {_short(theirs[key])}"
            for key in ours
            if ours[key] != theirs[key]
        )
        advice = "use the same network, weights and options, or write to another file"
        if self.pixels != other.pixels:
            advice = (
                "versions of this program between which images are decoded otherwise: write to "
                "another file, or use that version"
            )
        both = self.precision.startswith(_INT8) and other.precision.startswith(_INT8)
        if both and self == replace(other, precision=self.precision):
            advice = (
                "the network was quantised anew by another version of this program or of NNCF, and "
                "comes out differently: write to another file"
            )
        raise CacheMismatch(f"{mine} was made with {self}, {others} has {other} ({told}): {advice}")

    def __str__(self) -> str:
        return f"{self.network}/{self.weights} ({self.fingerprint[:8]})"


_INT8: Final = "int8:"
_SPREAD: Final = "spread = "
# What is not in a specification where it is so.
_IMPLIED: Final[Mapping[str, Any]] = {"colour": AS_IS, "preparation": ()}


def software_versions() -> dict[str, str]:
    """Name the versions that a result depends on."""
    names = ("numpy", "pillow", "h5py", "keras", "tensorflow", "scikit-learn", "xgboost")
    found = {"python": platform.python_version()}
    for name in ("lesion-classifier", *names):
        with contextlib.suppress(metadata.PackageNotFoundError):
            found[name] = metadata.version(name)
    return found


def _short(value: object) -> str:
    text = ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
    if not text:
        return "none"
    return text[:12] + "…" if len(text) == 64 else text
