"""Squares of a picture, whichever code makes them."""

from __future__ import annotations

from typing import Final

from PIL import Image

from features.images.resampling.compiled import Box, Packed, Pixels, kernels, packed

__all__ = ["Source", "Square"]

# Compiled code takes the whole picture as four bytes a pixel.
_MOST_PIXELS: Final = 40_000_000


# Whichever it was made as: NumPy takes either for an array.
Square = Image.Image | Pixels


class Source:
    """A picture that squares are made of.

    Parameters
    ----------
    image : Image
    """

    def __init__(self, image: Image.Image) -> None:
        self.image = image
        self._packed: Packed | None = None

    def square(
        self,
        size: int,
        resampling: Image.Resampling = Image.Resampling.BILINEAR,
        box: Box | None = None,
    ) -> Square:
        """Squash a part of the picture to a square.

        Parameters
        ----------
        size : int
            In pixels.
        resampling : Resampling, optional
        box : (left, top, right, bottom), optional
            In pixels of the picture, not necessarily whole ones; by default all of it.

        Returns
        -------
        Image or ndarray of uint8, shape (size, size, 3)
            An array if it was made by compiled code; of the same bytes as the image.
        """
        loaded = kernels()
        width, height = self.image.size
        if (
            loaded is None
            or self.image.mode != "RGB"
            or resampling != Image.Resampling.BILINEAR
            or width * height > _MOST_PIXELS
        ):
            return _by_pillow(self.image, size, resampling, box or (0, 0, width, height))
        if self._packed is None:
            self._packed = packed(self.image)
        return loaded.square(self._packed, size, box)


def _by_pillow(
    image: Image.Image, size: int, resampling: Image.Resampling, box: Box
) -> Image.Image:
    if image.height > image.width:
        # From version 13 on, Pillow resizes some of what is taller than wide first downwards, which
        # rounds otherwise. Across comes first here, as it did in all versions before.
        left, top, right, bottom = box
        image = image.resize((size, image.height), resampling, (left, 0, right, image.height))
        box = (0, top, size, bottom)
    return image.resize((size, size), resampling, box)
