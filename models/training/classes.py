"""Which classes there are, and which of them can be told from all others."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from features.cache.contents import Items
from features.datasets.vocabulary import canonical_class
from models.heads.folds.fold import Fold
from models.training.selection import Part

__all__ = ["class_codes", "strata", "told_apart"]

Codes = npt.NDArray[np.int64]


def class_codes(items: Items, labels: Sequence[str]) -> Codes:
    """Give the place of each item's label among `labels`, in any case; -1 where it isn't one."""
    places = {canonical_class(label): place for place, label in enumerate(labels)}
    return np.array([places.get(canonical_class(label), -1) for label in items.label], np.int64)


def strata(train: Part, folds: int) -> Codes | None:
    """Say what is to be in proportion in the folds, where there are more than two classes.

    Parameters
    ----------
    train : Part
    folds : int

    Returns
    -------
    ndarray of int, shape (n,), or None
        The classes, those that can't be in every fold counted to the largest; the positive class
        is by itself. None with two classes.
    """
    names = _by_frequency(train)
    if len(names) < 3:
        return None
    codes = class_codes(train.items, names)
    largest = next(place for place in range(len(names)) if not train.y[codes == place].any())
    for place in range(len(names)):
        if len(np.unique(train.groups[codes == place])) < folds:
            codes[codes == place] = largest
    return codes


def told_apart(train: Part, folds: Sequence[Fold]) -> tuple[tuple[str, ...], list[str]]:
    """Name the classes that are in every fold, and those that aren't.

    Parameters
    ----------
    train : Part
    folds : sequence of Fold
        Of the training images.

    Returns
    -------
    labels : tuple of str
        The positive class first, then the others by how frequent they are; the positive class
        alone with fewer than three.
    notes : list of str
    """
    known: list[str] = []
    rare: list[str] = []
    names = _by_frequency(train)
    codes = class_codes(train.items, names)
    for place, name in enumerate(names):
        own = codes == place
        if train.y[own].any():
            known.insert(0, name)
        elif all(own[fold.test].any() for fold in folds):
            known.append(name)
        else:
            rare.append(f"{name!r} ({own.sum()})")
    notes = []
    if rare and len(names) > 2:
        notes.append(
            f"Classes with too few training images to be in each of the {len(folds)} folds are "
            f"not told from the others, nor in the figures of the classes: {', '.join(rare)}."
        )
    # What is not of one of two classes is of the other: a second head would say nothing new.
    return tuple(known if len(known) > 2 else known[:1]), notes


def _by_frequency(train: Part) -> tuple[str, ...]:
    """Name the classes, the largest first; spelt as they come first."""
    spelling: dict[str, str] = {}
    named = [
        spelling.setdefault(canonical_class(label), label) for label in train.items.label.tolist()
    ]
    counts = Counter(named)
    return tuple(sorted(counts, key=lambda name: (-counts[name], name)))
