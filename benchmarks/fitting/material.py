"""What is read off a network, by view, layer and statistic, and trials of it side by side."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.fitting.trials import Judged, Study, corrected_difference, gram, judge, signed
from features.cache.contents import Features
from features.cache.items import Items
from features.networks.registry import NETWORKS
from models.evaluation.paired import holm

__all__ = [
    "DEFAULT",
    "FRAMES",
    "Columns",
    "Key",
    "Material",
    "Trial",
    "averaged",
    "by_layer",
    "keys",
    "side_by_side",
    "table_column",
]

DEFAULT = NETWORKS["inception_v3"].recipes["accurate"].layers
FRAMES = ("identity", "lesion:identity")

Key = tuple[str, str, str]
Columns = npt.NDArray[np.float32]


class Material:
    """The training images of one weights file: all layers, means and deviations, by view.

    Parameters
    ----------
    study : Study
    columns : dict
        By view, layer and ``"mean"`` or ``"std"``.
    groups : ndarray of int, shape (n,)
    """

    def __init__(self, study: Study, columns: dict[Key, Columns], groups: npt.NDArray[Any]) -> None:
        self.study, self.columns, self.groups = study, columns, groups
        self._grams: dict[Key, Columns] = {}

    def gram(self, key: Key) -> Columns:
        if key not in self._grams:
            self._grams[key] = gram(self.columns[key])
        return self._grams[key]

    def matrix(self, keys: Sequence[Key], *, even: bool = False) -> Columns:
        """Put columns side by side, each with the same weight, or each block of them."""
        shares = [1 if even else self.columns[key].shape[1] for key in keys]
        total = sum(share * self.gram(key) for share, key in zip(shares, keys, strict=True))
        return np.asarray(total / sum(shares), np.float32)


def keys(
    layers: Sequence[str] = DEFAULT,
    views: Sequence[str] = FRAMES,
    statistics: Sequence[str] = ("mean", "std"),
) -> list[Key]:
    return [(view, layer, each) for view in views for layer in layers for each in statistics]


@dataclass(frozen=True)
class Trial:
    """A way to use passes of the network at 299 pixels, or as long as those take."""

    name: str
    passes: float
    run: Callable[[Material], Judged]

    @classmethod
    def of(cls, name: str, passes: float, chosen: Sequence[Key], *, even: bool = False) -> Trial:
        return cls(name, passes, lambda given: judge(given.study, given.matrix(chosen, even=even)))


def averaged(given: Material, *sets: Sequence[Key]) -> Judged:
    """Average what a head on each of the sets says."""
    scores = [judge(given.study, given.matrix(each)).scores for each in sets]
    scaled = [each / each.std(axis=1, keepdims=True) for each in scores]
    return Judged.of(given.study, np.mean(scaled, axis=0))


def by_layer(features: Features, items: Items, views: Sequence[str]) -> dict[Key, Columns]:
    """Cut embeddings into those of each view, layer and statistic.

    Parameters
    ----------
    features : Features
    items : Items
    views : sequence of str
        What to call the frames, in their order.
    """
    names = list(itertools.product(views, features.spec.layers, ("mean", "std")))
    channels = [NETWORKS[features.spec.network].layers[layer] for _, layer, _ in names]
    cut = np.split(features.rows(items)[:], np.cumsum(channels)[:-1], axis=1)
    return dict(zip(names, cut, strict=True))


def side_by_side(found: Mapping[str, Sequence[tuple[Trial, Judged]]]) -> str:
    """Write a table of the same trials on each weights file, beside the first of them."""
    lines = [
        "| trial | passes |" + "".join(f" {name} |" for name in found),
        "| --- | ---: |" + " --- |" * len(found),
    ]
    columns = [table_column(judged) for judged in found.values()]
    tried = [trial for trial, _ in next(iter(found.values()))]
    for trial, *cells in zip(tried, *columns, strict=True):
        lines.append(f"| {trial.name} | {trial.passes:.3g} | {' | '.join(cells)} |")
    return "\n".join(lines)


def table_column(judged: Sequence[tuple[Trial, Judged]]) -> list[str]:
    default = judged[0][1]
    changes = [corrected_difference(each, default) for _, each in judged[1:]]
    raised = holm([p for _, p in changes])
    return [f"{default.areas.mean():.3f}"] + [
        signed(change) + (" *" if p < 0.05 else "")
        for (change, _), p in zip(changes, raised, strict=True)
    ]
