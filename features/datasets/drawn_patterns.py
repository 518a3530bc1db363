"""Random patterns that drawings are made of; each has the same content at any resolution."""

from __future__ import annotations

import zlib
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image

__all__ = ["CellNoise", "Plane", "RGBImage", "cell_noise", "noise", "ramp", "stream"]

Plane = npt.NDArray[np.float32]
RGBImage = npt.NDArray[np.uint8]


def stream(seed: int, purpose: str) -> np.random.Generator:
    """Give an independent random stream per purpose, so that parts don't disturb each other."""
    return np.random.default_rng([seed, zlib.crc32(purpose.encode())])


def ramp(value: npt.NDArray[np.floating]) -> Plane:
    """Rise smoothly from 0 at 0 to 1 at 1, and stay there."""
    clipped: Plane = np.clip(value, 0, 1).astype(np.float32)
    return np.asarray(clipped * clipped * (3 - 2 * clipped))


def noise(rng: np.random.Generator, side: int, cells: int) -> Plane:
    """Draw smooth noise with spots about ``side / cells`` pixels wide.

    Parameters
    ----------
    rng : Generator
        Advanced by the same amount whatever the side.
    side : int
        Side of the result in pixels.
    cells : int
        How many random values lie along the side.

    Returns
    -------
    ndarray of float32, shape (side, side)
        Mean 0 and a standard deviation somewhat below 1.
    """
    values = rng.standard_normal((cells + 4, cells + 4), dtype=np.float32)
    box = (2.0, 2.0, cells + 2.0, cells + 2.0)
    return np.asarray(Image.fromarray(values).resize((side, side), Image.Resampling.BICUBIC, box))


class CellNoise(NamedTuple):
    """Distances to the nearest and second nearest of scattered points, in cells."""

    first: Plane
    second: Plane
    value: Plane  # a random number in -1..1 of the nearest point


def cell_noise(rng: np.random.Generator, u: Plane, v: Plane, cells: int) -> CellNoise:
    """Measure how far scattered points lie from each place (Worley's cellular noise).

    Parameters
    ----------
    rng : Generator
    u, v : ndarray of float32, any one shape
        Places, the image's side being 1.
    cells : int
        Points along the side; there is one in every cell of a grid, anywhere in its middle.

    Returns
    -------
    CellNoise
        Of the shape of `u`. ``second - first`` is 0 on the borders between cells, which makes a
        net; ``first`` is 0 in the points, which makes globules.
    """
    jitter = rng.uniform(0.12, 0.88, (2, cells + 8, cells + 8)).astype(np.float32)
    values = rng.uniform(-1, 1, (cells + 8, cells + 8)).astype(np.float32)
    u, v = np.clip(u * cells + 4, 1, cells + 6.99), np.clip(v * cells + 4, 1, cells + 6.99)
    column, row = u.astype(np.int32), v.astype(np.int32)
    du, dv = u - column, v - row
    width = cells + 8
    flat = row * width + column
    jitter_u, jitter_v, flat_values = jitter[0].ravel(), jitter[1].ravel(), values.ravel()
    first = np.full(u.shape, np.inf, np.float32)
    second = np.full(u.shape, np.inf, np.float32)
    value = np.zeros(u.shape, np.float32)
    for down in (-1, 0, 1):
        for right in (-1, 0, 1):
            near = flat + (down * width + right)
            away = (jitter_u[near] + right - du) ** 2 + (jitter_v[near] + down - dv) ** 2
            closer = away < first
            second = np.minimum(second, np.maximum(first, away))
            first = np.minimum(first, away)
            value = np.where(closer, flat_values[near], value)
    return CellNoise(np.sqrt(first), np.sqrt(second), value)
