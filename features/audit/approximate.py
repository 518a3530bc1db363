"""Neighbours among so many images that comparing each with all takes hours: most, by an index.

The index is a graph in which a search goes from neighbour to neighbour (HNSW: Malkov and Yashunin
2018, doi:10.1109/TPAMI.2018.2889473), of the library usearch. It can miss some, so how many it
finds is measured each time.
"""

from __future__ import annotations

import glob
import hashlib
import importlib.util
import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt

from features.cache.safe_files import publish
from features.networks.weights import file_sha256

if TYPE_CHECKING:
    from usearch.index import Index

__all__ = ["Kept", "Recall", "approximate_nearest", "is_installed", "measure_recall"]

Floats = npt.NDArray[np.float32]
Numbers = npt.NDArray[np.int64]
Progress = Callable[[int, int], object]

# docs/audit.md has what these cost and what they find.
_LINKS: Final = 16
_WIDTH_OF_BUILDING: Final = 128
_WIDTH_OF_SEARCH: Final = 128
_BLOCK: Final = 16_384
_ASKED: Final = 1_000
# Raise it when an index of before would not do.
_VERSION: Final = 1


@dataclass(frozen=True)
class Recall:
    """How many of the true neighbours were found, of some points drawn at random.

    Parameters
    ----------
    asked : int
        Points that were drawn and compared with all others.
    nearest : int
        Of how many of them the nearest other point was found.
    share : float
        Of all their neighbours.
    """

    asked: int
    nearest: int
    share: float


@dataclass(frozen=True)
class Kept:
    """Where an index is kept: beside a feature file, named by what is in it.

    Parameters
    ----------
    beside : Path
        The feature file, or the folder of its parts.
    digest : str
        Of the rows that are indexed, in hex.
    """

    beside: Path
    digest: str

    @classmethod
    def of(cls, beside: Path, fingerprint: str, sha256: npt.NDArray[np.str_]) -> Kept:
        """Name the index of images by their hashes, shape (n,), and by what had embedded them."""
        about = f"{_VERSION} {_LINKS} {_WIDTH_OF_BUILDING} {fingerprint}\n"
        return cls(
            beside, hashlib.sha256((about + "\n".join(sha256.tolist())).encode()).hexdigest()
        )

    @property
    def path(self) -> Path:
        """The index; the same name with ``.json`` behind it has its hash and marks it as done."""
        return self.beside.with_name(f"{self._stem}{self.digest[:16]}.usearch")

    @property
    def mark(self) -> Path:
        """The small file that is written last."""
        return self.path.with_name(f"{self.path.name}.json")

    def read(self, points: Floats) -> Index | None:
        """Read the index; None if there is none, or it is not of these points."""
        try:
            said = json.loads(self.mark.read_bytes())
            whole = said == self._said(_version_of_usearch(), file_sha256(self.path))
        except (OSError, ValueError, LookupError, TypeError):
            return None
        if not whole:
            return None
        index = _empty(points.shape[1])
        # What would bring the library down was found out by the hash.
        index.load(self.path)
        some = np.linspace(0, len(points) - 1, num=min(len(points), 100)).astype(np.int64)
        if len(index) != len(points):
            return None
        held = np.asarray(index.get(some.astype(np.uint64)), np.float32)
        return index if np.allclose(held, points[some], atol=2e-3) else None

    def write(self, index: Index) -> None:
        """Keep an index, and remove those of this feature file as it was before.

        Raises
        ------
        OSError
            If there is no room, say; then nothing is left of it.
        """
        aside = self.path.with_name(f"{self.path.name}.part")
        try:
            index.save(aside)
            publish(aside, self.path)
            said = self._said(_version_of_usearch(), file_sha256(self.path))
            aside.write_text(json.dumps(said))
            publish(aside, self.mark)
        except RuntimeError as error:
            # The library's own.
            raise OSError(0, str(error)) from error
        finally:
            aside.unlink(missing_ok=True)
        for other in self.beside.parent.glob(f"{glob.escape(self._stem)}*.usearch*"):
            if other not in (self.path, self.mark):
                other.unlink(missing_ok=True)

    @property
    def _stem(self) -> str:
        return f"{self.beside.stem}.neighbours-"

    def _said(self, version: str, sha256: str) -> dict[str, str]:
        return {"digest": self.digest, "sha256": sha256, "version": version}


def is_installed() -> bool:
    """Whether the extra ``neighbours`` is there."""
    return importlib.util.find_spec("usearch") is not None


def approximate_nearest(
    points: Floats,
    queries: Floats,
    k: int,
    *,
    kept: Kept | None = None,
    progress: Progress = lambda done, total: None,
) -> tuple[Numbers, Floats, str | None]:
    """Find most of the nearest points of each query.

    Parameters
    ----------
    points : ndarray of float32, shape (n, d)
        Of unit length.
    queries : ndarray of float32, shape (m, d)
    k : int
        At most n.
    kept : Kept, optional
        Where the index of these points is, or is to be.
    progress : callable, optional
        Told how much of how much is done.

    Returns
    -------
    ndarray of int, shape (m, k)
        Nearest first.
    ndarray of float32, shape (m, k)
        Their cosine distances, computed from the points themselves.
    str or None
        Why the index could not be kept.
    """
    total = len(points) + len(queries)
    index, note = (None if kept is None else kept.read(points)), None
    if index is None:
        index = _empty(points.shape[1])
        for start in range(0, len(points), _BLOCK):
            block = points[start : start + _BLOCK]
            numbers = np.arange(start, start + len(block), dtype=np.uint64)
            index.add(numbers, block, threads=_cores())
            progress(start + len(block), total)
        if kept is not None:
            try:
                kept.write(index)
            except OSError as error:
                note = f"the index {kept.path} can't be kept ({error.strerror})"
    found = np.empty((len(queries), k), np.int64)
    distance = np.empty((len(queries), k), np.float32)
    for start in range(0, len(queries), _BLOCK):
        block = queries[start : start + _BLOCK]
        matches: Any = index.search(block, k, threads=_cores())
        near = np.zeros((len(block), k), np.int64)
        keys = np.asarray(matches.keys).reshape(len(block), -1)
        near[:, : keys.shape[1]] = keys
        # Where the graph has a part that no way leads out of.
        short = np.flatnonzero(np.asarray(matches.counts).ravel() < k)
        near[short] = _exactly(points, block[short], k)
        away = np.empty((len(block), k), np.float32)
        for at in range(0, len(block), 1024):
            there = points[near[at : at + 1024]]
            away[at : at + 1024] = 1 - np.einsum("qkd,qd->qk", there, block[at : at + 1024])
        order = np.argsort(away, axis=1, kind="stable")
        found[start : start + len(block)] = np.take_along_axis(near, order, 1)
        distance[start : start + len(block)] = np.take_along_axis(away, order, 1)
        progress(len(points) + start + len(block), total)
    return found, np.maximum(distance, 0), note


def measure_recall(points: Floats, index: Numbers, *, seed: int = 0) -> Recall:
    """Compare the neighbours that were found with the true ones, for points drawn at random.

    Parameters
    ----------
    points : ndarray of float32, shape (n, d)
    index : ndarray of int, shape (n, k)
        The nearest other points of each, as they were found.
    seed : int, optional

    Returns
    -------
    Recall
    """
    n, k = index.shape
    drawn = np.random.default_rng(seed).choice(n, min(n, _ASKED), replace=False)
    true = _exactly(points, points[drawn], k + 1)
    found = index[drawn]
    hits, nearest = 0, 0
    for own, all_true, some in zip(drawn.tolist(), true.tolist(), found.tolist(), strict=True):
        others = [place for place in all_true if place != own][:k]
        hits += len({*others} & {*some})
        nearest += others[0] in some
    return Recall(len(drawn), nearest, hits / (len(drawn) * k))


def _exactly(points: Floats, queries: Floats, k: int) -> Numbers:
    if not len(queries):
        return np.zeros((0, k), np.int64)
    best = np.full((len(queries), k), -np.inf, np.float32)
    place = np.zeros((len(queries), k), np.int64)
    for start in range(0, len(points), _BLOCK):
        block = points[start : start + _BLOCK]
        likeness = np.concatenate([best, queries @ block.T], axis=1)
        numbers = np.broadcast_to(np.arange(start, start + len(block)), (len(queries), len(block)))
        numbers = np.concatenate([place, numbers], axis=1)
        order = np.argpartition(-likeness, k - 1, axis=1)[:, :k]
        best = np.take_along_axis(likeness, order, 1)
        place = np.take_along_axis(numbers, order, 1)
    order = np.argsort(-best, axis=1, kind="stable")
    return np.take_along_axis(place, order, 1)


def _empty(d: int) -> Index:
    # Imported late: an extra.
    from usearch.index import Index

    return Index(
        ndim=d,
        metric="ip",
        dtype="f16",
        connectivity=_LINKS,
        expansion_add=_WIDTH_OF_BUILDING,
        expansion_search=_WIDTH_OF_SEARCH,
    )


def _version_of_usearch() -> str:
    import usearch

    return str(usearch.__version__)


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
