"""Numba's compiled code for what decoding spends its time on, used where it pays and can be had."""

from __future__ import annotations

import functools
import os
import pickle
import platform
import shutil
import stat
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import filelock
import numpy as np
import numpy.typing as npt
import PIL
import scipy
from PIL import Image
from scipy import ndimage

from features.images.resampling import kernels as plain
from features.storage.user_cache import user_cache

__all__ = ["Kernels", "NotCompiled", "kernels", "load_kernels", "packed"]

Pixels = npt.NDArray[np.uint8]
Packed = npt.NDArray[np.uint32]
Box = tuple[float, float, float, float]

# Elsewhere C compilers join multiplications and additions, which moves the last digits of weights.
_PROCESSORS: Final = {"x86_64", "AMD64"}
# What reading back files that were cut off or overwritten ends in.
_DAMAGED: Final = (EOFError, pickle.UnpicklingError, ValueError, LookupError)


class NotCompiled(Exception):
    """Compiled code can't be had here; the message says why."""


@dataclass(frozen=True)
class Kernels:
    """The functions of `features.images.resampling.kernels`, compiled, and what they do together.

    Parameters
    ----------
    weights, across, down, relevel, blur : callable
    """

    weights: Callable[..., Any]
    across: Callable[..., Any]
    down: Callable[..., Any]
    relevel: Callable[..., Any]
    blur: Callable[..., Any]

    def square(self, picture: Packed, size: int, box: Box | None = None) -> Pixels:
        """Squash a part of a picture to a square: bilinear, antialiased, the bytes of Pillow.

        Parameters
        ----------
        picture : ndarray of uint32, shape (height, width)
            As `packed` gives it.
        size : int
            In pixels.
        box : (left, top, right, bottom), optional
            In pixels of the picture, not necessarily whole ones; by default all of it.

        Returns
        -------
        ndarray of uint8, shape (size, size, 3)
        """
        height, width = picture.shape
        left, top, right, bottom = np.array(box or (0, 0, width, height), np.float32)
        columns = self.weights(width, left, right, size)
        first, counts, table = self.weights(height, top, bottom, size)
        begin, end = int(first[0]), int(first[-1] + counts[-1])
        between = np.empty((end - begin, size), np.uint32)
        self.across(picture, *columns, begin, end, between)
        found = np.empty((size, 3 * size), np.uint8)
        self.down(between.view(np.uint8), first, counts, table, begin, found)
        return found.reshape(size, size, 3)

    def relevelled(self, pixels: Pixels, levels: Pixels) -> Pixels:
        """Give every byte the level that its channel's row of 256 has for it."""
        found = np.empty_like(pixels)
        self.relevel(pixels.reshape(-1, 3), levels, found.reshape(-1, 3))
        return found

    def blurred(self, pixels: Pixels, width: float) -> npt.NDArray[np.float32]:
        """Do what SciPy's `gaussian_filter` does with the rows and columns of a picture.

        Parameters
        ----------
        pixels : ndarray of uint8, shape (height, width, 3)
        width : float
            Standard deviation in pixels.
        """
        rows = pixels.reshape(len(pixels), -1)
        found = np.empty(rows.shape, np.float32)
        self.blur(rows, _bell(width), found)
        return found.reshape(pixels.shape)


@functools.cache
def _bell(width: float) -> npt.NDArray[np.float64]:
    point = np.zeros(2 * int(4 * width + 0.5) + 1)
    point[len(point) // 2] = 1
    return np.asarray(ndimage.gaussian_filter1d(point, width))


def packed(image: Image.Image) -> Packed:
    """Give the pixels of an RGB picture as numbers, red in the lowest byte."""
    in_fours = image.tobytes("raw", "RGBX")
    return np.frombuffer(in_fours, np.uint32).reshape(image.height, image.width)


_LOADING: Final = threading.Lock()
_LOADED: list[Kernels] = []


def kernels() -> Kernels | None:
    """Give the compiled functions, if this process has loaded them."""
    return _LOADED[0] if _LOADED else None


def load_kernels() -> Kernels:
    """Load what was compiled before, or compile it, which takes seconds; this process uses it.

    It is kept in the user's cache folder, and compiled by one process at a time.

    Raises
    ------
    NotCompiled
        If it can't be had, or doesn't give Pillow's bytes.
    """
    with _LOADING:
        if not _LOADED:
            _LOADED.append(_checked(_compiled()))
        return _LOADED[0]


def _compiled() -> Kernels:
    if platform.machine() not in _PROCESSORS:
        raise NotCompiled(f"it is for x86-64, and this is {platform.machine() or 'unknown'}")
    try:
        import numba
        from numba.core.errors import NumbaError
    except ImportError as error:
        raise NotCompiled(f"Numba can't be imported ({error})") from error
    try:
        folder = _own_folder()
        if "NUMBA_CACHE_DIR" not in os.environ:
            numba.config.CACHE_DIR = str(folder)
        with filelock.FileLock(folder / ".lock", timeout=60):
            try:
                return _built(numba)
            except _DAMAGED:
                for kept in folder.glob("*/"):
                    shutil.rmtree(kept)
                return _built(numba)
    except (NumbaError, OSError, RuntimeError, *_DAMAGED) as error:
        told = " ".join(str(error).split())[:200] or type(error).__name__
        raise NotCompiled(f"Numba can't compile it or keep it ({told})") from error


def _built(numba: Any) -> Kernels:
    return Kernels(
        *(
            numba.njit(signature, nogil=True, cache=True)(function)
            for function, signature in _signatures(numba.types)
        )
    )


def _signatures(types: Any) -> list[tuple[Callable[..., Any], Any]]:
    whole, table = types.int32[::1], types.int32[:, ::1]
    packed_, bytes_ = types.uint32[:, ::1], types.uint8[:, ::1]
    # What comes from bytes may not be written to.
    read_packed = types.Array(types.uint32, 2, "C", readonly=True)
    read_bytes = types.Array(types.uint8, 2, "C", readonly=True)
    number, single = types.int64, types.float32
    line = (whole, whole, table)
    return [
        (plain.weights, types.Tuple(line)(number, single, single, number)),
        (plain.across, types.void(read_packed, *line, number, number, packed_)),
        (plain.down, types.void(bytes_, *line, number, bytes_)),
        (plain.relevel, types.void(read_bytes, bytes_, bytes_)),
        (plain.blur, types.void(read_bytes, types.float64[::1], types.float32[:, ::1])),
    ]


def _own_folder() -> Path:
    """Make the folder for compiled code, which nobody else may write to, as it is run."""
    folder = user_cache("compiled")
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    found = folder.stat()
    if hasattr(os, "getuid") and (
        found.st_uid != os.getuid() or found.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
    ):
        raise NotCompiled(f"others may write to {folder}, and what lies there is run")
    return folder


def _checked(found: Kernels) -> Kernels:
    """Compare with Pillow and SciPy, whose numbers are those that count."""
    drawn = np.random.default_rng(0).integers(0, 256, (70, 90, 3), np.uint8)
    image = Image.fromarray(drawn)
    for size, box in ((128, (0.0, 0.0, 90.0, 70.0)), (31, (7.3, 5.1, 66.6, 64.2))):
        expected = image.resize((size, size), Image.Resampling.BILINEAR, box=box)
        if not np.array_equal(found.square(packed(image), size, box), np.asarray(expected)):
            raise NotCompiled(f"it doesn't give the bytes of Pillow {PIL.__version__}")
    if not np.array_equal(
        found.blurred(drawn, 1.1), ndimage.gaussian_filter(drawn, (1.1, 1.1, 0), output=np.float32)
    ):
        raise NotCompiled(f"it doesn't blur as SciPy {scipy.__version__} does")
    return found
