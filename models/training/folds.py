"""Which images are in which fold."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold

from models.heads.folds.fold import Fold, Numbers, join

__all__ = ["make_folds"]

# From here on scikit-learn's splitter, which tries each group in each fold, takes minutes.
_MANY_GROUPS = 20_000


def make_folds(
    X: Any,
    y: npt.NDArray[Any],
    groups: npt.NDArray[Any],
    *,
    folds: int,
    seed: int,
) -> list[Fold]:
    """Split so that no group is in two folds and the classes are in proportion.

    Parameters
    ----------
    X : ndarray, shape (n, d)
    y : ndarray, shape (n,)
        Classes, two or more.
    groups : ndarray, shape (n,)
        Images of the same group stay together.
    folds : int
    seed : int
        Of the shuffling.

    Returns
    -------
    list of Fold
        Each of the two halves of them is joined: rows that none of a half judges by are enough to
        say where bins begin, and then XGBoost bins twice instead of once a fold.
    """
    names, numbers = np.unique(groups, return_inverse=True)
    # With nothing to keep together the ungrouped splitter gives the same promise in linear time.
    if len(names) == len(groups):
        parts = StratifiedKFold(folds, shuffle=True, random_state=seed).split(y, y)
    elif len(names) > _MANY_GROUPS:
        parts = _deal(y, numbers, folds, seed)
    else:
        # The splitter's own shuffling lost the proportions before scikit-learn 1.8; groups that
        # are numbered at random are shuffled as well.
        shuffled = np.random.default_rng(seed).permutation(len(names))[numbers]
        parts = StratifiedGroupKFold(folds).split(y, y, shuffled)
    made = [Fold(X, train, test) for train, test in parts]
    half = (len(made) + 1) // 2
    for part in (made[:half], made[half:]):
        join(part)
    return made


def _deal(
    y: npt.NDArray[Any], groups: npt.NDArray[np.intp], folds: int, seed: int
) -> Iterator[tuple[Numbers, Numbers]]:
    """Deal out groups like cards: those with the same images of each class one after the other.

    Every fold gets as many of each kind of group as any other, or one less; the rare kinds, which
    are the large groups, come first, so that what they leave uneven is little.
    """
    classes, codes = np.unique(y, return_inverse=True)
    counts = np.zeros((groups.max() + 1, len(classes)), np.intp)
    np.add.at(counts, (groups, codes), 1)
    _, kind, often = np.unique(counts, axis=0, return_inverse=True, return_counts=True)
    shuffled = np.random.default_rng(seed).permutation(len(counts))
    order = shuffled[np.lexsort((kind[shuffled], often[kind[shuffled]]))]
    fold = np.empty(len(counts), np.intp)
    fold[order] = np.arange(len(order)) % folds
    for number in range(folds):
        held = fold[groups] == number
        yield np.flatnonzero(~held), np.flatnonzero(held)
