"""Squares cut out of a picture: the whole of it, or what is to be looked at more closely."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import numpy.typing as npt
from PIL import Image

from features.images.colour import AS_IS, correct, levels, light, to_srgb
from features.images.lesion import SIDE, WHOLE, Box, locate
from features.images.resampling.compiled import kernels
from features.images.resampling.squares import Source, Square

__all__ = ["BILINEAR", "Frame", "Picture", "Pixels"]

BILINEAR: Final = "bilinear"

_RESAMPLING: Final = {
    BILINEAR: Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
}
_TURNS: Final = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}

Pixels = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Frame:
    """What is cut out of an image, and how large it becomes.

    Parameters
    ----------
    size : int
        Side of the square in pixels.
    region : {"whole", "lesion", "centre…"}
        The whole image, what `features.images.lesion.locate` finds, or with ``"centre0.875"`` the
        middle square of that part of the shorter side.
    colour : {"as-is", "shades-of-grey"}
        Whether the colour of the light, estimated on the whole image, is taken out.
    resampling : {"bilinear", "bicubic"}
        How pixels are interpolated, antialiased in either case.
    draft : bool
        Whether a part of a large JPEG may be cut out of what the whole image is made of, read at a
        half, a quarter or an eighth of its size, where it has as many pixels as the frame there.
    for_eyes : bool
        Whether people alone look at it: then a JPEG's own scaling may show.
    """

    size: int
    region: str = "whole"
    colour: str = AS_IS
    resampling: str = BILINEAR
    draft: bool = False
    for_eyes: bool = False

    @property
    def least(self) -> int:
        """Pixels of the image's shorter side that this is cut out of, if it has as many."""
        # Below twice the target the JPEG decoder's own scaling would be seen in the whole image.
        # A part that fills half of the side or more is cut out at full sharpness.
        least = (2 if self.region == "whole" or self.draft else 4) * self.size
        return least // 2 if self.for_eyes else least


class Picture:
    """A decoded image, of which squares are made; what they share is made once.

    Parameters
    ----------
    image : Image
        As it lies in the file, of eight bits a sample.
    orientation : int
        As EXIF says it: 1 lies upright.
    larger : callable
        Given pixels of the shorter side, reads the file again at such a size; None if it is not to
        be had any larger.
    """

    def __init__(
        self, image: Image.Image, orientation: int, larger: Callable[[int], Image.Image | None]
    ) -> None:
        self._profile = image.info.get("icc_profile")
        self._turn = _TURNS.get(orientation)
        self._larger = functools.cache(
            lambda least: (
                None if (again := larger(least)) is None else Picture(again, orientation, larger)
            )
        )
        if image.has_transparency_data:
            over = image.convert("RGBA")
            image = Image.new("RGBA", over.size, "white")
            image.alpha_composite(over)
            image = image.convert("RGB")
        elif image.mode not in {"RGB", "L", "CMYK", "LAB"}:
            image = image.convert("RGB")
        self._lying = Source(image)

    @functools.cached_property
    def _upright(self) -> Source:
        if self._turn is None:
            return self._lying
        return Source(self._lying.image.transpose(self._turn))

    @functools.cached_property
    def _small(self) -> Square:
        """The whole image for what is estimated, as it lies in the file."""
        return self._square(self._lying, SIDE)

    def frames(self, frames: Sequence[Frame]) -> tuple[tuple[Pixels, ...], tuple[Box, ...]]:
        """Cut out frames, and tell where each of them lies."""
        lesion = WHOLE
        if any(frame.region == "lesion" for frame in frames):
            lesion = locate(np.asarray(self._turned(self._small)))
        boxes = tuple(
            lesion if frame.region == "lesion" else self._middle(frame.region) for frame in frames
        )
        cut = [self._cut(frame, box) for frame, box in zip(frames, boxes, strict=True)]
        if any(frame.colour != AS_IS for frame in frames):
            colour = light(_image(self._small))
            cut = [
                square if frame.colour == AS_IS else _corrected(square, colour)
                for frame, square in zip(frames, cut, strict=True)
            ]
        return tuple(np.asarray(square) for square in cut), boxes

    def _middle(self, region: str) -> Box:
        """Find the middle square of the part of the shorter side that a region names."""
        if region == "whole":
            return WHOLE
        width, height = self._upright.image.size
        side = float(region.removeprefix("centre")) * min(width, height)
        across, down = side / width / 2, side / height / 2
        return Box(0.5 - across, 0.5 - down, 0.5 + across, 0.5 + down)

    def _cut(self, frame: Frame, box: Box) -> Square:
        size, resampling = frame.size, _RESAMPLING[frame.resampling]
        if box == WHOLE:
            return self._turned(self._square(self._lying, size, resampling))
        width, height = self._upright.image.size
        inside = (box.left * width, box.top * height, box.right * width, box.bottom * height)
        shorter = min(inside[2] - inside[0], inside[3] - inside[1])
        sharp = replace(frame, draft=False)
        if frame.draft and shorter < size and (sharper := self._larger(sharp.least)):
            return sharper._cut(sharp, box)
        return self._square(self._upright, size, resampling, inside)

    def _turned(self, square: Square) -> Square:
        return square if self._turn is None else _image(square).transpose(self._turn)

    def _square(
        self,
        source: Source,
        size: int,
        resampling: Image.Resampling = Image.Resampling.BILINEAR,
        box: tuple[float, float, float, float] | None = None,
    ) -> Square:
        square = source.square(size, resampling, box)
        if self._profile:
            square = to_srgb(_image(square), self._profile)
        if isinstance(square, Image.Image) and square.mode != "RGB":
            square = square.convert("RGB")
        return square


def _image(square: Square) -> Image.Image:
    return square if isinstance(square, Image.Image) else Image.fromarray(square)


def _corrected(square: Square, colour: npt.NDArray[np.float64]) -> Square:
    if (loaded := kernels()) is not None:
        return loaded.relevelled(np.asarray(square), levels(colour))
    return correct(_image(square), colour)
