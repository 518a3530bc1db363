"""How unlike the training images an image is, and beyond which distance nothing can be told."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
from sklearn.utils.extmath import randomized_svd

__all__ = ["Space", "conformal_limit", "kth_distance", "learn_limit", "learn_space"]

Floats = npt.NDArray[np.float32]

DIMENSIONS: Final = 256
NEIGHBOUR: Final = 5
FALSE_ALARMS: Final = 0.01

_FOLDS: Final = 5
# More images than these hardly turn the axes.
_SAMPLE: Final = 4000


@dataclass(frozen=True)
class Space:
    """Where images are compared: directions of embeddings along the axes of the training images.

    Parameters
    ----------
    axes : ndarray of float32, shape (d, k)
        Orthonormal columns.

    Notes
    -----
    The distance of two images is one less the inner product of their coordinates: the cosine
    distance of the embeddings, up to what lies off the axes. What an image has off the axes is not
    shared with any training image, and makes it distant from all.
    """

    axes: Floats

    def place(self, X: npt.ArrayLike) -> Floats:
        """Give the coordinates of embeddings (n, d), shape (n, k); no longer than 1."""
        rows = np.asarray(X, np.float32)
        length = np.linalg.norm(rows, axis=1, keepdims=True)
        found: Floats = (rows / np.maximum(length, np.float32(1e-12))) @ self.axes
        return found


def learn_space(X: Floats, *, dimensions: int = DIMENSIONS, seed: int = 0) -> Space:
    """Find the axes along which the directions of embeddings (n, d) lie best.

    Parameters
    ----------
    X : ndarray of float32, shape (n, d)
    dimensions : int
        At most as many axes are kept.
    seed : int
    """
    rng = np.random.default_rng(seed)
    rows = X if len(X) <= _SAMPLE else X[rng.choice(len(X), _SAMPLE, replace=False)]
    units = rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)
    axes = randomized_svd(
        units,
        min(dimensions, *units.shape),
        n_iter=2,
        # Without it small axes drown in float32's rounding.
        power_iteration_normalizer="QR",
        random_state=seed,
    )[2]
    return Space(np.ascontiguousarray(axes.T, np.float32))


def kth_distance(placed: Floats, among: Floats, k: int = NEIGHBOUR) -> npt.NDArray[np.float64]:
    """Give the distance of each row of `placed` (n, dims) to its k-th nearest of `among`."""
    k = min(k, len(among))
    near = np.concatenate(
        [
            np.partition(1 - placed[start : start + 512] @ among.T, k - 1, axis=1)[:, k - 1]
            for start in range(0, len(placed), 512)
        ]
        or [np.empty(0)]
    )
    return near.astype(np.float64)


def conformal_limit(distances: npt.ArrayLike, alpha: float = FALSE_ALARMS) -> float | None:
    """Give the limit that a new image drawn like these exceeds with probability at most `alpha`.

    Parameters
    ----------
    distances : array-like, shape (n,)
        Of images to others that they were not among.
    alpha : float

    Returns
    -------
    float or None
        None where there are too few for the promise: fewer than ``1 / alpha - 1``.

    Examples
    --------
    >>> conformal_limit(range(1, 100))
    99.0
    >>> conformal_limit(range(1, 99))
    """
    ordered = np.sort(np.asarray(distances, float))
    rank = math.ceil(round((len(ordered) + 1) * (1 - alpha), 9))
    return None if rank > len(ordered) else float(ordered[rank - 1])


def learn_limit(
    X: Floats, groups: npt.NDArray[np.generic], *, alpha: float = FALSE_ALARMS, seed: int = 0
) -> float | None:
    """Find the distance from the training images beyond which an image is unlike them.

    Parameters
    ----------
    X : ndarray of float32, shape (n, d)
        Training embeddings.
    groups : ndarray, shape (n,)
        Equal for images that belong together.
    alpha : float
        Share of images like the training images that may lie beyond it.
    seed : int

    Returns
    -------
    float or None
        None where there are too few images.

    Notes
    -----
    Every image's distance to its fifth nearest is taken from the images of other folds alone, with
    axes learned on those; the limit is the conformal quantile of these (Vovk, Cross-conformal
    predictors, 2015; nearest neighbours as in Sun et al., Out-of-distribution detection with deep
    nearest neighbors, ICML 2022). The served axes and neighbours are those of all images, which are
    nearer: the rate is if anything lower.
    """
    if conformal_limit(np.zeros(len(X)), alpha) is None:
        return None
    names, group = np.unique(groups, return_inverse=True)
    rng = np.random.default_rng(seed)
    fold = rng.permutation(np.arange(len(names)) % _FOLDS)[group]
    distances = np.full(len(X), np.inf)
    for number in range(_FOLDS):
        held = fold == number
        if held.any() and not held.all():
            space = learn_space(X[~held], seed=seed)
            distances[held] = kth_distance(space.place(X[held]), space.place(X[~held]))
    limit = conformal_limit(distances, alpha)
    return limit if limit is not None and math.isfinite(limit) else None
