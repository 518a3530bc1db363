"""Whether two pictures show the same thing once one is turned, mirrored, scaled and shifted."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

import numpy as np
import numpy.typing as npt
from scipy.ndimage import binary_erosion, gaussian_filter, map_coordinates

__all__ = ["SIDE", "Aligner", "ring_points", "sample"]

SIDE: Final = 64

Grey = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]
Doubles = npt.NDArray[np.float64]
Spectra = npt.NDArray[np.complex64]

_CENTRE: Final = (SIDE - 1) / 2
_ANGLES: Final = 64
_HARMONICS: Final = 17
# So that rings that are enlarged and shifted hardly leave the picture.
_RADII: Final = np.linspace(3, 22, 8)
_SCALES: Final = (1.0, 0.9, 0.81, 1.11, 1.24)
_SHIFTS: Final = (0.0, -3.0, 3.0, -6.0, 6.0)
_VARIANTS: Final = tuple(itertools.product(_SCALES, _SHIFTS, _SHIFTS))
# What altered copies have in common along the rings, at least one way round.
_ROUGH: Final = 0.75
_HYPOTHESES: Final = 2
# Darker than this are the corners of a turned picture and the rim of a dermoscope's lens.
_BLACK: Final = 12
# Differences that recompression makes, in grey levels.
_NOISE: Final = 2.0
_LEAST_OVERLAP: Final = 0.4
_MOST_SCALE: Final = 1.8
_PROMISING: Final = 0.4
_SURE: Final = 0.8
# Normalised structures of an empty picture are weaker than this.
_EMPTY: Final = 0.05
_AT_ONCE: Final = 256


@dataclass(frozen=True)
class _Picture:
    values: Floats
    seen: Floats


@dataclass(frozen=True)
class _Map:
    """A point of the still picture lies in the moving one at matrix @ point + shift, as (x, y)."""

    matrix: Doubles
    shift: Doubles
    mirrored: bool

    @property
    def plausible(self) -> bool:
        scale = float(np.sqrt(abs(np.linalg.det(self.matrix))))
        return 1 / _MOST_SCALE < scale < _MOST_SCALE and float(np.abs(self.shift).max()) < SIDE / 2


class Aligner:
    """Compares small grey pictures for being altered copies of each other.

    In two steps. The Fourier coefficients along rings give the turn between two pictures at once,
    for any angle; this is tried for some shifts and scales, and mirrored. The best hypotheses are
    refined to affine maps by the inverse compositional algorithm [1]_ on locally normalised
    pictures, so that brightness, contrast and the shade of the lens don't count. What the
    pictures then have in common is measured on their finest structures alone: that two lesions
    have the same outline must not suffice.

    Parameters
    ----------
    grey : ndarray of uint8, shape (n, 64, 64)

    References
    ----------
    .. [1] S. Baker and I. Matthews (2004), Lucas-Kanade 20 years on: a unifying framework.
       International Journal of Computer Vision 56(3).
    """

    def __init__(self, grey: Grey) -> None:
        self._grey = grey
        points = ring_points(_RADII)
        blocks = [
            _spectra(sample(_band(grey[start : start + _AT_ONCE]), points))
            for start in range(0, len(grey), _AT_ONCE)
        ]
        empty = np.empty((0, len(_RADII), _HARMONICS), np.complex64)
        self._spectra = np.concatenate(blocks or [empty])

    def similarities(self, one: int, others: Sequence[int]) -> Floats:
        """Compare a picture with others.

        Asked the other way round, a pair may come out differently, mostly where one picture is a
        part of the other: the larger value counts.

        Parameters
        ----------
        one : int
        others : sequence of int

        Returns
        -------
        ndarray of float32, shape (len(others),)
            Correlation of the fine structures of the aligned pictures, at most 1; 0 where the
            first step found too little in common for a closer look.
        """
        found = np.zeros(len(others), np.float32)
        rough, maps = self._hypotheses(one, others)
        for place in np.flatnonzero(rough >= _ROUGH):
            for start in maps[place]:
                correlation = _aligned(self._grey[one], self._grey[others[int(place)]], start)
                found[place] = max(found[place], correlation)
                if correlation > _SURE:
                    break
        return found

    def _hypotheses(self, one: int, others: Sequence[int]) -> tuple[Floats, list[list[_Map]]]:
        turned = _spectra(sample(_band(self._grey[one : one + 1]), _variant_points())[0])
        still = self._spectra[list(others)]
        moving = np.ascontiguousarray(turned.transpose(2, 0, 1))
        # The spectrum of a mirrored picture is the conjugate.
        products = np.stack(
            [moving @ part.transpose(2, 1, 0) for part in (still.conj(), still)]
        ).transpose(3, 0, 2, 1)
        scores = np.fft.irfft(products, n=_ANGLES, axis=-1).astype(np.float32)
        best = scores.max(-1).reshape(len(others), -1)
        order = np.argsort(-best, axis=1, kind="stable")[:, :_HYPOTHESES]
        maps = [
            [_map_of(int(number), scores[place]) for number in numbers]
            for place, numbers in enumerate(order)
        ]
        return best.max(1), maps


def ring_points(radii: Doubles, scale: float = 1.0, x: float = 0.0, y: float = 0.0) -> Doubles:
    """Give the points of concentric rings as (row, column), shape (2, radii, 64)."""
    angles = 2 * np.pi * np.arange(_ANGLES) / _ANGLES
    wide = scale * radii[:, None]
    return _CENTRE + np.stack([y + wide * np.sin(angles), x + wide * np.cos(angles)])


def sample(pictures: Floats, points: Doubles) -> Floats:
    """Read pictures (n, 64, 64) between their pixels at points (2, ...), giving (n, ...)."""
    row, column = np.clip(points, 0, SIDE - 1)
    top, left = (np.minimum(place.astype(int), SIDE - 2) for place in (row, column))
    down, right = (row - top).astype(np.float32), (column - left).astype(np.float32)
    flat = pictures.reshape(len(pictures), -1)
    at = top * SIDE + left
    upper = flat[:, at] * (1 - right) + flat[:, at + 1] * right
    lower = flat[:, at + SIDE] * (1 - right) + flat[:, at + SIDE + 1] * right
    found: Floats = upper * (1 - down) + lower * down
    return found


@lru_cache(maxsize=1)
def _variant_points() -> Doubles:
    return np.stack([ring_points(_RADII, *variant) for variant in _VARIANTS], axis=1)


def _map_of(number: int, scores: Floats) -> _Map:
    mirrored, variant = divmod(number, len(_VARIANTS))
    angle = 2 * np.pi * int(scores[mirrored, variant].argmax()) / _ANGLES
    scale, x, y = _VARIANTS[variant]
    cos, sin = scale * np.cos(angle), scale * np.sin(angle)
    return _Map(np.array([[cos, -sin], [sin, cos]]), np.array([x, y]), bool(mirrored))


def _spectra(rings: Floats) -> Spectra:
    """Give spectra of which the inverse transform of a product is a correlation."""
    spectra = np.fft.rfft(rings, axis=-1)[..., :_HARMONICS] * np.sqrt(_RADII)[:, None]
    power = np.abs(spectra) ** 2
    energy = 2 * power.sum((-1, -2)) - power[..., 0].sum(-1)
    scale = np.sqrt(_ANGLES / np.maximum(energy, 1e-9))
    return np.asarray(spectra * scale[..., None, None], np.complex64)


def _smooth(pictures: Floats, seen: Floats, width: float) -> Floats:
    """Blur what is seen, and nothing of what is not, into its neighbourhood."""
    blur = (*(0,) * (pictures.ndim - 2), width, width)
    weight = gaussian_filter(seen, blur, mode="constant") + 1e-3
    return np.asarray(gaussian_filter(pictures * seen, blur, mode="constant") / weight, np.float32)


def _normalised(pictures: Floats, seen: Floats, mean: float, spread: float, noise: float) -> Floats:
    fine = (pictures - _smooth(pictures, seen, mean)) * seen
    return np.asarray(fine / np.sqrt(_smooth(fine**2, seen, spread) + noise**2), np.float32)


def _band(grey: Grey) -> Floats:
    seen = (grey > _BLACK).astype(np.float32)
    return _normalised(_smooth(grey.astype(np.float32), seen, 1.0), seen, 5.0, 4.0, _NOISE)


@lru_cache(maxsize=512)
def _levels(data: bytes) -> tuple[_Picture, _Picture]:
    """Give the picture for alignment at half and at full size."""
    grey = np.frombuffer(data, np.uint8).reshape(SIDE, SIDE)
    # What lies beside black was mixed with it when the picture was turned or made smaller.
    seen = binary_erosion(grey > _BLACK, iterations=2, border_value=1).astype(np.float32)
    values = _normalised(grey.astype(np.float32), seen, 5.0, 8.0, _NOISE)
    half = [
        gaussian_filter(part, 0.7).reshape(SIDE // 2, 2, SIDE // 2, 2).mean((1, 3))
        for part in (values, seen)
    ]
    return _Picture(*half), _Picture(values, seen)


def _aligned(moving: Grey, still: Grey, start: _Map) -> float:
    if start.mirrored:
        still = still[::-1]
    (half, whole), (half_still, whole_still) = (
        _levels(picture.tobytes()) for picture in (moving, still)
    )
    found = _refined(half, half_still, _Map(start.matrix, start.shift / 2, start.mirrored), 12)
    warped = _warped(half.values, found)
    there = np.isfinite(warped)
    # Most pairs are not worth the dearer second half.
    if _correlation(warped[there], half_still.values.ravel()[there]) < _PROMISING:
        return 0.0
    found = _Map(found.matrix, found.shift * 2, found.mirrored)
    if not found.plausible:
        return 0.0
    found = _refined(whole, whole_still, found, 10)
    return _in_common(moving, still, found) if found.plausible else 0.0


@lru_cache(maxsize=2)
def _grid(side: int) -> Doubles:
    grid: Doubles = np.mgrid[:side, :side].reshape(2, -1) - (side - 1) / 2
    return grid


def _warped(picture: Floats, found: _Map) -> Floats:
    side = len(picture)
    # map_coordinates counts (row, column), maps (x, y).
    points = found.matrix[::-1, ::-1] @ _grid(side) + found.shift[::-1, None] + (side - 1) / 2
    warped: Floats = map_coordinates(picture, points, order=1, cval=np.nan, output=np.float32)
    return warped


def _refined(moving: _Picture, still: _Picture, start: _Map, rounds: int) -> _Map:
    side = len(still.values)
    y, x = _grid(side)
    dy, dx = (slope.ravel() for slope in np.gradient(still.values))
    steepest = np.stack([dx * x, dx * y, dy * x, dy * y, dx, dy], 1) * still.seen.reshape(-1, 1)
    visible = np.where(moving.seen > 0.5, moving.values, np.nan)
    target = still.values.ravel()
    found = start
    for _ in range(rounds):
        warped = _warped(visible, found)
        there = np.isfinite(warped)
        if there.mean() < _LEAST_OVERLAP:
            break
        used = steepest[there]
        normal = used.T @ used
        normal[np.diag_indices(6)] = normal.diagonal() * 1.001 + 1e-6
        change = np.linalg.solve(normal, used.T @ (warped[there] - target[there]))
        step = np.eye(2) + change[:4].reshape(2, 2)
        if abs(np.linalg.det(step)) < 0.1:
            break
        matrix = found.matrix @ np.linalg.inv(step)
        found = _Map(matrix, found.shift - matrix @ change[4:], start.mirrored)
        if np.abs(change[:4]).max() * side + np.abs(change[4:]).max() < 0.05:
            break
    return found


def _correlation(left: Floats, right: Floats) -> float:
    if not left.size:
        return 0.0
    scale = float(left.std() * right.std())
    return float(((left - left.mean()) * (right - right.mean())).mean()) / scale if scale else 0.0


def _in_common(moving: Grey, still: Grey, found: _Map) -> float:
    warped = _warped(np.where(moving > _BLACK, moving, np.nan).astype(np.float32), found).reshape(
        SIDE, SIDE
    )
    both = binary_erosion(np.isfinite(warped) & (still > _BLACK), iterations=2, border_value=1)
    if both.mean() < _LEAST_OVERLAP:
        return 0.0
    seen = both.astype(np.float32)
    left, right = (
        _normalised(np.where(both, part, 0).astype(np.float32), seen, 1.5, 3.0, 1.5)[both]
        for part in (warped, still)
    )
    return _correlation(left, right) if min(left.std(), right.std()) > _EMPTY else 0.0
