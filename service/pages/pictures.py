"""Pictures for the pages, made in memory and sent inside the page as ``data:`` addresses."""

from __future__ import annotations

import io
from typing import Final

import numpy as np
import numpy.typing as npt
from PIL import Image

from features.images.thumbnails import Thumbnail, data_uri, thumbnail

__all__ = ["embedded", "overlay", "preview"]

SIDE: Final = 448
# The ends of Brewer's PuOr: told apart with any kind of colour vision, and on a grey picture.
RAISES: Final = (230, 97, 1)
LOWERS: Final = (94, 60, 153)
_STRONGEST: Final = 0.9
# Of each colour; more are not told apart by eye.
_STEPS: Final = 127
_COMPRESSION: Final = 3
_KINDS: Final = {b"\xff\xd8\xff": "jpeg", b"\x89PNG": "png", b"RIFF": "webp"}


def preview(image: bytes) -> Thumbnail:
    """Make the content of an image file as small as a card shows it.

    Raises
    ------
    UnreadableImage
    """
    return thumbnail(image, SIDE, quality=85)


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
    fine = Image.fromarray(np.asarray(effect * (_STEPS / largest), np.float32)).resize(
        (width, height), Image.Resampling.BICUBIC
    )
    steps = np.clip(np.asarray(fine).round(), -_STEPS, _STEPS) + _STEPS
    # With a palette it takes an eighth of the time.
    drawn = Image.fromarray(steps.astype(np.uint8), "P")
    strength = np.arange(-_STEPS, _STEPS + 1)[:, np.newaxis] / _STEPS
    drawn.putpalette(np.where(strength >= 0, RAISES, LOWERS).astype(np.uint8).tobytes())
    # A little more for the faint, which a grey picture swallows.
    opacity = (np.abs(strength) ** 0.8 * _STRONGEST * 255).round().astype(np.uint8)
    file = io.BytesIO()
    drawn.save(file, "png", compress_level=_COMPRESSION, transparency=opacity.tobytes())
    return data_uri(file.getvalue(), "png")


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
            return data_uri(content, kind)
    return None
