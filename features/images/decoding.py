"""One image file to the pixels a network sees: the only decoder, used to train and to serve."""

from __future__ import annotations

import contextlib
import functools
import io
import struct
import warnings
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt
from PIL import ExifTags, Image, ImageFile, UnidentifiedImageError

from features.errors import UnreadableImage
from features.images.colour import AS_IS, correct, light, to_srgb
from features.images.depth import in_eight_bits, stored_as
from features.images.dicom import is_dicom, load_dicom
from features.images.formats import is_heif, not_an_image, raw_camera, require_heif
from features.images.lesion import SIDE, WHOLE, Box, locate
from features.images.sources.files import read_file
from features.images.strict import is_jpeg, is_png, load_jpeg, require_sound_png

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
BILINEAR: Final = "bilinear"

_JPEG: Final = b"\xff\xd8\xff"
_FORMATS: Final = ("JPEG", "PNG", "TIFF", "BMP", "WEBP", "GIF", "PPM", "AVIF", "JPEG2000")
# What Pillow and its codecs are known to raise on damaged files, besides its own two errors.
_DAMAGE: Final = (
    OSError,
    SyntaxError,
    ValueError,
    TypeError,
    LookupError,
    ArithmeticError,
    EOFError,
    RuntimeError,
    MemoryError,
    struct.error,
    zlib.error,
)
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

# What these warn of is dealt with below: too large a picture is refused, odd metadata left out.
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)
warnings.filterwarnings("ignore", category=UserWarning, module="PIL")


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
    """

    size: int
    region: str = "whole"
    colour: str = AS_IS
    resampling: str = BILINEAR


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
    with _explained(data, max_pixels), _opened(data, max_pixels) as image:
        width, height = image.size
        _require_size(width, height, max_pixels)
        _draft(image, wanted)
        loaded, notes = _loaded(data, image)
        # Asked for only now: Pillow would pass over damage that it meets on the way to EXIF.
        orientation = _orientation(image)
        turn = _TURNS.get(orientation)
        pixels, boxes = _Picture(loaded, turn).frames(wanted)
    if orientation >= 5 and turn is not None:
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
            with _explained(data, max_pixels), _opened(data, max_pixels) as image:
                sizes[place] = _draft(image, frames)
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


@contextlib.contextmanager
def _explained(data: bytes, max_pixels: int) -> Iterator[None]:
    try:
        yield
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise _too_large(max_pixels) from error
    except UnidentifiedImageError as error:
        raise not_an_image(data) from error
    except _DAMAGE as error:
        raise _damaged(error) from error


def _draft(image: Image.Image, frames: Sequence[Frame]) -> tuple[int, int]:
    """Have a JPEG read smaller where that does no harm; give the size that it is read at."""
    # Below twice the target the JPEG decoder's own scaling would be seen in the result.
    least = 2 * max(_least(frame) for frame in frames)
    if isinstance(image, ImageFile.ImageFile):
        image.draft(None, (least, least))
    return image.size


def _opened(data: bytes, max_pixels: int) -> Image.Image:
    if is_dicom(data):
        return load_dicom(data, max_pixels)
    formats: tuple[str, ...] = _FORMATS
    if is_heif(data):
        require_heif()
        formats = ("HEIF",)
    elif (what := raw_camera(data)) is not None:
        # Else the small preview in it would be taken for the picture.
        raise UnreadableImage(
            "unsupported", f"the file is {what}, which isn't supported: export it as JPEG or PNG"
        )
    return Image.open(io.BytesIO(data), formats=formats)


def _require_size(width: int, height: int, most: int) -> None:
    if width * height > most:
        raise _too_large(most, f"{width} x {height} pixels are more")


def _too_large(most: int, got: str = "the image has more pixels") -> UnreadableImage:
    limit = f"{most // 1_000_000} megapixels"
    return UnreadableImage("too_large", f"{got} than the {limit} allowed: scale it down")


def _damaged(error: BaseException) -> UnreadableImage:
    if isinstance(error, UnreadableImage):
        return error
    if "truncated" in str(error).lower() or isinstance(error, EOFError):
        return UnreadableImage(
            "truncated", "the image is truncated: its end is missing, copy it again"
        )
    reason = " ".join(str(error).split())[:160] or type(error).__name__
    return UnreadableImage("unreadable", f"the image is damaged ({reason})")


def _loaded(data: bytes, image: Image.Image) -> tuple[Image.Image, tuple[str, ...]]:
    if not isinstance(image, ImageFile.ImageFile):
        return image, ()
    if is_jpeg(image):
        return load_jpeg(data, image), ()
    if is_png(image):
        require_sound_png(data)
    raw_mode = stored_as(image)
    image.load()
    eight = in_eight_bits(data, image, raw_mode)
    return eight.image, (eight.note,) if eight.note else ()


def _orientation(image: Image.Image) -> int:
    try:
        value = image.getexif().get(ExifTags.Base.Orientation, 1)
    except _DAMAGE:
        # A picture with unreadable EXIF data is shown as it lies by every viewer.
        return 1
    return value if isinstance(value, int) else 1


def _least(frame: Frame) -> int:
    # A lesion that fills half of the side or more is cut out at full sharpness.
    return frame.size if frame.region == "whole" else 2 * frame.size


class _Picture:
    """A decoded image, of which squares are made; what they share is made once."""

    def __init__(self, image: Image.Image, turn: Image.Transpose | None) -> None:
        self._profile = image.info.get("icc_profile")
        self._turn = turn
        if image.has_transparency_data:
            over = image.convert("RGBA")
            image = Image.new("RGBA", over.size, "white")
            image.alpha_composite(over)
            image = image.convert("RGB")
        elif image.mode not in {"RGB", "L", "CMYK", "LAB"}:
            image = image.convert("RGB")
        self._image = image

    @functools.cached_property
    def _upright(self) -> Image.Image:
        return self._turned(self._image)

    @functools.cached_property
    def _small(self) -> Image.Image:
        """The whole image for what is estimated, as it lies in the file."""
        return self._square(self._image, SIDE)

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
            colour = light(self._small)
            cut = [
                square if frame.colour == AS_IS else correct(square, colour)
                for frame, square in zip(frames, cut, strict=True)
            ]
        return tuple(np.asarray(square) for square in cut), boxes

    def _middle(self, region: str) -> Box:
        """Find the middle square of the part of the shorter side that a region names."""
        if region == "whole":
            return WHOLE
        width, height = self._upright.size
        side = float(region.removeprefix("centre")) * min(width, height)
        across, down = side / width / 2, side / height / 2
        return Box(0.5 - across, 0.5 - down, 0.5 + across, 0.5 + down)

    def _cut(self, frame: Frame, box: Box) -> Image.Image:
        size, resampling = frame.size, _RESAMPLING[frame.resampling]
        if box == WHOLE:
            return self._turned(self._square(self._image, size, resampling))
        width, height = self._upright.size
        inside = (box.left * width, box.top * height, box.right * width, box.bottom * height)
        return self._square(self._upright, size, resampling, inside)

    def _turned(self, image: Image.Image) -> Image.Image:
        return image if self._turn is None else image.transpose(self._turn)

    def _square(
        self,
        image: Image.Image,
        size: int,
        resampling: Image.Resampling = Image.Resampling.BILINEAR,
        box: tuple[float, float, float, float] | None = None,
    ) -> Image.Image:
        image = image.resize((size, size), resampling, box=box)
        if self._profile:
            image = to_srgb(image, self._profile)
        return image if image.mode == "RGB" else image.convert("RGB")
