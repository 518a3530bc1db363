"""How unlike the training images an image is, and beyond which distance nothing can be told."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
from sklearn.utils.extmath import randomized_svd

from models.heads.folds.routines import add_products, mirror

__all__ = [
    "Space",
    "conformal_limit",
    "cosines",
    "kth_distance",
    "learn_limit",
    "learn_places",
    "learn_space",
]

Floats = npt.NDArray[np.float32]

DIMENSIONS: Final = 256
NEIGHBOUR: Final = 5
FALSE_ALARMS: Final = 0.01

_FOLDS: Final = 5
# More images than these hardly turn the axes.
_SAMPLE: Final = 4000
_STRETCH: Final = 2 * 2**20
# Relative to the largest eigenvalue: axes that hold rounding only.
_ROUNDING: Final = 1e-6
_NOTHING: Final = 1e-24


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


def cosines(X: Floats) -> Floats:
    """Give the cosines of all pairs of rows (n, d), shape (n, n); of a row of zeros they are 0.

    By stretches of the columns, so that it takes no copy of the rows.
    """
    n, d = X.shape
    found = np.zeros((n, n), np.float32)
    step = max(64, _STRETCH // max(n, 1))
    for start in range(0, d, step):
        add_products(found, X[:, start : start + step])
    mirror(found)
    lengths = np.sqrt(np.maximum(np.diag(found), _NOTHING))
    found /= lengths[:, None]
    found /= lengths
    return found


def learn_space(
    X: Floats, *, dimensions: int = DIMENSIONS, seed: int = 0, known: Floats | None = None
) -> Space:
    """Find the axes along which the directions of embeddings (n, d) lie best.

    Parameters
    ----------
    X : ndarray of float32, shape (n, d)
    dimensions : int
        At most as many axes are kept; fewer where the directions span no more.
    seed : int
    known : ndarray of float32, shape (n, n), optional
        The `cosines` of X, if they are known.

    Notes
    -----
    The axes are the leading eigenvectors of the cosines, by randomised iteration (Halko,
    Martinsson and Tropp, SIAM Review 2011), carried over to the columns: the same as a singular
    value decomposition of the rows, at the price of one product of them with themselves.
    """
    return learn_places(X, dimensions=dimensions, seed=seed, known=known)[0]


def learn_places(
    X: Floats, *, dimensions: int = DIMENSIONS, seed: int = 0, known: Floats | None = None
) -> tuple[Space, Floats]:
    """Do the same, and give what ``Space.place(X)`` would, out of the cosines."""
    among = cosines(X) if known is None else known
    sample = _sample(len(X), seed)
    loadings = _loadings(among[np.ix_(sample, sample)], min(dimensions, X.shape[1]), seed)
    lengths = np.sqrt(np.maximum(np.einsum("ij,ij->i", X, X)[sample], _NOTHING))
    along = (loadings / lengths[:, None]).astype(np.float32)
    rows = X if len(sample) == len(X) else X[sample]
    return Space(np.ascontiguousarray(rows.T @ along)), among[:, sample] @ loadings


def _sample(n: int, seed: int) -> npt.NDArray[np.intp]:
    if n <= _SAMPLE:
        return np.arange(n)
    return np.random.default_rng(seed).choice(n, _SAMPLE, replace=False)


def _loadings(among: Floats, dimensions: int, seed: int) -> Floats:
    """Give what turns the cosines to these rows into coordinates along their axes, (n, k)."""
    vectors, values, _ = randomized_svd(
        among,
        min(dimensions, len(among)),
        n_iter=2,
        # Without it small axes drown in rounding.
        power_iteration_normalizer="QR",
        random_state=seed,
    )
    kept = values > _ROUNDING * values[0]
    found: Floats = vectors[:, kept] / np.sqrt(values[kept])
    return found


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
    X: Floats,
    groups: npt.NDArray[np.generic],
    *,
    alpha: float = FALSE_ALARMS,
    seed: int = 0,
    known: Floats | None = None,
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
    known : ndarray of float32, shape (n, n), optional
        The `cosines` of X, if they are known.

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
    among = cosines(X) if known is None else known
    distances = np.full(len(X), np.inf)
    for number in range(_FOLDS):
        held = fold == number
        if held.any() and not held.all():
            others, own = np.flatnonzero(~held), np.flatnonzero(held)
            axes = others[_sample(len(others), seed)]
            loadings = _loadings(among[np.ix_(axes, axes)], min(DIMENSIONS, X.shape[1]), seed)
            placed = among[:, axes] @ loadings
            distances[own] = kth_distance(placed[own], placed[others])
    limit = conformal_limit(distances, alpha)
    return limit if limit is not None and math.isfinite(limit) else None
