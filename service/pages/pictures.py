"""Pictures for the pages, made in memory and sent inside the page as ``data:`` addresses."""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
from PIL import Image

from features.images.decoding import decode

__all__ = ["Preview", "embedded", "overlay", "preview"]

SIDE: Final = 448
# The ends of Brewer's PuOr: told apart with any kind of colour vision, and on a grey picture.
RAISES: Final = (230, 97, 1)
LOWERS: Final = (94, 60, 153)
_STRONGEST: Final = 0.9
_KINDS: Final = {b"\xff\xd8\xff": "jpeg", b"\x89PNG": "png", b"RIFF": "webp"}


@dataclass(frozen=True)
class Preview:
    """An image as a page shows it.

    Parameters
    ----------
    address : str
        ``data:`` address of a JPEG.
    width, height : int
        In pixels, in the proportions of the image.
    """

    address: str
    width: int
    height: int


def preview(image: bytes, side: int = SIDE) -> Preview:
    """Make an image small, by the only decoder: it reads what browsers can't show.

    Parameters
    ----------
    image : bytes
        Content of an image file.
    side : int, optional
        The longer side in pixels.

    Raises
    ------
    UnreadableImage
    """
    decoded = decode(image, side)
    scale = side / max(decoded.width, decoded.height)
    width, height = (max(1, round(each * scale)) for each in (decoded.width, decoded.height))
    small = Image.fromarray(decoded.pixels).resize((width, height))
    return Preview(_address(small, "jpeg", quality=85), width, height)


def overlay(effect: npt.NDArray[np.float32], width: int, height: int) -> str:
    """Draw an evidence map to be laid over its image; clear where nothing speaks either way.

    Parameters
    ----------
    effect : ndarray of float32, shape (h, w)
        As of `models.inference.evidence.Evidence`: positive where a place makes the image more
        suspicious.
    width, height : int
        Of the picture in pixels.

    Returns
    -------
    str
        ``data:`` address of a PNG.
    """
    largest = float(np.abs(effect).max()) or 1.0
    fine = Image.fromarray(np.asarray(effect / largest, np.float32)).resize(
        (width, height), Image.Resampling.BICUBIC
    )
    strength = np.clip(np.asarray(fine, np.float32), -1, 1)
    colours = np.where(strength[..., np.newaxis] >= 0, RAISES, LOWERS)
    # A little more for the faint, which a grey picture swallows.
    alpha = np.abs(strength) ** 0.8 * _STRONGEST * 255
    pixels = np.concatenate([colours, alpha[..., np.newaxis]], axis=-1).round().astype(np.uint8)
    return _address(Image.fromarray(pixels, "RGBA"), "png", optimize=True)


def embedded(content: bytes | None) -> str | None:
    """Give the ``data:`` address of a picture that is small already.

    Parameters
    ----------
    content : bytes or None
        Of a JPEG, PNG or WebP file.

    Returns
    -------
    str or None
        None for anything else.
    """
    for magic, kind in _KINDS.items():
        if content and content.startswith(magic):
            return _data(content, kind)
    return None


def _address(picture: Image.Image, kind: str, **options: object) -> str:
    file = io.BytesIO()
    picture.save(file, kind, **options)
    return _data(file.getvalue(), kind)


def _data(content: bytes, kind: str) -> str:
    return f"data:image/{kind};base64," + base64.b64encode(content).decode("ascii")
