"""A map of the images: those with like embeddings lie near each other."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from sklearn.manifold import TSNE
from sklearn.utils.extmath import randomized_svd
from threadpoolctl import threadpool_limits

from features.cache.contents import Features, Items
from models.heads.folds.fold import whole
from models.results_cache import Kept, content_hash
from models.training.selection import is_positive

__all__ = ["EmbeddingMap", "embedding_map"]

Floats = npt.NDArray[np.float64]

# So many take about 1.5 CPU seconds; t-SNE of all would take as long as fitting the heads.
_LARGEST: Final = 1_000
# Fewer have no neighbourhoods to be kept.
_SMALLEST: Final = 60
_COMPONENTS: Final = 50
_PERPLEXITY: Final = 20
# Raise it when the same embeddings would be laid out in another way.
_WAY: Final = 2


@dataclass(frozen=True)
class EmbeddingMap:
    """Where images lie.

    Parameters
    ----------
    points : list of (float, float)
        Each within 0 and 1.
    positive : list of bool
    parts : list of str
        ``"train"``, ``"valid"``, ``"test"``.
    leaking : list of bool
        Whether the image belongs together with one of another split.
    method : str
    total : int
        Images there were; as many as points unless a sample was drawn.
    """

    points: list[tuple[float, float]]
    positive: list[bool]
    parts: list[str]
    leaking: list[bool]
    method: str
    total: int


def embedding_map(
    features: Features,
    images: Mapping[str, Items],
    positive: str,
    leaking: Mapping[str, npt.NDArray[np.bool_]],
    *,
    seed: int = 0,
    kept: Kept | None = None,
) -> EmbeddingMap | None:
    """Lay images out on a plane.

    Parameters
    ----------
    features : Features
    images : mapping of str to Items
        By part.
    positive : str
        Name of the positive class.
    leaking : mapping of str to ndarray of bool
        By part; those that are missing have no leak.
    seed : int
        The same seed gives the same map.
    kept : Kept, optional
        Has maps of the same images from before, and gets this one.

    Returns
    -------
    EmbeddingMap or None
        None if there are fewer than three images.

    Notes
    -----
    Embeddings are standardised and reduced to 50 principal components, and these to two by t-SNE
    (van der Maaten and Hinton, JMLR 2008; Barnes-Hut). Of many images a random sample is drawn;
    of few, the first two principal components are shown. Neither labels nor splits have a part
    in it. Distances between clusters and their sizes mean nothing in t-SNE.
    """
    parts = np.concatenate([np.full(len(items), part) for part, items in images.items()])
    if len(parts) < 3:
        return None
    truth = np.concatenate([is_positive(items, positive) for items in images.values()])
    leaks = np.concatenate(
        [leaking.get(part, np.zeros(len(items), bool)) for part, items in images.items()]
    )
    chosen = _sample(leaks, seed)
    wanted = np.zeros(len(parts), bool)
    wanted[chosen] = True
    ends = np.cumsum([len(items) for items in images.values()])
    embedded = [
        features.embedded(items.take(part))
        for items, part in zip(images.values(), np.split(wanted, ends[:-1]), strict=True)
    ]
    X = np.concatenate(embedded)
    if kept is None:
        found = _lay_out(X, seed)
    else:
        what = {"map": _WAY, "data": content_hash(X), "seed": seed}
        found = kept.made(what, lambda: _lay_out(X, seed))
    points, method = found["points"], str(found["method"])
    return EmbeddingMap(
        [(float(x), float(y)) for x, y in points],
        truth[chosen].tolist(),
        parts[chosen].tolist(),
        leaks[chosen].tolist(),
        method,
        len(parts),
    )


def _sample(leaks: npt.NDArray[np.bool_], seed: int) -> npt.NDArray[np.intp]:
    """Choose images in their order: leaks first, because they are few and looked for."""
    order = np.random.default_rng(seed).permutation(len(leaks))
    return np.sort(order[np.argsort(~leaks[order], kind="stable")][:_LARGEST])


def _lay_out(X: npt.NDArray[np.float32], seed: int) -> Mapping[str, npt.NDArray[Any]]:
    # More threads than one cost more than they save here, and make the map depend on the machine.
    with threadpool_limits(1):
        # The components of the rows are those of their inner products, which are far fewer numbers.
        products = whole(X).inner_products().gram.astype(np.float64)
        kept = min(_COMPONENTS, *X.shape, len(X) - 1)
        left, squares, _ = randomized_svd(products, max(kept, 2), n_iter=2, random_state=seed)
        sizes = np.sqrt(squares)
        components = left * sizes
        if len(X) < _SMALLEST or not sizes[0] > 0:
            method = "first two principal components"
            return {"points": _scaled(components[:, :2]), "method": np.array(method)}
        start = components[:, :2] / components[:, 0].std() * 1e-4
        found = TSNE(
            init=start, perplexity=_PERPLEXITY, max_iter=500, angle=0.8, n_jobs=1, random_state=seed
        ).fit_transform(components)
    method = f"t-SNE of {kept} principal components, perplexity {_PERPLEXITY}"
    return {"points": _scaled(found), "method": np.array(method)}


def _scaled(points: npt.NDArray[np.floating]) -> Floats:
    low, high = points.min(axis=0), points.max(axis=0)
    inside: Floats = 0.02 + 0.96 * (points - low) / np.where(high > low, high - low, 1)
    return inside
