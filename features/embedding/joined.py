"""Several networks as one extractor: their embeddings side by side, from one reading of an image.

One network is the list of length one.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from features.embedding.extractor import Extractor, Look
from features.embedding.specification import ExtractorSpec
from features.images.decoding import MAX_PIXELS, Decoded, Frame, decode_each

__all__ = ["JoinedExtractor", "JoinedSpec"]


@dataclass(frozen=True)
class JoinedSpec:
    """The specifications of networks whose embeddings stand side by side.

    Parameters
    ----------
    networks : tuple of ExtractorSpec
        At least one, in the order of their columns.
    """

    networks: tuple[ExtractorSpec, ...]

    @property
    def frames(self) -> tuple[Frame, ...]:
        """What an image must be decoded to: each network's frames, one after the other."""
        return tuple(frame for each in self.networks for frame in each.frames)

    @property
    def width(self) -> int:
        """Numbers that are kept of an image: the embeddings of all networks."""
        return sum(each.width for each in self.networks)

    @property
    def head_dim(self) -> int:
        """Numbers that a head is given."""
        return sum(each.head_dim for each in self.networks)

    @property
    def columns(self) -> tuple[slice, ...]:
        """Which of the numbers that a head is given are each network's."""
        return _slices([each.head_dim for each in self.networks])

    @property
    def network(self) -> str:
        """The names of the networks."""
        return " + ".join(each.network for each in self.networks)

    @property
    def spread(self) -> bool:
        """Whether there is a network, places of whose image can be left out."""
        return any(each.spread for each in self.networks)

    @property
    def untrained(self) -> bool:
        """Whether the weights of any network are random."""
        return any(each.untrained for each in self.networks)

    @property
    def fingerprint(self) -> str:
        """Sha256 (hex) of all specifications; of one network that of its own."""
        if len(self.networks) == 1:
            return self.networks[0].fingerprint
        listed = [each.as_dict() for each in self.networks]
        canonical = json.dumps(listed, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(canonical.encode()).hexdigest()

    def decode(self, source: str | Path | bytes, *, max_pixels: int = MAX_PIXELS) -> Decoded:
        """Decode an image to `frames`, as `features.images.decoding.decode_each` does.

        Raises
        ------
        UnreadableImage
        """
        groups = [each.frames for each in self.networks]
        found = decode_each(source, *groups, max_pixels=max_pixels)
        return replace(
            found[0],
            frames=tuple(pixels for each in found for pixels in each.frames),
            boxes=tuple(box for each in found for box in each.boxes),
        )

    def combine(self, rows: npt.NDArray[np.floating[Any]]) -> npt.NDArray[np.float32]:
        """Turn what is kept of images, (n, width), into what heads are given, (n, head_dim)."""
        parts = [
            each.combine(rows[:, place])
            for each, place in zip(
                self.networks, _slices([each.width for each in self.networks]), strict=True
            )
        ]
        return parts[0] if len(parts) == 1 else np.hstack(parts)

    def differing(self, other: JoinedSpec) -> list[str]:
        """Name what differs between the specifications, for a person."""
        found = dict.fromkeys(
            name.replace("_", " ")
            for mine, theirs in zip(self.networks, other.networks, strict=False)
            for name in vars(mine)
            if getattr(mine, name) != getattr(theirs, name)
        )
        if len(self.networks) != len(other.networks):
            found["number of networks"] = None
        return list(found)

    def __str__(self) -> str:
        return " + ".join(map(str, self.networks))


class JoinedExtractor:
    """Frozen networks that are ready to run one after the other; may be shared between threads.

    Parameters
    ----------
    extractors : sequence of Extractor
        At least one, in the order of their columns.
    """

    def __init__(self, extractors: Sequence[Extractor]) -> None:
        self._extractors = tuple(extractors)
        self.spec = JoinedSpec(tuple(each.spec for each in extractors))

    def embed(self, *pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """Embed images by all networks.

        Parameters
        ----------
        *pixels : ndarray of uint8, shape (n, size, size, 3)
            The images in each of ``spec.frames``, as `JoinedSpec.decode` gives them.

        Returns
        -------
        ndarray of float32, shape (n, spec.width)
            Network by network what `Extractor.embed` gives.
        """
        parts = [
            each.embed(*given)
            for each, given in zip(self._extractors, self._shared_out(pixels), strict=True)
        ]
        return parts[0] if len(parts) == 1 else np.hstack(parts)

    def look(self, *pixels: npt.NDArray[np.uint8]) -> list[list[Look]]:
        """Embed images as `embed` does, and keep the maps: for each network what its own gives."""
        return [
            each.look(*given)
            for each, given in zip(self._extractors, self._shared_out(pixels), strict=True)
        ]

    @property
    def lanes(self) -> int:
        """How many threads are served at the same time, each with an image of its own."""
        return min(each.prepare().lanes for each in self._extractors)

    def _shared_out(
        self, pixels: Sequence[npt.NDArray[np.uint8]]
    ) -> list[list[npt.NDArray[np.uint8]]]:
        left = iter(pixels)
        return [[next(left) for _ in each.spec.frames] for each in self._extractors]


def _slices(lengths: Sequence[int]) -> tuple[slice, ...]:
    ends = np.cumsum([0, *lengths]).tolist()
    return tuple(map(slice, ends[:-1], ends[1:]))
