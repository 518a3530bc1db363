"""Small pictures, made on the spot."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image


def image_bytes(seed: int, size: tuple[int, int] = (96, 80), form: str = "JPEG") -> bytes:
    """A small picture that no other seed gives."""
    rng = np.random.default_rng(seed)
    coarse = Image.fromarray(rng.integers(0, 256, (6, 6, 3), dtype=np.uint8))
    file = io.BytesIO()
    coarse.resize(size, Image.Resampling.BICUBIC).save(file, form)
    return file.getvalue()


def encoded(image: Image.Image, form: str = "PNG", **options: object) -> bytes:
    """A picture as a file's content."""
    file = io.BytesIO()
    image.save(file, form, **options)
    return file.getvalue()
