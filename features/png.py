"""The checksums of PNG files, of which Pillow passes over those of the picture's own data."""

from __future__ import annotations

import zlib
from typing import Final

from PIL import Image, PngImagePlugin

from features.errors import UnreadableImage

__all__ = ["is_png", "require_sound_png"]

_SIGNATURE: Final = 8


def is_png(image: Image.Image) -> bool:
    """Tell whether an opened image is a PNG file."""
    return isinstance(image, PngImagePlugin.PngImageFile)


def require_sound_png(data: bytes) -> None:
    """Compare the checksums of the chunks that hold the picture.

    Parameters
    ----------
    data : bytes
        The content of a file that starts as PNG files do.

    Raises
    ------
    UnreadableImage
        If one of them does not match.
    """
    content = memoryview(data)
    place = _SIGNATURE
    while place + 12 <= len(content):
        end = place + 8 + int.from_bytes(content[place : place + 4], "big")
        kind = bytes(content[place + 4 : place + 8])
        if kind == b"IDAT" and end + 4 <= len(content):
            found = zlib.crc32(content[place + 4 : end])
            if found != int.from_bytes(content[end : end + 4], "big"):
                raise UnreadableImage(
                    "unreadable",
                    "the image is damaged (a checksum in the PNG file does not match): "
                    "copy it again",
                )
        if kind == b"IEND":
            return
        place = end + 4
