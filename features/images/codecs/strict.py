"""Damage in JPEG and PNG files that Pillow passes over."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from typing import Final

import numpy as np
import numpy.typing as npt
import simplejpeg
from PIL import Image, JpegImagePlugin, PngImagePlugin

from features.errors import UnreadableImage

__all__ = ["is_jpeg", "is_png", "load_jpeg", "require_sound_png"]

_COLOURS: Final = {"RGB": "RGB", "L": "GRAY", "CMYK": "CMYK"}


_DAMAGE: Final = re.compile(r"Corrupt JPEG data|Premature end|Inconsistent progression")


_HEADER: Final = re.compile(r"extraneous bytes before marker|bad ICC marker")


_PADDING: Final = re.compile(r"(\d+) extraneous bytes before marker 0xd9")


# An honest progressive file has about ten scans; each costs a pass over the whole picture.
_MOST_SCANS: Final = 100


_START: Final = b"\xff\xd8"
_MARKER, _SCAN, _END = 0xFF, 0xDA, 0xD9


def is_jpeg(image: Image.Image) -> bool:
    """Tell whether an opened image is a JPEG file."""
    return isinstance(image, JpegImagePlugin.JpegImageFile)


def load_jpeg(data: bytes, image: Image.Image) -> Image.Image:
    """Decode a JPEG file that Pillow opened, at the size that Pillow drafted it to.

    Parameters
    ----------
    data : bytes
        The file's content.
    image : Image
        Opened from it, and not loaded yet.

    Returns
    -------
    Image
        `image`, or another with the same pixels that Pillow would give.

    Raises
    ------
    UnreadableImage
        If the compressed data is corrupt or ends early, or takes absurdly long to decode.
    """
    end, scans = _picture(data)
    if scans > _MOST_SCANS:
        raise UnreadableImage(
            "unsupported",
            f"the JPEG file has more than {_MOST_SCANS} scans: export it again in the usual way",
        )
    try:
        pixels = _decoded(data, image)
    except ValueError as error:
        if not _DAMAGE.search(str(error)) or _only_padding(data[:end], str(error)):
            # Nothing that changes pixels, such as an unknown revision of the header.
            image.load()
            return image
        if not _HEADER.search(str(error)):
            raise _damaged(str(error)) from error
        try:
            # What is odd before the picture's own data, such as stray bytes, does it no harm.
            pixels = _decoded(_bare(data), image)
        except ValueError as again:
            raise _damaged(str(again)) from error
    if image.mode == "CMYK" or pixels.shape[:2] != (image.height, image.width):
        image.load()
        return image
    found = Image.fromarray(pixels[..., 0] if image.mode == "L" else pixels)
    found.info = image.info
    return found


def _decoded(data: bytes, image: Image.Image) -> npt.NDArray[np.uint8]:
    pixels: npt.NDArray[np.uint8] = simplejpeg.decode_jpeg(
        data,
        colorspace=_COLOURS.get(image.mode, "RGB"),
        min_height=image.height,
        min_width=image.width,
        strict=True,
    )
    return pixels


def _only_padding(data: bytes, warning: str) -> bool:
    """Tell whether all that is wrong are zeros between the picture's data and its end."""
    found = _PADDING.search(warning)
    return found is not None and not any(data[-int(found[1]) :])


def _picture(data: bytes) -> tuple[int, int]:
    """Find the end of the picture, which a film or a second one may follow; count its scans."""
    start = max((place for kind, place, _ in _segments(data) if kind == _SCAN), default=0)
    found = np.frombuffer(data, np.uint8)
    # Bytes of 255 are so frequent that searching for them one by one takes five times as long.
    places = start + np.flatnonzero(found[start:-1] == _MARKER)
    kinds = found[places + 1]
    ends = places[kinds == _END]
    end = int(ends[0]) if len(ends) else len(data)
    return end, int(np.count_nonzero((kinds == _SCAN) & (places < end - 1)))


def _bare(data: bytes) -> bytes:
    """Leave out all before the first scan that doesn't decide the pixels."""
    parts = [_START]
    for kind, place, end in _segments(data):
        if kind == _SCAN:
            parts.append(data[place:])
        # Of the application segments only JFIF's and Adobe's say how colours are coded.
        elif kind in {0xE0, 0xEE} or not (0xE0 <= kind <= 0xEF or kind == 0xFE):
            parts.append(data[place:end])
    return b"".join(parts)


def _segments(data: bytes) -> Iterator[tuple[int, int, int]]:
    """Give kind, start and end of each segment of the header, and last those of the first scan."""
    place = data.find(b"\xff", 2)
    while 0 <= place < len(data) - 4:
        kind = data[place + 1]
        if kind in {0x00, 0xFF} or 0xD0 <= kind <= 0xD9:
            place = data.find(b"\xff", place + 1)
            continue
        end = place + 2 + int.from_bytes(data[place + 2 : place + 4], "big")
        yield kind, place, end
        if kind == _SCAN:
            return
        place = data.find(b"\xff", end)


def _damaged(warning: str) -> UnreadableImage:
    if warning.startswith("Premature end"):
        return UnreadableImage(
            "truncated", "the image is truncated: its end is missing, copy it again"
        )
    reason = warning.removeprefix("Corrupt JPEG data: ")
    return UnreadableImage(
        "unreadable", f"the image is damaged (corrupt JPEG data: {reason}): copy it again"
    )


def is_png(image: Image.Image) -> bool:
    """Tell whether an opened image is a PNG file."""
    return isinstance(image, PngImagePlugin.PngImageFile)


def require_sound_png(data: bytes) -> None:
    """Compare the checksums of a PNG file's chunks, which Pillow passes over when it decodes.

    Parameters
    ----------
    data : bytes
        The content of a file that Pillow opened as PNG.

    Raises
    ------
    UnreadableImage
        If one of them does not match.
    OSError
        If the file ends before the picture does.
    """
    # What was verified can't be decoded any more: it takes an opened image of its own.
    with Image.open(io.BytesIO(data), formats=["PNG"]) as image:
        try:
            image.verify()
        except (SyntaxError, IndexError) as error:
            raise UnreadableImage(
                "unreadable",
                "the image is damaged (a checksum in the PNG file does not match, or a part is "
                "missing): copy it again",
            ) from error
