"""What is known of the columns of embeddings that come block by block: moments, leading axes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from scipy.linalg import eigh
from sklearn.preprocessing import StandardScaler

from features.cache.rows import Rows
from models.heads.folds.blocks import over_blocks

__all__ = ["Basis", "Moments", "moments_of", "scaler_of"]

Floats = npt.NDArray[np.float64]
Singles = npt.NDArray[np.float32]
Mask = npt.NDArray[np.bool_]

_ROUNDING: Final = float(np.finfo(np.float32).eps)
# The axes are found from so many rows, or from four for each column.
_SAMPLE: Final = 16_384
# Of more columns, the leading axes, from fewer rows.
_WIDEST: Final = 6000
_SAMPLE_OF_WIDE: Final = 2048
_AXES_OF_WIDE: Final = 512


@dataclass(frozen=True)
class Moments:
    """Mean and deviation of the columns, as `sklearn.preprocessing.StandardScaler` has them.

    Parameters
    ----------
    n : int
        Rows.
    mean, variance, scale : ndarray, shape (d,)
        The scale of a column that doesn't vary is 1.
    """

    n: int
    mean: Floats
    variance: Floats
    scale: Floats


def moments_of(rows: Rows, masks: Sequence[Mask], jobs: int = 1) -> list[Moments]:
    """Give the moments of several subsets of the rows, in one pass.

    Parameters
    ----------
    rows : Rows, shape (n, d)
    masks : sequence of ndarray of bool, shape (n,)
    jobs : int
        Threads.

    Returns
    -------
    list of Moments

    Notes
    -----
    Deviations are summed around the mean of the first block, in float64, which loses nothing where
    columns are far from zero (Chan, Golub and LeVeque, Algorithms for computing the sample
    variance, The American Statistician 1983).
    """
    d = rows.shape[1]
    sums, squares = np.zeros((len(masks), d)), np.zeros((len(masks), d))
    first = next(rows.blocks(), np.zeros((1, d), np.float32))
    shift = first.mean(axis=0, dtype=np.float64).astype(np.float32)

    def summed(place: slice, block: Singles) -> tuple[Singles, Singles]:
        block -= shift
        chosen = np.stack([mask[place] for mask in masks]).astype(np.float32)
        total = chosen @ block
        np.square(block, out=block)
        return total, chosen @ block

    for added, added_squares in over_blocks(rows, summed, jobs):
        sums += added
        squares += added_squares
    found = []
    for mask, total, square in zip(masks, sums, squares, strict=True):
        n = int(mask.sum())
        beside = total / n
        mean = beside + shift
        variance = np.maximum(square / n - beside**2, 0)
        # What single precision can't tell from a column that doesn't vary.
        variance[variance <= (_ROUNDING * mean) ** 2] = 0
        found.append(Moments(n, mean, variance, np.where(variance > 0, np.sqrt(variance), 1.0)))
    return found


def scaler_of(moments: Moments) -> StandardScaler:
    """Give the fitted scaler that has these moments."""
    scaler = StandardScaler()
    scaler.mean_, scaler.var_, scaler.scale_ = moments.mean, moments.variance, moments.scale
    scaler.n_samples_seen_ = np.int64(moments.n)
    scaler.n_features_in_ = len(moments.mean)
    return scaler


@dataclass(frozen=True)
class Basis:
    """Coordinates in which all directions are about alike: a centre, a scale, and axes.

    Parameters
    ----------
    centre, scale : ndarray, shape (d,), or None
        By which columns are standardised, if they are.
    axes : ndarray, shape (d, r)
        All, or the leading ones.
    eigenvalues : ndarray, shape (r,)
    rest : float
        Mean of the eigenvalues of the other axes.
    """

    centre: Singles | None
    scale: Singles | None
    axes: Singles
    eigenvalues: Floats
    rest: float

    @classmethod
    def of(cls, rows: Rows, seed: int, *, standardise: bool) -> Basis:
        """Find it from some of the rows, (n, d), drawn by `seed`; of many columns, some axes."""
        n, d = rows.shape
        wide = d > _WIDEST
        chosen = np.random.default_rng(seed).permutation(n)
        sample = rows.take(np.sort(chosen[: _SAMPLE_OF_WIDE if wide else max(_SAMPLE, 4 * d)]))
        centre = scale = None
        if standardise:
            found = moments_of(sample, [np.ones(len(sample), bool)])[0]
            centre, scale = found.mean.astype(np.float32), found.scale.astype(np.float32)
        plain = cls(centre, scale, np.empty((d, 0), np.float32), np.empty(0), 0.0)
        eigenvalues, axes = plain._of_wide(sample) if wide else plain._of_narrow(sample)
        total = float(eigenvalues.sum())
        if wide:
            # The eigenproblem of all columns would take longer than what it saves.
            eigenvalues, axes = eigenvalues[-_AXES_OF_WIDE:], axes[:, -_AXES_OF_WIDE:]
        left = max(total - float(eigenvalues.sum()), 0) / max(d - len(eigenvalues), 1)
        return cls(centre, scale, axes, eigenvalues, left)

    def _of_narrow(self, sample: Rows) -> tuple[Floats, Singles]:
        d = sample.shape[1]
        product = np.zeros((d, d), np.float32)
        for block in sample.blocks():
            self.standardise(block)
            product += block.T @ block
        eigenvalues, axes = eigh(product / len(sample), driver="evd", check_finite=False)
        return np.maximum(eigenvalues, 0).astype(np.float64), axes

    def _of_wide(self, sample: Rows) -> tuple[Floats, Singles]:
        """Find the axes from the inner products of the rows, which are fewer than columns."""
        held = sample.whole()
        self.standardise(held)
        found, between = eigh(held @ held.T, driver="evd", check_finite=False)
        kept = found > _ROUNDING * found[-1]
        axes = (held.T @ between[:, kept]) / np.sqrt(found[kept])
        return found[kept].astype(np.float64) / len(sample), axes

    def moments_here(self, moments: Moments) -> tuple[Floats, Floats]:
        """Give mean and scale of the columns, (d,) each, once they are standardised."""
        if self.centre is None or self.scale is None:
            return moments.mean, moments.scale
        return (moments.mean - self.centre) / self.scale, moments.scale / self.scale

    def standardise(self, block: Singles) -> None:
        """Do so in place, if at all."""
        if self.centre is not None and self.scale is not None:
            block -= self.centre
            block /= self.scale

    def scaled(
        self, points: npt.NDArray[Any], along: Floats, beside: npt.NDArray[np.float64]
    ) -> Singles:
        """Scale columns of points, (d, k), by `along` (r, k) the axes and `beside` (k,) them."""
        points = points.astype(np.float32)
        turned = (along - beside) * (self.axes.T @ points)
        found: Singles = points * beside.astype(np.float32)
        found += self.axes @ turned.astype(np.float32)
        return found
