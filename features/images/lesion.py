"""Roughly where the lesion is: the darkest large patch near the middle, by colour alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
from scipy import ndimage

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
    smooth = ndimage.gaussian_filter(pixels.astype(np.float32), (_SMOOTHING, _SMOOTHING, 0))
    across = np.linspace(-0.5, 0.5, SIDE, dtype=np.float32)
    distance = np.hypot(across[:, np.newaxis], across)
    brightness = smooth.sum(axis=-1)
    ring = (distance > _RING[0]) & (distance < _RING[1]) & (brightness > _FRAME)
    if ring.sum() < SIDE:
        ring = np.ones_like(ring)
    skin = np.median(smooth[ring], axis=0)
    darker = np.maximum(skin - smooth, 0) @ _CHANNELS
    darker *= (brightness > _BLACK) * np.exp(-((distance / 0.55) ** 4))
    found = darker > _otsu(darker[distance < 0.5])
    found = ndimage.binary_fill_holes(ndimage.binary_opening(found, iterations=2))
    patches, count = ndimage.label(found)
    if not count:
        return WHOLE
    weight = np.exp(-((distance / 0.3) ** 2))
    sums = ndimage.sum_labels(weight, patches, range(1, count + 1))
    rows, columns = np.nonzero(patches == 1 + int(np.argmax(sums)))
    if len(rows) < _LEAST_AREA * SIDE**2:
        return WHOLE
    return _around(
        columns.min() / SIDE, rows.min() / SIDE, (columns.max() + 1) / SIDE, (rows.max() + 1) / SIDE
    )


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
