"""Tuning and fitting heads on embeddings that are never all in memory at once."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol

import numpy as np
import numpy.typing as npt
from threadpoolctl import threadpool_limits

from features.cache.rows import Rows
from features.errors import LesionError
from models.heads.base import BINS, HEADS, Head, Settings, fit_trees
from models.heads.blockwise import Fit, Task, fit_together, moments_of
from models.heads.boosting import boost, runs_of
from models.heads.fold import Fold
from models.heads.nystroem import NYSTROEM, describe, landmark_map, machine, scaler_of
from models.heads.streaming_trees import BinnedParts, PartsOnDisk
from models.machine import available

__all__ = ["CannotStream", "refit_in_blocks", "search_in_blocks", "streams"]

Floats = npt.NDArray[np.float64]
Labels = npt.NDArray[Any]


class CannotStream(LesionError):
    """A head that needs all embeddings at once, where they are too many for that."""


@dataclass(frozen=True)
class _Data:
    """What all fits share: the rows, the seed, the threads, and a folder for the time being."""

    rows: Rows
    seed: int
    jobs: int
    aside: Path

    @property
    def memory(self) -> int:
        """Bytes that one head's preparations may take."""
        return self.rows.memory // 2 if self.rows.memory else available() // 2

    def mask(self, train: npt.NDArray[np.intp]) -> npt.NDArray[np.bool_]:
        found = np.zeros(len(self.rows), bool)
        found[train] = True
        return found


class _Way(Protocol):
    """How a kind of head is tuned and fitted."""

    def search(
        self,
        data: _Data,
        head: Head,
        folds: Sequence[Fold],
        ys: Sequence[Labels],
        candidates: Sequence[Settings],
    ) -> Floats: ...

    def refit(self, data: _Data, head: Head, settings: Settings, y: Labels) -> Any: ...


def streams(head: Head, X: npt.NDArray[Any] | Rows) -> bool:
    """Tell whether a head is fitted by blocks: the embeddings come so, or it has no other way."""
    return isinstance(X, Rows) or head.make is NYSTROEM.make


def search_in_blocks(
    head: Head,
    folds: Sequence[Fold],
    ys: Sequence[Labels],
    candidates: Sequence[Settings],
    *,
    seed: int,
    jobs: int,
) -> Floats:
    """Try all candidates on all folds.

    Parameters
    ----------
    head : Head
        One of `models.heads.base.HEADS`, or `models.heads.nystroem.NYSTROEM`.
    folds : sequence of Fold
        All of the same `Rows`, or the same array.
    ys : sequence of ndarray of int, shape (n,)
        Sets of labels: 1 for a positive class, 0 for the rest.
    candidates : sequence of dict
    seed : int
    jobs : int
        Threads.

    Returns
    -------
    ndarray, shape (len(ys), len(candidates), n)
        Scores of every row by what was fitted on the folds without it.

    Raises
    ------
    CannotStream
        If it is another head.
    """
    way = _way_of(head)
    with threadpool_limits(limits=jobs), tempfile.TemporaryDirectory(prefix="lesion-") as aside:
        data = _Data(_as_rows(folds[0].X), seed, jobs, Path(aside))
        return way.search(data, head, folds, ys, candidates)


def refit_in_blocks(
    head: Head, settings: Settings, X: npt.NDArray[Any] | Rows, y: Labels, *, seed: int, jobs: int
) -> Any:
    """Fit a head with known settings on all rows.

    Parameters
    ----------
    head, settings, y, seed, jobs
        As for `models.heads.refitting.refit`.
    X : Rows or ndarray, shape (n, d)

    Returns
    -------
    estimator
        As `models.heads.base.fit` gives it.

    Raises
    ------
    CannotStream
        As for `search_in_blocks`.
    """
    way = _way_of(head)
    with threadpool_limits(limits=jobs), tempfile.TemporaryDirectory(prefix="lesion-") as aside:
        return way.refit(_Data(_as_rows(X), seed, jobs, Path(aside)), head, settings, y)


def _as_rows(X: npt.NDArray[Any] | Rows) -> Rows:
    return X if isinstance(X, Rows) else Rows(X)


def _way_of(head: Head) -> _Way:
    for known, way in _WAYS:
        if head.make is known.make:
            return way
    raise CannotStream(
        f"{head.title} needs all embeddings in memory at once, and there is too little of it: "
        "leave that head out with --heads, or allow more with --memory"
    )


class _LogisticRegression:
    def search(
        self,
        data: _Data,
        head: Head,
        folds: Sequence[Fold],
        ys: Sequence[Labels],
        candidates: Sequence[Settings],
    ) -> Floats:
        """All folds, candidates and sets of labels in the same passes."""
        masks = [data.mask(fold.train) for fold in folds]
        moments = moments_of(data.rows, masks)
        tasks = [
            Task(split, label, settings["C"])
            for split in range(len(folds))
            for label in range(len(ys))
            for settings in candidates
        ]
        fits = fit_together(data.rows, masks, ys, tasks, moments=moments, seed=data.seed)
        found = np.empty((len(ys), len(candidates), len(data.rows)))
        share = len(ys) * len(candidates)
        for split, (fold, known) in enumerate(zip(folds, moments, strict=True)):
            own = fits[split * share : (split + 1) * share]
            plain = []
            for fit in own:
                weights = fit.weights / known.scale
                plain.append(Fit(weights, fit.intercept - float(weights @ known.mean)))
            scores = _scores(data.rows.take(fold.test), plain)
            found[:, :, fold.test] = scores.reshape(len(ys), len(candidates), -1)
        return found

    def refit(self, data: _Data, head: Head, settings: Settings, y: Labels) -> Any:
        every = np.ones(len(data.rows), bool)
        moments = moments_of(data.rows, [every])
        task = Task(0, 0, settings["C"])
        fit = fit_together(data.rows, [every], [y], [task], moments=moments, seed=data.seed)[0]
        pipeline = head.make(settings, data.seed)
        pipeline.steps[0] = ("scale", scaler_of(moments[0]))
        model = pipeline["classify"]
        model.coef_, model.intercept_ = fit.weights[None, :], np.array([fit.intercept])
        model.classes_, model.n_features_in_ = np.array([0, 1]), len(fit.weights)
        model.n_iter_ = np.array([0], np.int32)
        return pipeline


class _Svm:
    def search(
        self,
        data: _Data,
        head: Head,
        folds: Sequence[Fold],
        ys: Sequence[Labels],
        candidates: Sequence[Settings],
    ) -> Floats:
        """A fold and a kernel at a time; the rows are described once for all that use both."""
        masks = [data.mask(fold.train) for fold in folds]
        found = np.empty((len(ys), len(candidates), len(data.rows)))
        kernels = sorted({(each["gamma"], each["n_components"]) for each in candidates})
        for fold, mask, moments in zip(folds, masks, moments_of(data.rows, masks), strict=True):
            for gamma, count in kernels:
                places = [
                    place
                    for place, each in enumerate(candidates)
                    if (each["gamma"], each["n_components"]) == (gamma, count)
                ]
                landmarks = landmark_map(
                    data.rows, fold.train, moments, candidates[places[0]], seed=data.seed
                )
                described = describe(data.rows, moments, landmarks, data.aside / "described.h5")
                tasks = [
                    Task(0, label, candidates[place]["C"])
                    for label in range(len(ys))
                    for place in places
                ]
                fits = fit_together(
                    described, [mask], ys, tasks, loss="squared_hinge", seed=data.seed
                )
                scores = _scores(described.take(fold.test), fits)
                for number, (task, row) in enumerate(zip(tasks, scores, strict=True)):
                    found[task.y, places[number % len(places)], fold.test] = row
        return found

    def refit(self, data: _Data, head: Head, settings: Settings, y: Labels) -> Any:
        every = np.ones(len(data.rows), bool)
        moments = moments_of(data.rows, [every])[0]
        landmarks = landmark_map(
            data.rows, np.arange(len(data.rows)), moments, settings, seed=data.seed
        )
        described = describe(data.rows, moments, landmarks, data.aside / "described.h5")
        task = Task(0, 0, settings["C"])
        fit = fit_together(described, [every], [y], [task], loss="squared_hinge", seed=data.seed)[0]
        return machine(settings, data.seed, moments, landmarks, fit)


class _XGBoost:
    def search(
        self,
        data: _Data,
        head: Head,
        folds: Sequence[Fold],
        ys: Sequence[Labels],
        candidates: Sequence[Settings],
    ) -> Floats:
        """Bin a fold once, and read fewer trees off the longest run with the same settings."""
        found = np.empty((len(ys), len(candidates), len(data.rows)))
        shares = {settings["colsample_bytree"] for settings in candidates}
        for share in sorted(shares):
            parts = PartsOnDisk(data.rows, share, data.aside / "parts.h5", seed=data.seed)
            runs = [
                run
                for run in runs_of(candidates)
                if candidates[run[0]]["colsample_bytree"] == share
            ]
            for fold in folds:
                binned = self._binned(data, parts, fold.train)
                test = data.rows.take(fold.test)
                for run in runs:
                    longest = candidates[run[0]]
                    parameters = head.make(longest, data.seed).get_xgb_params()
                    for label, y in enumerate(ys):
                        booster = boost(
                            binned, y[fold.train], parameters, longest[_TREES], jobs=data.jobs
                        )
                        start = 0
                        for block in test.blocks():
                            rows = fold.test[start : start + len(block)]
                            for place in run:
                                found[label, place, rows] = booster.inplace_predict(
                                    block,
                                    iteration_range=(0, candidates[place][_TREES]),
                                    predict_type="margin",
                                )
                            start += len(block)
                del binned
        return found

    def refit(self, data: _Data, head: Head, settings: Settings, y: Labels) -> Any:
        share = settings["colsample_bytree"]
        parts = PartsOnDisk(data.rows, share, data.aside / "parts.h5", seed=data.seed)
        binned = self._binned(data, parts, np.arange(len(data.rows)))
        return fit_trees(head, settings, binned, y, seed=data.seed, jobs=data.jobs)

    def _binned(self, data: _Data, parts: PartsOnDisk, train: npt.NDArray[np.intp]) -> BinnedParts:
        return BinnedParts(
            parts,
            train,
            bins=BINS,
            memory=data.memory,
            folder=data.aside,
            seed=data.seed,
            jobs=data.jobs,
        )


_TREES: Final = "n_estimators"
_WAYS: Final[tuple[tuple[Head, _Way], ...]] = (
    (HEADS["logistic_regression"], _LogisticRegression()),
    (NYSTROEM, _Svm()),
    (HEADS["xgboost"], _XGBoost()),
)


def _scores(rows: Rows, fits: Sequence[Fit]) -> Floats:
    """Give the scores of all rows by all fits, shape (fits, n)."""
    weights = np.stack([fit.weights for fit in fits], axis=1).astype(np.float32)
    intercepts = np.array([fit.intercept for fit in fits])
    found: Floats = np.concatenate([block @ weights + intercepts for block in rows.blocks()]).T
    return found
