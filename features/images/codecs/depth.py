"""From 16 bits a sample to eight, over the range that a file states or shows."""

from __future__ import annotations

import io
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageFile, PngImagePlugin, TiffImagePlugin

from features.errors import UnreadableImage

__all__ = ["FULL", "Eight", "in_eight_bits", "over_range", "range_of", "reach", "stored_as"]

FULL: Final = 65535
# Eight bits in sixteen, and what cameras and scanners have between.
_USUAL: Final = tuple(2**bits - 1 for bits in (8, 10, 12, 14))
_BITS, _MAX_SAMPLE, _SMAX_SAMPLE = 258, 281, 341
# Of each sample Pillow gives the upper byte; asked for the other order of bytes, the lower one.
_NATIVE: Final = "16L" if sys.byteorder == "little" else "16B"
_LOWER: Final = {"16B": "16L", "16L": "16B", "16N": "16B" if _NATIVE == "16L" else "16L"}

Levels = npt.NDArray[np.uint16]
Bytes = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Eight:
    """An image of eight bits a sample, and what was done to make it so.

    Parameters
    ----------
    image : Image
    note : str
        For a person; empty if the samples fill what they are stored in.
    """

    image: Image.Image
    note: str = ""


def in_eight_bits(data: bytes, image: ImageFile.ImageFile, raw_mode: str) -> Eight:
    """Give a loaded image in eight bits a sample.

    Samples of 16 bits are read over the range that the file states (TIFF's MaxSampleValue, PNG's
    sBIT) or, where it states none, shows: 8, 10, 12 or 14 bits.

    Parameters
    ----------
    data : bytes
        The file's content.
    image : ImageFile
        Loaded from it.
    raw_mode : str
        How its samples are stored, as `stored_as` told before it was loaded.

    Returns
    -------
    Eight
        Where the range is that of 16 bits, with the samples that Pillow gives.

    Raises
    ------
    UnreadableImage
        If the samples are floating-point numbers.
    """
    if image.mode == "F":
        raise UnreadableImage(
            "unsupported", "the pixels are floating-point numbers: export it as 8-bit JPEG or PNG"
        )
    if image.mode == "I" or image.mode.startswith("I;"):
        levels = np.asarray(image).clip(0, FULL).astype(np.uint16)
        top = range_of(int(levels.max(initial=0)), _stated(data, image))
        return Eight(_like(image, over_range(levels, top)), reach(top))
    if ";16" not in raw_mode or image.mode not in {"RGB", "RGBA"}:
        return Eight(image)
    return _in_colour(data, image, raw_mode)


def stored_as(image: ImageFile.ImageFile) -> str:
    """Tell how the samples of an image that is not loaded yet are stored, in Pillow's words."""
    if not image.tile:
        return ""
    args = image.tile[0].args
    first = args[0] if isinstance(args, tuple) and args else args
    return first if isinstance(first, str) else ""


def range_of(largest: int, stated: int | None = None) -> int:
    """Tell what value stands for white.

    Parameters
    ----------
    largest : int
        The largest sample in the image.
    stated : int, optional
        What the file says. Where a sample lies above it, it tells of the samples before they were
        scaled to 16 bits.

    Returns
    -------
    int
        At most 65535.
    """
    if stated is not None and (largest > _USUAL[0] or stated < FULL):
        return stated if largest <= stated else FULL
    return next((top for top in _USUAL if largest <= top), FULL)


def over_range(levels: Levels, top: int) -> Bytes:
    """Turn samples from 0 to `top` to eight bits, rounded."""
    values = np.arange(FULL + 1, dtype=np.int64)
    table = ((2 * 255 * values + top) // (2 * top)).clip(0, 255).astype(np.uint8)
    return table[levels]


def reach(top: int) -> str:
    """Say over which range samples of 16 bits were read; nothing where it is the usual one."""
    if top in {_USUAL[0], FULL}:
        return ""
    bits = (top + 1).bit_length() - 1
    what = f"{bits} bits in 16" if top == 2**bits - 1 else "less than 16 bits in 16"
    return f"{what}: read over the range from 0 to {top}"


def _in_colour(data: bytes, image: Image.Image, raw_mode: str) -> Eight:
    upper = np.asarray(image)
    stated = _stated(data, image)
    if stated in {None, FULL} and int(upper[..., :3].max(initial=0)) > _USUAL[-1] >> 8:
        return Eight(image)
    lower = _lower_bytes(data, image.mode, raw_mode)
    if lower is None:
        return Eight(image)
    levels: Levels = upper * np.uint16(256) + lower
    colours = levels[..., :3]
    top = range_of(int(colours.max(initial=0)), stated)
    if top == FULL:
        return Eight(image)
    made = np.empty_like(upper)
    made[..., :3] = over_range(colours, top)
    if image.mode == "RGBA":
        alpha = levels[..., 3]
        # Whoever wrote 12 bits in 16 may have written the alpha channel so, too.
        made[..., 3] = over_range(alpha, top if alpha.max(initial=0) <= top else FULL)
    return Eight(_like(image, made), reach(top))


def _lower_bytes(data: bytes, mode: str, raw_mode: str) -> Bytes | None:
    """Decode a file once more for the lower byte of each sample."""
    kind, order = raw_mode.split(";")
    if order not in _LOWER or kind not in {mode, "LA"}:
        return None
    # Grey and alpha of two bytes each are read as if they were four samples of one.
    other = mode if kind == "LA" else f"{kind};{_LOWER[order]}"
    with Image.open(io.BytesIO(data), formats=("PNG", "TIFF")) as again:
        again.tile = [tile._replace(args=_with_mode(tile.args, other)) for tile in again.tile]
        again.load()
        found = np.asarray(again)
    return found[..., [1, 1, 1, 3]] if kind == "LA" else found


def _with_mode(args: object, raw_mode: str) -> object:
    return (raw_mode, *args[1:]) if isinstance(args, tuple) else raw_mode


def _like(image: Image.Image, samples: Bytes) -> Image.Image:
    made = Image.fromarray(samples)
    if "icc_profile" in image.info:
        made.info["icc_profile"] = image.info["icc_profile"]
    return made


def _stated(data: bytes, image: Image.Image) -> int | None:
    if isinstance(image, PngImagePlugin.PngImageFile):
        bits = max(_significant_bits(data), default=0)
        # By the standard samples fill the 16 bits, whatever their source had; many don't.
        return 2**bits - 1 if 8 <= bits <= 16 else None
    if isinstance(image, TiffImagePlugin.TiffImageFile):
        for tag in (_MAX_SAMPLE, _SMAX_SAMPLE):
            values = image.tag_v2.get(tag)
            found = values if isinstance(values, tuple) else (values,)
            whole = [int(each) for each in found if isinstance(each, (int, float))]
            if whole and 255 < max(whole) <= FULL:
                return max(whole)
        bits = image.tag_v2.get(_BITS, (16,))
        least = max(bits) if isinstance(bits, tuple) else int(bits)
        return 2**least - 1 if 8 < least < 16 else None
    return None


def _significant_bits(data: bytes) -> Iterator[int]:
    place = 8
    while place + 8 <= len(data):
        length, kind = int.from_bytes(data[place : place + 4], "big"), data[place + 4 : place + 8]
        if kind == b"IDAT":
            return
        if kind == b"sBIT":
            yield from data[place + 8 : place + 8 + min(length, 4)]
        place += 12 + length
