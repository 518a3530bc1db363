"""Roughly where the lesion is: the darkest large patch near the middle, by colour alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from features.images.resampling.compiled import kernels

__all__ = ["SIDE", "WHOLE", "Box", "locate"]

SIDE: Final = 128

_SMOOTHING: Final = 1.1
_MARGIN: Final = 1.3
_LEAST_SIDE: Final = 0.25
_LEAST_AREA: Final = 0.01
_BINS: Final = 128
# Black corners and frames are darker than any lesion.
_BLACK: Final = 60
_FRAME: Final = 150
_RING: Final = (0.38, 0.62)
_CHANNELS: Final = np.array([0.3, 0.4, 0.3], np.float32)

_ACROSS: Final = np.linspace(-0.5, 0.5, SIDE, dtype=np.float32)
_DISTANCE: Final = np.hypot(_ACROSS[:, np.newaxis], _ACROSS)
_AROUND: Final = (_RING[0] < _DISTANCE) & (_RING[1] > _DISTANCE)
_MIDDLE: Final = _DISTANCE < 0.5
_FADING: Final = np.exp(-((_DISTANCE / 0.55) ** 4))
_WEIGHT: Final = np.exp(-((_DISTANCE / 0.3) ** 2))

Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Box:
    """A part of an image.

    Parameters
    ----------
    left, top, right, bottom : float
        As fractions of the image's width and height.
    """

    left: float
    top: float
    right: float
    bottom: float


WHOLE: Final = Box(0.0, 0.0, 1.0, 1.0)


def locate(pixels: npt.NDArray[np.uint8]) -> Box:
    """Find a box around the lesion, with a margin.

    Parameters
    ----------
    pixels : ndarray of uint8, shape (SIDE, SIDE, 3)
        sRGB.

    Returns
    -------
    Box
        Equally large a part of the width as of the height, within the image; `WHOLE` where
        nothing stands out.

    Notes
    -----
    Otsu's threshold (1979) on how much darker a place is than the skin, which is taken to be the
    median colour of a ring around the middle; of the patches above it the one that is largest,
    weighted towards the middle. It is a place to look closer at, not a segmentation.
    """
    if pixels.shape != (SIDE, SIDE, 3):
        raise ValueError(f"got pixels of shape {pixels.shape}, expected ({SIDE}, {SIDE}, 3)")
    smooth = _smoothed(pixels)
    red, green, blue = np.moveaxis(smooth, -1, 0)
    brightness = red + green + blue
    ring = _AROUND & (brightness > _FRAME)
    if np.count_nonzero(ring) < SIDE:
        ring = np.ones_like(ring)
    skin = np.array([np.median(plane[ring]) for plane in (red, green, blue)])
    darker = np.maximum(skin - smooth, 0) @ _CHANNELS
    darker *= (brightness > _BLACK) * _FADING
    found = _without_holes(_opened(darker > _otsu(darker[_MIDDLE])))
    patches, count = ndimage.label(found)
    if not count:
        return WHOLE
    sums = np.bincount(patches.ravel(), _WEIGHT.ravel())
    patch = patches == 1 + int(np.argmax(sums[1:]))
    if np.count_nonzero(patch) < _LEAST_AREA * SIDE**2:
        return WHOLE
    rows, columns = (np.flatnonzero(patch.any(axis)) for axis in (1, 0))
    return _around(
        columns[0] / SIDE, rows[0] / SIDE, (columns[-1] + 1) / SIDE, (rows[-1] + 1) / SIDE
    )


def _smoothed(pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    if (loaded := kernels()) is not None:
        return loaded.blurred(np.ascontiguousarray(pixels), _SMOOTHING)
    smooth = ndimage.gaussian_filter(pixels, (_SMOOTHING, _SMOOTHING, 0), output=np.float32)
    return np.asarray(smooth, np.float32)


def _opened(found: Mask) -> Mask:
    """Do what SciPy's `binary_opening` does with two iterations, several times as fast."""
    # What lies outside counts as empty both for shrinking and for growing.
    padded = np.zeros((SIDE + 2, SIDE + 2), bool)
    inner = padded[1:-1, 1:-1]
    inner[:] = found
    for join in (np.logical_and, np.logical_and, np.logical_or, np.logical_or):
        sideways = join(padded[1:-1, :-2], padded[1:-1, 2:])
        upright = join(padded[:-2, 1:-1], padded[2:, 1:-1])
        join(inner, join(sideways, upright), out=inner)
    return inner


def _without_holes(found: Mask) -> Mask:
    outside = np.pad(~found, 1, constant_values=True)
    labels, count = ndimage.label(outside)
    # The rim, which is one with all that is open to it, has the first label.
    return found if count == 1 else (labels != 1)[1:-1, 1:-1]


def _around(left: float, top: float, right: float, bottom: float) -> Box:
    half = min(max(right - left, bottom - top, _LEAST_SIDE) * _MARGIN / 2, 0.5)
    x = min(max((left + right) / 2, half), 1 - half)
    y = min(max((top + bottom) / 2, half), 1 - half)
    return Box(float(x - half), float(y - half), float(x + half), float(y + half))


def _otsu(values: npt.NDArray[np.float32]) -> float:
    if values.min() == values.max():
        return float(values[0])
    counts, edges = np.histogram(values, _BINS)
    middles = (edges[:-1] + edges[1:]) / 2
    below, mass = np.cumsum(counts)[:-1], np.cumsum(counts * middles)[:-1]
    total, all_mass = counts.sum(), (counts * middles).sum()
    # The last bin holds a value, so that neither part is empty; the first one does, too.
    between = (all_mass * below / total - mass) ** 2 / (below * (total - below))
    return float(middles[int(np.argmax(between))])
