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
from features.audit.approximate import (
    Kept,
    Recall,
    approximate_nearest,
    is_installed,
    measure_recall,
)
from features.audit.pictures import RING_SCALES, Pictures
from features.cache.rows import Rows
from features.errors import CacheError
from features.numbers import percent

__all__ = [
    "MANY",
    "SAME_PICTURE",
    "WAYS",
    "Link",
    "Neighbours",
    "by_index",
    "find_links",
    "nearest",
    "neighbours",
]

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
# From so many images on, comparing each with all takes longer than an index; docs/audit.md.
MANY: Final = 200_000
WAYS: Final = ("auto", "exact", "index")


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
    recall : Recall or None
        How many of the true ones these are, where an index was asked; all, if None.
    note : str or None
        Why the index could not be kept.
    """

    index: npt.NDArray[np.int64]
    distance: Floats
    recall: Recall | None = None
    note: str | None = None

    def notes(self) -> list[str]:
        """Say how they were found and how many may be missing, unless each was compared."""
        if self.recall is None:
            return []
        asked, nearest = self.recall.asked, self.recall.nearest
        # Imported late: most audits compare each with all.
        from scipy.stats import binomtest

        sure = binomtest(nearest, asked).proportion_ci(0.95, method="wilson")
        within = f"{percent(sure.low)} to {percent(sure.high)} with 95 % confidence"
        notes = [
            "Images were not each compared with all others but by an index, which can miss some: "
            f"of {asked:,} images drawn at random it found the nearest other one for {nearest:,} "
            f"({within}) and {percent(self.recall.share)} of all neighbours. A copy that was "
            "missed may cross splits; `--neighbours exact` compares each with all and takes longer."
        ]
        if self.note:
            notes.append(f"For the next audit it is made anew, because {self.note}.")
        return notes


def by_index(n: int, way: str = "auto") -> bool:
    """Whether neighbours among n images are asked of an index.

    Parameters
    ----------
    n : int
    way : str, optional
        One of `WAYS`: by default only among many, and only if the extra is installed.

    Raises
    ------
    CacheError
        If an index is wanted and the extra is missing.
    """
    if way == "index" and not is_installed():
        raise CacheError(
            "an index of neighbours needs the library usearch, which is not installed: "
            "`pip install 'lesion-classifier[neighbours]'`, or leave --neighbours out"
        )
    return way == "index" or (way == "auto" and n >= MANY and is_installed())


def neighbours(
    embeddings: Floats | Rows,
    k: int = NEIGHBOURS,
    *,
    way: str = "auto",
    kept: Kept | None = None,
    progress: Callable[[int, int], object] = lambda done, total: None,
) -> Neighbours:
    """Find the nearest other images by embedding.

    Up to 10,000 images exactly; among more, by the 256 leading principal directions; among 200,000
    and more by an index of these, if the extra for it is installed.

    Parameters
    ----------
    embeddings : ndarray of float32 or Rows, shape (n, d)
    k : int, optional
    way : str, optional
        One of `WAYS`.
    kept : Kept, optional
        Where the index is kept.
    progress : callable, optional
        Told how much of how much of the index is done.

    Returns
    -------
    Neighbours
        With min(k, n - 1) columns.
    """
    if len(embeddings) > _EXACT:
        points = _projected(embeddings)
    else:
        points = embeddings.whole() if isinstance(embeddings, Rows) else embeddings
    return nearest(_unit(points), k=k, way=way, kept=kept, progress=progress)


def nearest(
    points: Floats,
    queries: Floats | None = None,
    *,
    k: int,
    way: str = "exact",
    kept: Kept | None = None,
    progress: Callable[[int, int], object] = lambda done, total: None,
) -> Neighbours:
    """Find, for each query, the k nearest points but the one of its own number.

    Parameters
    ----------
    points : ndarray of float32, shape (n, d)
        Of unit length.
    queries : ndarray of float32, shape (n, d), optional
        By default the points themselves.
    k : int
    way, kept, progress : optional
        As for `neighbours`, but exact by default.
    """
    n, k = len(points), max(0, min(k, len(points) - 1))
    if not k:
        return Neighbours(np.zeros((n, 0), np.int64), np.zeros((n, 0), np.float32))
    if by_index(n, way):
        asked = points if queries is None else queries
        index, away, note = approximate_nearest(points, asked, k + 1, kept=kept, progress=progress)
        others = _others(index)
        found = index[others].reshape(n, k)
        recall = measure_recall(points, found) if queries is None else None
        return Neighbours(found, away[others].reshape(n, k), recall, note)
    # Of unit vectors half the squared distance is the cosine distance; searching by the latter
    # takes scikit-learn twice as long and ten times the memory.
    search = NearestNeighbors(algorithm="brute", metric="euclidean").fit(points)
    distance, index = search.kneighbors(points if queries is None else queries, k + 1)
    others = _others(index)
    return Neighbours(
        index[others].reshape(n, k).astype(np.int64),
        (distance[others].reshape(n, k) ** 2 / 2).astype(np.float32),
    )


def _others(index: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
    others: npt.NDArray[np.bool_] = index != np.arange(len(index))[:, np.newaxis]
    others[others.all(axis=1), -1] = False
    return others


def find_links(
    embeddings: Floats | Rows,
    near: Neighbours,
    pictures: Pictures | None,
    progress: Callable[[int, int], object] = lambda done, total: None,
) -> list[Link]:
    """Find copies.

    Where both pictures can be seen, neighbours by embedding or ring signature are aligned and
    compared; elsewhere only embeddings much nearer than usual count.

    Parameters
    ----------
    embeddings : ndarray of float32 or Rows, shape (n, d)
    near : Neighbours
        By embedding; ring signatures are searched in the same way.
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
    embeddings: Floats | Rows,
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
        way = "exact" if near.recall is None else "index"
        rings = nearest(base, pictures.rings[:, scale], k=_RING_NEIGHBOURS, way=way)
        lists.append(rings.index)
    pairs = np.concatenate(
        [
            np.stack([np.repeat(np.arange(len(index)), index.shape[1]), index.ravel()], 1)
            for index in lists
        ]
    )
    pairs = np.unique(np.concatenate([pairs, pairs[:, ::-1]]), axis=0)
    kept: npt.NDArray[np.int64] = pairs[pictures.seen[pairs].all(axis=1)]
    return kept


def _distance(embeddings: Floats | Rows, one: int, other: int) -> float:
    first, second = embeddings[one], embeddings[other]
    length = float(np.linalg.norm(first) * np.linalg.norm(second))
    return max(0.0, 1 - float(first @ second) / length) if length else 0.0


def _unit(points: Floats) -> Floats:
    length = np.linalg.norm(points, axis=1, keepdims=True)
    return np.asarray(points / np.maximum(length, 1e-12), np.float32)


def _projected(embeddings: Floats | Rows) -> Floats:
    rows = embeddings if isinstance(embeddings, Rows) else Rows(embeddings)
    if rows.shape[1] <= _PROJECTED:
        return rows.whole()
    some = rows[:: max(1, len(rows) // _EXACT)]
    _, directions = np.linalg.eigh(some.T @ some)
    found, start = np.empty((len(rows), _PROJECTED), np.float32), 0
    for block in rows.blocks():
        np.matmul(block, directions[:, -_PROJECTED:], out=found[start : start + len(block)])
        start += len(block)
    return found
