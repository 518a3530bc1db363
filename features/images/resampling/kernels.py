"""Pillow's bilinear resampling and SciPy's blur, for a compiler to make vector instructions of.

Nothing here is meant to be run by Python itself: `features.images.resampling.compiled` hands it
to Numba.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

__all__ = ["across", "blur", "down", "relevel", "weights"]

# As Pillow's: a weight is a whole number, so many bits of it behind the point.
_BITS = 22
_HALF = 1 << (_BITS - 1)
# Rows that are worked on at once, and columns whose pixels then fit into a core's first cache.
_ROWS, _COLUMNS = 64, 64
_LOW = np.uint32(255)
_SECOND, _THIRD = np.uint32(8), np.uint32(16)

Whole = npt.NDArray[np.int32]
Packed = npt.NDArray[np.uint32]
Bytes = npt.NDArray[np.uint8]


def weights(
    length: int, start: np.float32, end: np.float32, size: int
) -> tuple[Whole, Whole, Whole]:
    """Tell which pixels of a line each new one is made of, and what they count.

    Parameters
    ----------
    length : int
        Pixels of the line.
    start, end : float32
        Which part of it is taken; Pillow keeps these in single precision.
    size : int
        Pixels of the new line.

    Returns
    -------
    first, counts : ndarray of int32, shape (size,)
        The first pixel, and how many there are.
    table : ndarray of int32, shape (size, most)
        Their weights in units of 2^-22.
    """
    scale = float(end - start) / size
    reach = max(scale, 1.0)
    first = np.empty(size, np.int32)
    counts = np.empty(size, np.int32)
    table = np.zeros((size, math.ceil(reach) * 2 + 1), np.int32)
    kept = np.empty(table.shape[1], np.float64)
    steepness = 1.0 / reach
    for place in range(size):
        centre = float(start) + (place + 0.5) * scale
        begin = max(int(centre - reach + 0.5), 0)
        count = min(int(centre + reach + 0.5), length) - begin
        total = 0.0
        for each in range(count):
            distance = abs((each + begin - centre + 0.5) * steepness)
            kept[each] = 1.0 - distance if distance < 1.0 else 0.0
            total += kept[each]
        for each in range(count):
            share = kept[each] / total if total != 0.0 else kept[each]
            table[place, each] = int(0.5 + share * (1 << _BITS))
        first[place] = begin
        counts[place] = count
    return first, counts, table


def across(
    source: Packed, first: Whole, counts: Whole, table: Whole, top: int, bottom: int, out: Packed
) -> None:
    """Resample rows `top` to `bottom`; a pixel is red, green and blue from the lowest byte on."""
    size = first.shape[0]
    widest = table.shape[1] + _COLUMNS
    columns = np.empty((widest, _ROWS), np.uint32)
    made = np.empty((size, _ROWS), np.uint32)
    sums = np.empty((3, _ROWS), np.int32)
    red, green, blue = sums[0], sums[1], sums[2]
    for block in range(top, bottom, _ROWS):
        rows = min(_ROWS, bottom - block)
        begin = 0
        while begin < size:
            # As many new columns as are made of those that fit.
            left = first[begin]
            end = begin + 1
            while end < size and first[end] + counts[end] - left <= widest:
                end += 1
            # Of a type that has no sign, so that no index is looked at for being negative.
            width = np.uint64(first[end - 1] + counts[end - 1] - left)
            for row in range(rows):
                line = source[block + row, left : left + width]
                for column in range(width):
                    columns[column, row] = line[column]
            for place in range(begin, end):
                for row in range(_ROWS):
                    red[row] = _HALF
                    green[row] = _HALF
                    blue[row] = _HALF
                for each in range(counts[place]):
                    weight = table[place, each]
                    pixels = columns[first[place] - left + each]
                    # One loop for each: with three results in one, no vector instructions come.
                    for row in range(_ROWS):
                        red[row] += weight * np.int32(pixels[row] & _LOW)
                    for row in range(_ROWS):
                        green[row] += weight * np.int32((pixels[row] >> _SECOND) & _LOW)
                    for row in range(_ROWS):
                        blue[row] += weight * np.int32((pixels[row] >> _THIRD) & _LOW)
                found = made[place]
                for row in range(_ROWS):
                    found[row] = (
                        np.uint32(red[row] >> _BITS)
                        | (np.uint32(green[row] >> _BITS) << _SECOND)
                        | (np.uint32(blue[row] >> _BITS) << _THIRD)
                    )
            for row in range(rows):
                line = out[block - top + row]
                for place in range(begin, end):
                    line[place] = made[place, row]
            begin = end


def down(source: Bytes, first: Whole, counts: Whole, table: Whole, top: int, out: Bytes) -> None:
    """Resample columns, of rows of four bytes a pixel that begin at `top`, to three bytes."""
    length = source.shape[1]
    sums = np.empty(length, np.int32)
    for place in range(first.shape[0]):
        for column in range(length):
            sums[column] = _HALF
        for each in range(counts[place]):
            weight = table[place, each]
            line = source[first[place] - top + each]
            for column in range(length):
                sums[column] += weight * np.int32(line[column])
        found = out[place]
        for pixel in range(length // 4):
            for channel in range(3):
                found[3 * pixel + channel] = np.uint8(sums[4 * pixel + channel] >> _BITS)


def relevel(pixels: Bytes, levels: Bytes, out: Bytes) -> None:
    """Look each channel's bytes up in its row of `levels`; arrays of pixels by three bytes."""
    for pixel in range(pixels.shape[0]):
        for channel in range(3):
            out[pixel, channel] = levels[channel, pixels[pixel, channel]]


def blur(pixels: Bytes, bell: npt.NDArray[np.float64], out: npt.NDArray[np.float32]) -> None:
    """Blur in the order that SciPy adds in; rows of three bytes a pixel, mirrored at the edges.

    Parameters
    ----------
    pixels : ndarray of uint8, shape (rows, 3 * columns)
    bell : ndarray of float, shape (2 * reach + 1,)
        Weights, symmetric; fewer than there are rows or columns on either side.
    out : ndarray of float32, as `pixels`
    """
    rows, length = pixels.shape
    reach = bell.shape[0] // 2
    sums = np.empty(length, np.float64)
    line = np.empty(length + 6 * reach, np.float64)
    inner = line[3 * reach : 3 * reach + length]
    for row in range(rows):
        here = pixels[row]
        for place in range(length):
            sums[place] = here[place] * bell[reach]
        for step in range(reach, 0, -1):
            above, below = row - step, row + step
            if above < 0:
                above = -1 - above
            if below >= rows:
                below = 2 * rows - 1 - below
            weight = bell[reach - step]
            before, after = pixels[above], pixels[below]
            for place in range(length):
                sums[place] += (np.float64(before[place]) + np.float64(after[place])) * weight
        for place in range(length):
            inner[place] = np.float32(sums[place])
        for step in range(reach):
            for channel in range(3):
                line[3 * (reach - 1 - step) + channel] = inner[3 * step + channel]
                line[3 * reach + length + 3 * step + channel] = inner[
                    length - 3 * (step + 1) + channel
                ]
        for place in range(length):
            sums[place] = inner[place] * bell[reach]
        for step in range(reach, 0, -1):
            weight = bell[reach - step]
            before = line[3 * (reach - step) : 3 * (reach - step) + length]
            after = line[3 * (reach + step) : 3 * (reach + step) + length]
            for place in range(length):
                sums[place] += (before[place] + after[place]) * weight
        found = out[row]
        for place in range(length):
            found[place] = np.float32(sums[place])
