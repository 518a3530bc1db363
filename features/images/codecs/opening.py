"""Files of every format opened and loaded, or refused with a reason."""

from __future__ import annotations

import contextlib
import io
import struct
import warnings
import zlib
from collections.abc import Iterator
from typing import Final

from PIL import ExifTags, Image, ImageFile, UnidentifiedImageError

from features.errors import UnreadableImage
from features.images.codecs.depth import in_eight_bits, stored_as
from features.images.codecs.dicom import is_dicom, load_dicom
from features.images.codecs.strict import is_jpeg, is_png, load_jpeg, require_sound_png
from features.images.formats import is_heif, not_an_image, raw_camera, require_heif

__all__ = ["explained", "loaded", "opened", "orientation", "require_size"]

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

# Pillow gives freed memory back at once by default, and fetching it anew for the next picture costs
# a fifth of a small picture's time. These many blocks are kept, of 16 MB at most each.
Image.core.set_blocks_max(6)  # type: ignore[attr-defined]

# What these warn of is dealt with below: too large a picture is refused, odd metadata left out.
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)
warnings.filterwarnings("ignore", category=UserWarning, module="PIL")


@contextlib.contextmanager
def explained(data: bytes, max_pixels: int) -> Iterator[None]:
    try:
        yield
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise _too_large(max_pixels) from error
    except UnidentifiedImageError as error:
        raise not_an_image(data) from error
    except _DAMAGE as error:
        raise _damaged(error) from error


def opened(data: bytes, max_pixels: int) -> Image.Image:
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


def require_size(width: int, height: int, most: int) -> None:
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


def loaded(data: bytes, image: Image.Image) -> tuple[Image.Image, tuple[str, ...]]:
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


def orientation(image: Image.Image) -> int:
    try:
        value = image.getexif().get(ExifTags.Base.Orientation, 1)
    except _DAMAGE:
        # A picture with unreadable EXIF data is shown as it lies by every viewer.
        return 1
    return value if isinstance(value, int) else 1
