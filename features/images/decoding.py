"""One image file to the pixels a network sees: the only decoder, used to train and to serve."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from PIL import Image, ImageFile

from features.errors import UnreadableImage
from features.images.codecs.opening import explained, loaded, opened, orientation, require_size
from features.images.frames import BILINEAR, Frame, Picture, Pixels
from features.images.lesion import Box
from features.images.sources.files import read_file

__all__ = [
    "BILINEAR",
    "MAX_PIXELS",
    "PIXELS_VERSION",
    "READER_VERSION",
    "Decoded",
    "Frame",
    "Pixels",
    "decode",
    "decode_each",
    "load_pixels",
]

# Part of every fingerprint: raise it whenever an image that was read right gives other pixels.
PIXELS_VERSION: Final = 1
# Raised when images are read that were refused before, or read right that came out wrong before;
# feature files made with an earlier one have those images embedded anew, and no others.
READER_VERSION: Final = 2
MAX_PIXELS: Final = 89_000_000

_JPEG: Final = b"\xff\xd8\xff"


@dataclass(frozen=True)
class Decoded:
    """An image as the network sees it, and how large it was.

    Parameters
    ----------
    frames : tuple of ndarray of uint8, shape (size, size, 3)
        sRGB, each frame that was asked for.
    width, height : int
        Of the original in pixels, upright.
    boxes : tuple of Box
        Where in the image each frame lies.
    notes : tuple of str
        What a person should know of how it was read.
    """

    frames: tuple[Pixels, ...]
    width: int
    height: int
    boxes: tuple[Box, ...]
    notes: tuple[str, ...] = ()

    @property
    def pixels(self) -> Pixels:
        """The first frame."""
        return self.frames[0]


def load_pixels(source: str | Path | bytes, size: int) -> Pixels:
    """Read an image as a square of sRGB pixels.

    The image is turned upright by its EXIF orientation, laid over white where it is transparent,
    converted from its colour profile to sRGB, and squashed to the square (bilinear, antialiased).
    Of an animation the first frame is taken.

    Parameters
    ----------
    source : str, Path or bytes
        A file, or a file's content.
    size : int
        Side of the square in pixels.

    Returns
    -------
    ndarray of uint8, shape (size, size, 3)

    Raises
    ------
    UnreadableImage
        With a reason that a person understands.

    Examples
    --------
    >>> import io
    >>> from PIL import Image
    >>> file = io.BytesIO()
    >>> Image.new("RGB", (640, 480), (200, 120, 90)).save(file, "PNG")
    >>> load_pixels(file.getvalue(), 299)[0, 0].tolist()
    [200, 120, 90]
    """
    return decode(source, size).pixels


def decode(
    source: str | Path | bytes, *frames: Frame | int, max_pixels: int = MAX_PIXELS
) -> Decoded:
    """Read an image as `load_pixels` does, in one or several frames, and tell its original size.

    Parameters
    ----------
    source : str, Path or bytes
        A file, or a file's content; read once.
    *frames : Frame or int
        An integer is the whole image at that size.
    max_pixels : int, optional
        An image with more is refused before it is decoded.

    Returns
    -------
    Decoded

    Raises
    ------
    UnreadableImage
        With a reason that a person understands.
    """
    wanted = [Frame(frame) if isinstance(frame, int) else frame for frame in frames]
    data = source if isinstance(source, bytes) else read_file(Path(source))
    if not data:
        raise UnreadableImage("empty", "the file is empty: copy or export it again")
    with explained(data, max_pixels), opened(data, max_pixels) as image:
        width, height = image.size
        require_size(width, height, max_pixels)
        _draft(image, max(frame.least for frame in wanted))
        whole, notes = loaded(data, image)
        # Asked for only now: Pillow would pass over damage that it meets on the way to EXIF.
        lies = orientation(image)
        size = image.size

        def larger(least: int) -> Image.Image | None:
            with opened(data, max_pixels) as again:
                return None if _draft(again, least) == size else loaded(data, again)[0]

        pixels, boxes = Picture(whole, lies, larger).frames(wanted)
    if 5 <= lies <= 8:
        width, height = height, width
    return Decoded(pixels, width, height, boxes, notes)


def decode_each(
    source: str | Path | bytes, *groups: Sequence[Frame], max_pixels: int = MAX_PIXELS
) -> tuple[Decoded, ...]:
    """Decode an image for several networks: for each the very pixels that `decode` gives it alone.

    It is decoded once, unless a JPEG may be read smaller for one network than for another.

    Parameters
    ----------
    source, max_pixels
        As for `decode`.
    *groups : sequence of Frame
        The frames of each.
    """
    data = source if isinstance(source, bytes) else read_file(Path(source))
    sizes = [(0, 0)] * len(groups)
    if len(groups) > 1 and data.startswith(_JPEG):
        for place, frames in enumerate(groups):
            with explained(data, max_pixels), opened(data, max_pixels) as image:
                sizes[place] = _draft(image, max(frame.least for frame in frames))
    alike: dict[tuple[int, int], dict[Frame, None]] = {}
    for size, frames in zip(sizes, groups, strict=True):
        alike.setdefault(size, {}).update(dict.fromkeys(frames))
    read = {size: decode(data, *each, max_pixels=max_pixels) for size, each in alike.items()}
    return tuple(
        _part(read[size], [list(alike[size]).index(frame) for frame in frames])
        for size, frames in zip(sizes, groups, strict=True)
    )


def _part(decoded: Decoded, places: Sequence[int]) -> Decoded:
    frames = tuple(decoded.frames[place] for place in places)
    return replace(decoded, frames=frames, boxes=tuple(decoded.boxes[place] for place in places))


def _draft(image: Image.Image, least: int) -> tuple[int, int]:
    """Have a JPEG read smaller, no side below so many pixels; give the size it is read at."""
    if isinstance(image, ImageFile.ImageFile):
        image.draft(None, (least, least))
    return image.size
