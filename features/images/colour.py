"""Colours as they were meant, and without the colour of the light."""

from __future__ import annotations

import functools
import io
from typing import Final

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageCms

__all__ = ["AS_IS", "COLOURS", "SHADES_OF_GREY", "correct", "levels", "light", "to_srgb"]

AS_IS: Final = "as-is"
SHADES_OF_GREY: Final = "shades-of-grey"
COLOURS: Final = (AS_IS, SHADES_OF_GREY)

# LittleCMS keeps the last pixel in a transform, which threads must not share.
_CMS_NO_CACHE: Final = ImageCms.Flags.NOCACHE
_POWER: Final = 6
_POWERS: Final = (np.arange(256) / 255.0) ** _POWER


def light(image: Image.Image) -> npt.NDArray[np.float64]:
    """Estimate the colour of the light.

    Parameters
    ----------
    image : Image
        In RGB.

    Returns
    -------
    ndarray of float, shape (3,)
        Of each channel; their mean square is 1, so that white light is all ones.

    References
    ----------
    Finlayson and Trezzi, Shades of gray and colour constancy, Color Imaging Conference 2004, with
    the power 6; Barata, Celebi and Marques, Improving dermoscopy image classification using color
    constancy, IEEE Journal of Biomedical and Health Informatics 2015.

    Examples
    --------
    >>> light(Image.new("RGB", (2, 2), (200, 100, 100))).round(3).tolist()
    [1.414, 0.707, 0.707]
    """
    counts = np.array(image.histogram()).reshape(3, 256)
    channels = (counts @ _POWERS / (image.width * image.height)) ** (1 / _POWER)
    length = np.sqrt((channels**2).mean())
    if channels.min() <= 0:
        # Without any light in a channel nothing can be said of its colour.
        return np.ones(3)
    return np.asarray(channels / length, np.float64)


def correct(image: Image.Image, colour: npt.NDArray[np.float64]) -> Image.Image:
    """Show a picture as if the light had been white.

    Parameters
    ----------
    image : Image
        In RGB.
    colour : ndarray of float, shape (3,)
        As `light` gives it.

    Returns
    -------
    Image
    """
    return image.point(levels(colour).ravel().tolist())


def levels(colour: npt.NDArray[np.float64]) -> npt.NDArray[np.uint8]:
    """Say what `correct` makes of each of the 256 levels of each channel; shape (3, 256)."""
    found = np.arange(256) / colour[:, np.newaxis]
    return np.asarray(np.clip(found, 0, 255).round(), np.uint8)


def to_srgb(image: Image.Image, profile: bytes) -> Image.Image:
    """Convert a picture from its colour profile to sRGB."""
    try:
        transform = _srgb_transform(profile, image.mode)
        return image if transform is None else transform.apply(image)
    except (ImageCms.PyCMSError, ValueError, OSError):
        # Viewers show a picture with a broken or ill-fitting profile as if it had none.
        return image


@functools.lru_cache(maxsize=16)
def _srgb_transform(profile: bytes, mode: str) -> ImageCms.ImageCmsTransform | None:
    source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
    if mode == "RGB" and "srgb" in ImageCms.getProfileDescription(source).lower():
        return None
    target = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB"))
    return ImageCms.ImageCmsTransform(source, target, mode, "RGB", flags=_CMS_NO_CACHE)
