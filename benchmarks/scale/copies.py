"""Altered copies of images, as augmentation and careless handling make them, with their truth."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import numpy as np
from PIL import Image, ImageEnhance, ImageOps

__all__ = ["ALTERATIONS", "Alteration"]

# Given an image and a random generator: the copy and the quality of the JPEG it is saved as.
Alteration = Callable[[Image.Image, np.random.Generator], tuple[Image.Image, int]]
_QUALITY: Final = 90


def _turned(turn: Image.Transpose) -> Alteration:
    return lambda image, rng: (image.transpose(turn), _QUALITY)


def _cropped(share: float) -> Alteration:
    def alter(image: Image.Image, rng: np.random.Generator) -> tuple[Image.Image, int]:
        width, height = image.size
        wide, high = round(width * share), round(height * share)
        left, top = rng.integers(0, width - wide + 1), rng.integers(0, height - high + 1)
        part = image.crop((left, top, left + wide, top + high))
        return part.resize(image.size, Image.Resampling.BICUBIC), _QUALITY

    return alter


def _rotated(degrees: float) -> Alteration:
    def alter(image: Image.Image, rng: np.random.Generator) -> tuple[Image.Image, int]:
        angle = degrees * rng.choice([-1, 1])
        return image.rotate(angle, Image.Resampling.BICUBIC), _QUALITY

    return alter


def _encoded(quality: int) -> Alteration:
    return lambda image, rng: (image, quality)


def _resized(share: float) -> Alteration:
    return lambda image, rng: (ImageOps.scale(image, share, Image.Resampling.BILINEAR), _QUALITY)


def _brightness(image: Image.Image, rng: np.random.Generator) -> tuple[Image.Image, int]:
    return ImageEnhance.Brightness(image).enhance(rng.choice([0.7, 1.3])), _QUALITY


def _colour(image: Image.Image, rng: np.random.Generator) -> tuple[Image.Image, int]:
    image = ImageEnhance.Color(image).enhance(rng.uniform(0.6, 1.4))
    image = ImageEnhance.Contrast(image).enhance(rng.uniform(0.7, 1.3))
    shifted = np.asarray(image, np.float32) * rng.uniform(0.88, 1.12, 3)
    return Image.fromarray(np.clip(shifted, 0, 255).astype(np.uint8)), _QUALITY


def _augmented(image: Image.Image, rng: np.random.Generator) -> tuple[Image.Image, int]:
    # What generators of augmented images do by default: everything a little, edges smeared.
    if rng.random() < 0.5:
        image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    width, height = image.size
    border = max(width, height) // 3
    wide = Image.fromarray(
        np.pad(np.asarray(image), ((border,) * 2, (border,) * 2, (0, 0)), "edge")
    )
    wide = wide.rotate(rng.uniform(-20, 20), Image.Resampling.BICUBIC)
    zoom, x, y = rng.uniform(0.85, 1.1), *rng.uniform(-0.06, 0.06, 2)
    left = border + width * (x + (1 - zoom) / 2)
    top = border + height * (y + (1 - zoom) / 2)
    box = (left, top, left + width * zoom, top + height * zoom)
    image = wide.resize((width, height), Image.Resampling.BICUBIC, box=box)
    return ImageEnhance.Brightness(image).enhance(rng.uniform(0.85, 1.15)), 75


ALTERATIONS: Final[dict[str, Alteration]] = {
    "quarter turn": _turned(Image.Transpose.ROTATE_90),
    "half turn": _turned(Image.Transpose.ROTATE_180),
    "mirrored": _turned(Image.Transpose.FLIP_LEFT_RIGHT),
    "mirrored and turned": _turned(Image.Transpose.TRANSPOSE),
    "cropped to 95 %": _cropped(0.95),
    "cropped to 90 %": _cropped(0.90),
    "cropped to 80 %": _cropped(0.80),
    "JPEG quality 60": _encoded(60),
    "JPEG quality 20": _encoded(20),
    "half the size": _resized(0.5),
    "brightness -30 or +30 %": _brightness,
    "colour and contrast": _colour,
    "rotated by 5 degrees": _rotated(5),
    "rotated by 15 degrees": _rotated(15),
    "rotated by 40 degrees": _rotated(40),
    "augmented": _augmented,
}
