"""Which images may be copies of each other: neighbours by embedding and by ring signature."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
from sklearn.neighbors import NearestNeighbors
from threadpoolctl import threadpool_limits

from features.audit.alignment import Aligner
from features.audit.pictures import RING_SCALES, Pictures

__all__ = ["SAME_PICTURE", "Link", "Neighbours", "find_links", "nearest", "neighbours"]

Floats = npt.NDArray[np.float32]

# Correlation of fine structures; docs/audit.md says how it was chosen.
SAME_PICTURE: Final = 0.65
# Share of the usual distance between neighbours below which embeddings alone speak for a copy.
SAME_EMBEDDING: Final = 0.4

NEIGHBOURS: Final = 12
_RING_NEIGHBOURS: Final = 5
# Beyond so many images distances are taken between projections.
_EXACT: Final = 10_000
_PROJECTED: Final = 256


@dataclass(frozen=True)
class Link:
    """Two images that are copies of each other.

    Parameters
    ----------
    first, second : int
    similarity : float or None
        Correlation of the aligned pictures; none if they could not be seen.
    distance : float
        Cosine distance of the embeddings.
    """

    first: int
    second: int
    similarity: float | None
    distance: float


@dataclass(frozen=True)
class Neighbours:
    """The nearest other images of each, nearest first.

    Parameters
    ----------
    index : ndarray of int, shape (n, k)
    distance : ndarray of float32, shape (n, k)
        Cosine distance, 0 to 2.
    """

    index: npt.NDArray[np.int64]
    distance: Floats


def neighbours(embeddings: Floats, k: int = NEIGHBOURS) -> Neighbours:
    """Find the nearest other images by embedding.

    Up to 10,000 images exactly; among more, by the 256 leading principal directions.

    Parameters
    ----------
    embeddings : ndarray of float32, shape (n, d)
    k : int, optional

    Returns
    -------
    Neighbours
        With min(k, n - 1) columns.
    """
    points = embeddings if len(embeddings) <= _EXACT else _projected(embeddings)
    return nearest(_unit(points), k=k)


def nearest(points: Floats, queries: Floats | None = None, *, k: int) -> Neighbours:
    """Find, for each query, the k nearest points but the one of its own number.

    Parameters
    ----------
    points : ndarray of float32, shape (n, d)
        Of unit length.
    queries : ndarray of float32, shape (n, d), optional
        By default the points themselves.
    k : int
    """
    n, k = len(points), max(0, min(k, len(points) - 1))
    if not k:
        return Neighbours(np.zeros((n, 0), np.int64), np.zeros((n, 0), np.float32))
    # Of unit vectors half the squared distance is the cosine distance; searching by the latter
    # takes scikit-learn twice as long and ten times the memory.
    search = NearestNeighbors(algorithm="brute", metric="euclidean").fit(points)
    distance, index = search.kneighbors(points if queries is None else queries, k + 1)
    others = index != np.arange(n)[:, np.newaxis]
    others[others.all(axis=1), -1] = False
    return Neighbours(
        index[others].reshape(n, k).astype(np.int64),
        (distance[others].reshape(n, k) ** 2 / 2).astype(np.float32),
    )


def find_links(
    embeddings: Floats,
    near: Neighbours,
    pictures: Pictures | None,
    progress: Callable[[int, int], object] = lambda done, total: None,
) -> list[Link]:
    """Find copies.

    Where both pictures can be seen, neighbours by embedding or ring signature are aligned and
    compared; elsewhere only embeddings much nearer than usual count.

    Parameters
    ----------
    embeddings : ndarray of float32, shape (n, d)
    near : Neighbours
        By embedding.
    pictures : Pictures or None
    progress : callable, optional
        Told how many of how many images are done.

    Returns
    -------
    list of Link
        In order of their images, the smaller number first.
    """
    seen = np.zeros(len(embeddings), bool) if pictures is None else pictures.seen
    found: list[Link] = []
    if pictures is not None:
        found += _by_picture(embeddings, near, pictures, progress)
    usual = float(np.median(near.distance[:, -1])) if near.distance.size else 0.0
    first, place = np.nonzero(near.distance < SAME_EMBEDDING * usual)
    close = np.sort(np.stack([first, near.index[first, place]], axis=1), axis=1)
    for one, other in np.unique(close, axis=0).tolist():
        if not (seen[one] and seen[other]):
            found.append(Link(one, other, None, _distance(embeddings, one, other)))
    return sorted(found, key=lambda link: (link.first, link.second))


def _by_picture(
    embeddings: Floats,
    near: Neighbours,
    pictures: Pictures,
    progress: Callable[[int, int], object],
) -> list[Link]:
    pairs = _candidates(near, pictures)
    aligner = Aligner(pictures.grey)
    starts = np.searchsorted(pairs[:, 0], np.arange(len(embeddings) + 1))

    def compare(one: int) -> list[tuple[int, int, float]]:
        others = pairs[starts[one] : starts[one + 1], 1].tolist()
        likeness = aligner.similarities(one, others).tolist() if others else []
        return [
            (min(one, other), max(one, other), value)
            for other, value in zip(others, likeness, strict=True)
            if value >= SAME_PICTURE
        ]

    best: dict[tuple[int, int], float] = {}
    with threadpool_limits(1), ThreadPoolExecutor(os.cpu_count()) as pool:
        for done, same in enumerate(pool.map(compare, range(len(embeddings))), start=1):
            for one, other, value in same:
                best[one, other] = max(value, best.get((one, other), 0.0))
            progress(done, len(embeddings))
    return [Link(*pair, value, _distance(embeddings, *pair)) for pair, value in best.items()]


def _candidates(near: Neighbours, pictures: Pictures) -> npt.NDArray[np.int64]:
    """Give pairs of images that both were seen, each both ways round, sorted."""
    lists = [near.index]
    base = pictures.rings[:, 0]
    for scale in range(len(RING_SCALES)):
        lists.append(nearest(base, pictures.rings[:, scale], k=_RING_NEIGHBOURS).index)
    pairs = np.concatenate(
        [
            np.stack([np.repeat(np.arange(len(index)), index.shape[1]), index.ravel()], 1)
            for index in lists
        ]
    )
    pairs = np.unique(np.concatenate([pairs, pairs[:, ::-1]]), axis=0)
    kept: npt.NDArray[np.int64] = pairs[pictures.seen[pairs].all(axis=1)]
    return kept


def _distance(embeddings: Floats, one: int, other: int) -> float:
    first, second = embeddings[one], embeddings[other]
    length = float(np.linalg.norm(first) * np.linalg.norm(second))
    return max(0.0, 1 - float(first @ second) / length) if length else 0.0


def _unit(points: Floats) -> Floats:
    length = np.linalg.norm(points, axis=1, keepdims=True)
    return np.asarray(points / np.maximum(length, 1e-12), np.float32)


def _projected(embeddings: Floats) -> Floats:
    if embeddings.shape[1] <= _PROJECTED:
        return embeddings
    some = embeddings[:: max(1, len(embeddings) // _EXACT)]
    _, directions = np.linalg.eigh(some.T @ some)
    return np.asarray(embeddings @ directions[:, -_PROJECTED:], np.float32)
