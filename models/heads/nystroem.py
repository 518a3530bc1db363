"""The kernel SVM where there are too many images for their inner products: Nyström's approximation.

A kernel machine on half a million images would need every image's kernel with every other. Here
each is described by its kernel with some of them, the landmarks, and a linear machine is fitted to
that description.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import h5py
import numpy as np
import numpy.typing as npt
from scipy.linalg import eigh
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import LinearSVC

from features.cache.rows import Rows, StoredTable
from models.heads.base import Candidates, Floats, Head, Labels, LabelSets, Settings
from models.heads.blockwise import Fit, Task, fit_together, scores_of
from models.heads.folds.blocks import Blocks, over_blocks
from models.heads.folds.columns import Moments, moments_of, scaler_of
from models.heads.folds.fold import Fold

__all__ = ["NYSTROEM"]

_LANDMARKS: Final = 1024
# Beneath this, relative to the largest, an eigenvalue is the rounding of single precision.
_FLAT: Final = 1e-6


class _Nystroem(Head):
    def by_blocks(self, X: npt.NDArray[Any] | Rows) -> bool:
        """Tell that it always is."""
        return True

    def _search_blocks(
        self, blocks: Blocks, folds: Sequence[Fold], ys: LabelSets, candidates: Candidates
    ) -> Floats:
        """A fold at a time; the rows are described once for all that use fold and kernel."""
        masks = [blocks.mask(fold.train) for fold in folds]
        found = np.empty((len(ys), len(candidates), len(blocks.rows)))
        kernels = sorted({(each["gamma"], each["n_components"]) for each in candidates})
        for fold, mask, moments in zip(
            folds, masks, moments_of(blocks.rows, masks, blocks.jobs), strict=True
        ):
            maps = [
                _landmarks(blocks, fold.train, moments, {"gamma": gamma, "n_components": count})
                for gamma, count in kernels
            ]
            for kernel, described in zip(kernels, _describe(blocks, moments, maps), strict=True):
                places = [
                    place
                    for place, each in enumerate(candidates)
                    if (each["gamma"], each["n_components"]) == kernel
                ]
                tasks = [
                    Task(0, label, candidates[place]["C"])
                    for label in range(len(ys))
                    for place in places
                ]
                fits = _fit(blocks, described, mask, ys, tasks)
                scores = scores_of(described.take(fold.test), fits, blocks.jobs)
                for number, (task, row) in enumerate(zip(tasks, scores, strict=True)):
                    found[task.y, places[number % len(places)], fold.test] = row
        return found

    def _refit_blocks(self, blocks: Blocks, settings: Settings, y: Labels) -> Any:
        every = np.ones(len(blocks.rows), bool)
        moments = moments_of(blocks.rows, [every], blocks.jobs)[0]
        landmarks = _landmarks(blocks, np.arange(len(blocks.rows)), moments, settings)
        (described,) = _describe(blocks, moments, [landmarks])
        (fit,) = _fit(blocks, described, every, [y], [Task(0, 0, settings["C"])])
        pipeline = self.make(settings, blocks.seed)
        pipeline.steps[:2] = [("scale", scaler_of(moments)), ("describe", landmarks)]
        model = pipeline["classify"]
        model.coef_, model.intercept_ = fit.weights[None, :], np.array([fit.intercept])
        model.classes_, model.n_features_in_ = np.array([0, 1]), len(fit.weights)
        model.n_iter_ = 0
        return pipeline


def _fit(
    blocks: Blocks,
    described: Rows,
    mask: npt.NDArray[np.bool_],
    ys: LabelSets,
    tasks: Sequence[Task],
) -> list[Fit]:
    return fit_together(
        described, [mask], ys, tasks, loss="squared_hinge", seed=blocks.seed, jobs=blocks.jobs
    )


def _landmarks(
    blocks: Blocks, train: npt.NDArray[np.intp], moments: Moments, settings: Settings
) -> Any:
    """Choose landmarks among the rows to fit on, and give scikit-learn's fitted map.

    Williams and Seeger, Using the Nyström method to speed up kernel machines, NIPS 2000.
    """
    m = min(settings["n_components"], len(train))
    chosen = np.sort(np.random.default_rng(blocks.seed).permutation(train)[:m])
    landmarks = (blocks.rows[chosen].astype(np.float64) - moments.mean) / moments.scale
    found = _map(settings, blocks.seed).set_params(n_components=m).fit(landmarks)
    squared = _squared_distances(found.components_, found.components_)
    eigenvalues, axes = eigh(_kernel(squared, settings["gamma"]), driver="evd")
    kept = eigenvalues > _FLAT * eigenvalues[-1]
    # As scikit-learn's, without the directions that hold nothing but noise.
    found.normalization_ = axes[:, kept] / np.sqrt(eigenvalues[kept]) @ axes[:, kept].T
    return found


def _describe(blocks: Blocks, moments: Moments, maps: Sequence[Any]) -> list[Rows]:
    """Write every row's description by each of the maps, in half precision.

    Maps of the same fold have the same landmarks, or some of them: distances are taken once.
    """
    path, n = blocks.aside / "described.h5", len(blocks.rows)
    centre, scale = moments.mean.astype(np.float32), moments.scale.astype(np.float32)
    places = {len(each.components_): each.components_.astype(np.float32) for each in maps}
    mixing = [each.normalization_.T.astype(np.float32) for each in maps]

    def described(place: slice, block: npt.NDArray[np.float32]) -> tuple[slice, list[Any]]:
        block -= centre
        block /= scale
        squared = {count: _squared_distances(block, some) for count, some in places.items()}
        return place, [
            (_kernel(squared[len(each.components_)], each.gamma) @ mix).astype(np.float16)
            for each, mix in zip(maps, mixing, strict=True)
        ]

    shapes = [(n, len(each.components_)) for each in maps]
    with h5py.File(path, "w") as file:
        tables = [
            file.create_dataset(str(number), shape, np.float16)
            for number, shape in enumerate(shapes)
        ]
        for place, found in over_blocks(blocks.rows, described, blocks.jobs):
            for table, values in zip(tables, found, strict=True):
                table[place] = values
    return [
        Rows(StoredTable(path, str(number), shape, np.dtype(np.float16)))
        for number, shape in enumerate(shapes)
    ]


def _squared_distances(rows: npt.NDArray[Any], places: npt.NDArray[Any]) -> npt.NDArray[Any]:
    found: npt.NDArray[Any] = rows @ places.T
    found *= -2
    found += np.einsum("ij,ij->i", rows, rows)[:, None]
    found += np.einsum("ij,ij->i", places, places)
    np.maximum(found, 0, out=found)
    return found


def _kernel(squared: npt.NDArray[Any], gamma: float) -> npt.NDArray[Any]:
    found: npt.NDArray[Any] = squared * -gamma
    np.exp(found, out=found)
    return found


def _map(settings: Settings, seed: int) -> Any:
    from sklearn.kernel_approximation import Nystroem

    return Nystroem(
        kernel="rbf",
        gamma=settings["gamma"],
        n_components=settings["n_components"],
        random_state=seed,
    )


def _make(settings: Settings, seed: int) -> Pipeline:
    model = LinearSVC(
        C=settings["C"], class_weight="balanced", dual=False, random_state=seed, max_iter=5000
    )
    return Pipeline(
        [("scale", StandardScaler()), ("describe", _map(settings, seed)), ("classify", model)]
    )


def _candidates(d: int) -> list[Settings]:
    return [
        {"C": C, "gamma": scale / d, "n_components": _LANDMARKS}
        for scale in (0.125, 0.5)
        for C in (0.001, 0.01, 0.1, 1.0)
    ]


NYSTROEM: Final = _Nystroem(
    "svm",
    "SVM (RBF, Nyström approximation)",
    _candidates,
    _make,
    note="The SVM is an approximation (Nyström's): there are too many training images for the "
    "exact one.",
    parts=(
        "sklearn.kernel_approximation.Nystroem",
        "sklearn.pipeline.Pipeline",
        "sklearn.preprocessing._data.StandardScaler",
        "sklearn.svm._classes.LinearSVC",
    ),
)
