"""Whether a picture is good enough to be judged: sharp, well lit, large enough, of something."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
import numpy.typing as npt
from PIL import Image
from scipy import ndimage

__all__ = ["Fault", "Hint", "Quality", "check_quality", "is_nearly_black"]

_SIDE: Final = 128
# Corners are dark in many microscopes: light and sharpness are judged in the middle.
_EDGE: Final = 16
_LUMA: Final = np.array([0.299, 0.587, 0.114], np.float32)

Floats = npt.NDArray[np.float32]
Fault = Literal["small", "flat", "dark", "overexposed", "blurred"]
Hint = Literal["patch", "hair"]

# No threshold alarms on more than 1 % of 1,000 dermoscopic images (docs/evaluation.md).
_ENLARGED: Final = 2.5
_DARK: Final = 60.0
_BLACK: Final = 20.0
_SATURATED: Final = 253
_BURNT: Final = 0.6
_FLAT: Final = 15.0
_FINE_SHARE: Final = 0.22
_FINE: Final = 7.0
_PATCH: Final = 0.005
_HAIRY: Final = 0.08
_HAIR_LENGTH: Final = 14


@dataclass(frozen=True)
class Quality:
    """What is wrong with a picture.

    Parameters
    ----------
    faults : tuple of {"small", "flat", "dark", "overexposed", "blurred"}
        Why it can't be judged.
    hints : tuple of {"patch", "hair"}
        What may mislead a judgement without forbidding it.
    width, height : int
        Of the original in pixels.
    side : int
        Pixels of each side that the network sees; 0 if it sees no whole image.
    decoding : tuple of str
        What had to be assumed to read the file, as of `features.images.decoding.Decoded`.
    """

    faults: tuple[Fault, ...] = ()
    hints: tuple[Hint, ...] = ()
    width: int = 0
    height: int = 0
    side: int = 0
    decoding: tuple[str, ...] = ()


def check_quality(pixels: npt.NDArray[np.uint8], width: int, height: int) -> Quality:
    """Look for what spoils a picture, at the size that the network sees.

    Parameters
    ----------
    pixels : ndarray of uint8, shape (size, size, 3)
        sRGB, the whole image.
    width, height : int
        Of the original in pixels.

    Returns
    -------
    Quality
        Sharpness, patches and hair are not looked for below 128 pixels.

    Notes
    -----
    Sharpness is the variance of the Laplacian (Pech-Pacheco et al., Diatom autofocusing in
    brightfield microscopy, ICPR 2000), alone and as a share of that at half the size, which
    doesn't depend on how much there is to see.

    Examples
    --------
    >>> import numpy as np
    >>> check_quality(np.full((299, 299, 3), 128, np.uint8), 600, 450).faults
    ('flat',)
    """
    side = min(_SIDE, len(pixels))
    small = np.asarray(
        Image.fromarray(pixels).resize((side, side), Image.Resampling.BILINEAR), np.float32
    )
    edge = _EDGE * side // _SIDE
    # One plane for each colour: what compares them is several times as fast than across a pixel.
    planes = np.ascontiguousarray(np.moveaxis(small, -1, 0))
    brightest = planes.max(axis=0)
    luma = small @ _LUMA
    inside = (slice(edge, -edge), slice(edge, -edge))
    middle = luma[inside]
    faults: list[Fault] = []
    if min(width, height) * _ENLARGED < len(pixels):
        faults.append("small")
    low, high = np.percentile(middle, (1, 99))
    if high - low < _FLAT:
        faults.append("flat")
    elif middle.mean() < _DARK:
        faults.append("dark")
    elif (brightest[inside] >= _SATURATED).mean() > _BURNT:
        faults.append("overexposed")
    elif side == _SIDE and _is_blurred(middle):
        faults.append("blurred")
    hints = _hints(planes, brightest, luma) if side == _SIDE else ()
    return Quality(tuple(faults), hints, width, height, len(pixels))


def is_nearly_black(pixels: npt.NDArray[np.uint8]) -> bool:
    """Tell whether hardly anything can be seen, whatever the picture is of."""
    return bool(pixels[::4, ::4].mean() < _BLACK)


def _is_blurred(luma: Floats) -> bool:
    half = len(luma) // 2
    coarse = luma.reshape(half, 2, half, 2).mean((1, 3))
    fine = ndimage.laplace(luma)[1:-1, 1:-1].var()
    broad = ndimage.laplace(coarse)[1:-1, 1:-1].var()
    return bool(fine < _FINE or fine < _FINE_SHARE * broad)


def _hints(planes: Floats, brightest: Floats, luma: Floats) -> tuple[Hint, ...]:
    lit = brightest > 40
    if not lit.any():
        return ()
    found: list[Hint] = []
    if _patch(planes, brightest, lit) > _PATCH:
        found.append("patch")
    if _hair(luma, lit) > _HAIRY:
        found.append("hair")
    return tuple(found)


def _patch(planes: Floats, brightest: Floats, lit: npt.NDArray[np.bool_]) -> float:
    """Give the share of the largest area that is far bluer, greener or yellower than the rest."""
    red, green, blue = planes
    vivid = (brightest - planes.min(axis=0) > 45) & lit
    bluer, greener, yellower = blue - red, green - red, np.minimum(red, green) - blue
    # Every second row and column is enough for a median.
    some = (slice(None, None, 2), slice(None, None, 2))
    usual = lit[some] if lit[some].any() else np.ones_like(lit[some])
    blues = (bluer > np.median(bluer[some][usual]) + 45) & (bluer > 10)
    greens = (greener > np.median(greener[some][usual]) + 35) & (greener > 10)
    # Stickers beside the lesion; what is browner than these is often the lesion.
    yellows = (yellower > np.median(yellower[some][usual]) + 60) & (yellower > 80)
    yellows &= np.abs(greener) < 80
    areas = np.bincount(ndimage.label((blues | greens | yellows) & vivid)[0].ravel())[1:]
    return float(areas.max(initial=0)) / lit.size


def _hair(luma: Floats, lit: npt.NDArray[np.bool_]) -> float:
    """Give the share of long thin dark lines around the middle, in the second barest quarter.

    Black top-hat as in DullRazor (Lee et al., Comput Biol Med 1997). The middle is left out
    because lesions have lines of their own.
    """
    around = lit.copy()
    quarter, half = _SIDE // 4, _SIDE // 2
    around[quarter:-quarter, quarter:-quarter] = False
    thin = (ndimage.grey_closing(luma, (5, 5)) - luma > 15) & around
    labels, _ = ndimage.label(thin, np.ones((3, 3)))
    places = ndimage.find_objects(labels)
    long = [False] + [max(s.stop - s.start for s in place) >= _HAIR_LENGTH for place in places]
    lines = np.array(long)[labels].reshape(2, half, 2, half).mean((1, 3)) / 0.75
    return float(np.sort(lines.ravel())[1])
