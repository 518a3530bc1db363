"""What the audit looks at in a picture: its shades, its rings, its light, its file."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt
from scipy.ndimage import gaussian_filter

from features.audit.alignment import SIDE, ring_points, sample
from features.errors import UnreadableImage
from features.images.decoding import load_pixels
from features.images.sources.files import read_file

__all__ = ["RING_SCALES", "Pictures", "read_pictures"]

# A picture is also looked up as if it were enlarged, so that a cropped copy meets its original.
RING_SCALES: Final = (1.0, 0.89, 0.8)

_RADII: Final = np.linspace(3, 24, 8)
_HARMONICS: Final = 9
_LUMA: Final = np.array([0.299, 0.587, 0.114], np.float32)
_SIZE: Final = len(_RADII) * _HARMONICS * 3


@dataclass(frozen=True)
class Pictures:
    """What was seen of n images; rows of images that could not be read are zero.

    Parameters
    ----------
    grey : ndarray of uint8, shape (n, 64, 64)
    rings : ndarray of float32, shape (n, 3, 216)
        Ring signatures of unit length, for each of `RING_SCALES`.
    file_size : ndarray of float, shape (n,)
        In bytes.
    brightness : ndarray of float, shape (n,)
        Mean luma, 0 to 255.
    corners : ndarray of float, shape (n,)
        Luma of the corners as a share of that of the whole picture.
    contrast : ndarray of float, shape (n,)
        Standard deviation of the luma.
    faults : dict of int to str
        Why an image could not be read.
    """

    grey: npt.NDArray[np.uint8]
    rings: npt.NDArray[np.float32]
    file_size: npt.NDArray[np.float64]
    brightness: npt.NDArray[np.float64]
    corners: npt.NDArray[np.float64]
    contrast: npt.NDArray[np.float64]
    faults: dict[int, str]

    @property
    def seen(self) -> npt.NDArray[np.bool_]:
        """Which images could be read, shape (n,)."""
        there = np.ones(len(self.grey), bool)
        there[list(self.faults)] = False
        return there


def read_pictures(
    folder: Path,
    paths: Sequence[str],
    hashes: Sequence[str],
    progress: Callable[[int, int], object] = lambda done, total: None,
) -> Pictures:
    """Look at images.

    Parameters
    ----------
    folder : Path
    paths : sequence of str
        Below the folder.
    hashes : sequence of str
        sha256 of each file; one whose content has changed is not looked at.
    progress : callable, optional
        Told how many of how many are done.
    """
    n = len(paths)
    found = Pictures(
        np.zeros((n, SIDE, SIDE), np.uint8),
        np.zeros((n, len(RING_SCALES), _SIZE), np.float32),
        file_size=np.zeros(n),
        brightness=np.zeros(n),
        corners=np.zeros(n),
        contrast=np.zeros(n),
        faults={},
    )
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        looked = pool.map(lambda place: _look(folder / paths[place], hashes[place]), range(n))
        for place, seen in enumerate(looked):
            progress(place + 1, n)
            if isinstance(seen, str):
                found.faults[place] = seen
                continue
            pixels, found.file_size[place] = seen
            _describe(found, place, pixels)
    return found


def _look(path: Path, sha256: str) -> tuple[npt.NDArray[np.uint8], int] | str:
    try:
        data = read_file(path)
    except UnreadableImage as error:
        return str(error)
    if hashlib.sha256(data).hexdigest() != sha256:
        return "the file has changed since its embedding was made"
    try:
        return load_pixels(data, SIDE), len(data)
    except UnreadableImage as error:
        return str(error)


def _describe(found: Pictures, place: int, pixels: npt.NDArray[np.uint8]) -> None:
    luma = pixels @ _LUMA
    found.grey[place] = luma.round()
    found.rings[place] = _rings(pixels.astype(np.float32))
    found.brightness[place] = luma.mean()
    found.contrast[place] = luma.std()
    edge = SIDE // 8
    corners = luma[np.ix_([*range(edge), *range(-edge, 0)], [*range(edge), *range(-edge, 0)])]
    found.corners[place] = corners.mean() / max(luma.mean(), 1.0)


@lru_cache(maxsize=1)
def _points() -> npt.NDArray[np.float64]:
    return np.stack([ring_points(_RADII, scale) for scale in RING_SCALES], axis=1)


def _rings(pixels: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Describe colours along rings such that turning and mirroring change nothing."""
    soft = np.stack([gaussian_filter(pixels[..., channel], 2.0) for channel in range(3)])
    values = sample(soft, _points())
    values -= values.mean((-1, -2), keepdims=True)
    spectra = np.abs(np.fft.rfft(values, axis=-1))[..., :_HARMONICS] * np.sqrt(_RADII)[:, None]
    signatures = spectra.transpose(1, 0, 2, 3).reshape(len(RING_SCALES), -1)
    length = np.linalg.norm(signatures, axis=1, keepdims=True)
    return np.asarray(signatures / np.maximum(length, 1e-6), np.float32)
