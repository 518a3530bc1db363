"""Small pictures of images for people to look at, by the only decoder: it reads every format."""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from features.images.decoding import decode
from features.images.frames import Frame

__all__ = ["Thumbnail", "data_uri", "thumbnail"]


@dataclass(frozen=True)
class Thumbnail:
    """A small picture.

    Parameters
    ----------
    content : bytes
        Of a JPEG file.
    width, height : int
        In pixels.
    """

    content: bytes
    width: int
    height: int

    @property
    def uri(self) -> str:
        """The picture as a ``data:`` address, to stand inside a page."""
        return data_uri(self.content, "jpeg")


def thumbnail(
    source: bytes | Path, side: int, *, quality: int = 80, square: bool = False
) -> Thumbnail:
    """Make an image small.

    Parameters
    ----------
    source : bytes or Path
        An image file's content, or where it lies.
    side : int
        The longer side in pixels.
    quality : int, optional
        Of the JPEG, up to 95.
    square : bool, optional
        Whether it is squashed to a square instead of keeping its proportions.

    Returns
    -------
    Thumbnail

    Raises
    ------
    UnreadableImage

    Examples
    --------
    >>> import io
    >>> from PIL import Image
    >>> file = io.BytesIO()
    >>> Image.new("RGB", (640, 480)).save(file, "PNG")
    >>> small = thumbnail(file.getvalue(), 96)
    >>> small.width, small.height, small.uri[:27]
    (96, 72, 'data:image/jpeg;base64,/9j/')
    """
    decoded = decode(source, Frame(side, for_eyes=True))
    picture = Image.fromarray(decoded.pixels)
    if not square:
        scale = side / max(decoded.width, decoded.height)
        width, height = (max(1, round(each * scale)) for each in (decoded.width, decoded.height))
        picture = picture.resize((width, height))
    file = io.BytesIO()
    picture.save(file, "JPEG", quality=quality)
    return Thumbnail(file.getvalue(), *picture.size)


def data_uri(content: bytes, kind: str) -> str:
    """Write a picture's file of a kind such as ``"png"`` as a ``data:`` address."""
    return f"data:image/{kind};base64," + base64.b64encode(content).decode("ascii")
