"""The support vector machine with an RBF kernel.

All candidates share the inner products of a fold. What is served is a `KernelMachine`: plain
numbers, few enough also with long embeddings. Where there are too many images for the inner
products, `models.heads.nystroem` takes its place.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from sklearn import config_context
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

from features.cache.rows import Rows
from models.heads.base import (
    Candidates,
    Floats,
    Format,
    Head,
    HeadFileError,
    Labels,
    LabelSets,
    Settings,
    Solution,
    require_readable,
)
from models.heads.folds.fold import Fold
from models.heads.nystroem import NYSTROEM
from models.machine import PAIRS_UNTIL

__all__ = ["SVM", "SVM_LIMIT", "KernelMachine"]

# Between so many images all inner products are held at once: 0.7 GB per fold.
SVM_LIMIT: Final = PAIRS_UNTIL
_ARRAYS: Final = ("centre", "width", "support", "weights")
_ROWS: Final = 256
# Of the support vectors at once.
_NUMBERS: Final = 2**21
# Further from the mean than any embedding lies, and within what float16 can hold.
_FURTHEST: Final = 6e4


@dataclass(frozen=True, eq=False)
class KernelMachine:
    """Decides by similarity to the support vectors.

    Parameters
    ----------
    centre, width : ndarray of float32, shape (d,)
        By which embeddings are standardised.
    support : ndarray of float16, shape (m, d)
        The standardised support vectors. Over thousands of columns what float16 rounds off
        cancels out.
    weights : ndarray of float64, shape (m,)
        Signed dual coefficients.
    intercept : float
    gamma : float
        Of the kernel ``exp(-gamma * squared distance)``.

    Raises
    ------
    ValueError
        If the parts don't fit each other, or hold anything but finite numbers.
    """

    centre: npt.NDArray[np.float32]
    width: npt.NDArray[np.float32]
    support: npt.NDArray[np.float16]
    weights: npt.NDArray[np.float64]
    intercept: float
    gamma: float

    def __post_init__(self) -> None:
        m, d = self.support.shape
        arrays = (self.centre, self.width, self.support, self.weights)
        kinds = [array.dtype.name for array in arrays]
        if (
            kinds != ["float32", "float32", "float16", "float64"]
            or (self.centre.shape, self.width.shape, self.weights.shape) != ((d,), (d,), (m,))
            or not all(np.isfinite(array).all() for array in arrays)
            or not (self.width > 0).all()
            or not (math.isfinite(self.intercept) and 0 < self.gamma < math.inf)
        ):
            raise ValueError("its support vectors, weights and scales make no sense")

    @classmethod
    def of(
        cls,
        data: Fold,
        support: npt.NDArray[np.integer],
        weights: npt.NDArray[np.float64],
        intercept: float,
        gamma: float,
    ) -> KernelMachine:
        """Make one of what a machine that was fitted on a kernel matrix is.

        Parameters
        ----------
        data : Fold
            What the kernel matrix was made of.
        support : ndarray of int, shape (m,)
            Which of its rows to fit on are support vectors.
        weights : ndarray, shape (m,)
            Their signed dual coefficients.
        intercept, gamma : float
        """
        vectors = np.empty((len(support), data.X.shape[1]), np.float16)
        for columns, values in data.stretches(data.train[support]):
            vectors[:, columns] = np.clip(values, -_FURTHEST, _FURTHEST)
        mean, deviation = data.moments()
        return cls(
            mean.astype(np.float32),
            deviation.astype(np.float32),
            vectors,
            np.asarray(weights, np.float64),
            float(intercept),
            float(gamma),
        )

    @property
    def classes_(self) -> npt.NDArray[np.int64]:
        """The two classes, 0 and 1."""
        return np.array([0, 1])

    @property
    def n_features_in_(self) -> int:
        """Length of an embedding."""
        return int(self.support.shape[1])

    def decision_function(self, X: npt.ArrayLike) -> npt.NDArray[np.float64]:
        """Give the signed sum of similarities.

        Parameters
        ----------
        X : array-like, shape (n, d)
            Embeddings.

        Returns
        -------
        ndarray of float, shape (n,)
            Higher means more likely positive; not calibrated.
        """
        embeddings = np.asarray(X)
        scores = np.empty(len(embeddings))
        for start in range(0, len(embeddings), _ROWS):
            block = slice(start, start + _ROWS)
            rows = ((embeddings[block] - self.centre) / self.width).astype(np.float32)
            products, lengths = zip(
                *((rows @ some.T, _squares(some)) for some in self._vectors()), strict=True
            )
            squared = _squares(rows)[:, None] + np.concatenate(lengths)
            squared -= 2.0 * np.concatenate(products, axis=1)
            kernel = np.exp(-self.gamma * np.maximum(squared, 0))
            scores[block] = kernel @ self.weights + self.intercept
        return scores

    def _vectors(self) -> Iterator[npt.NDArray[np.float32]]:
        """Give some support vectors at a time in single precision, each time in the same memory."""
        m, d = self.support.shape
        step = max(1, _NUMBERS // max(d, 1))
        held = np.empty((min(step, m), d), np.float32)
        for start in range(0, m, step):
            some = self.support[start : start + step]
            held[: len(some)] = some
            yield held[: len(some)]


def _squares(rows: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
    """Give the squared length of each row: by the library's products, a third of einsum's error."""
    return (rows[:, None, :] @ rows[:, :, None])[:, 0, 0].astype(np.float64)


class _Svm(Head):
    def suited_to(self, X: npt.NDArray[Any] | Rows) -> Head:
        """Approximate it where all images' inner products don't fit."""
        return NYSTROEM if isinstance(X, Rows) or len(X) > SVM_LIMIT else self

    def search(
        self, fold: Fold, ys: LabelSets, candidates: Candidates, *, seed: int, jobs: int
    ) -> Floats:
        within, across = fold.inner_products().squared_distances()
        scores = np.empty((len(ys), len(candidates), len(fold.test)))
        # libsvm computes in double precision; fresh memory for every gamma would take most of the
        # time.
        kernel, kernel_test = np.empty(within.shape), np.empty(across.shape)
        for gamma in sorted({settings["gamma"] for settings in candidates}):
            for distances, values in ((within, kernel), (across, kernel_test)):
                np.exp(np.multiply(distances, -gamma, out=values), out=values)
            for place, settings in enumerate(candidates):
                if settings["gamma"] != gamma:
                    continue
                for y, found in zip(ys, scores, strict=True):
                    weights = np.zeros(len(kernel))
                    model = self._trained(settings, kernel, y[fold.train], seed)
                    weights[model.support_] = model.dual_coef_[0]
                    found[place] = kernel_test @ weights + model.intercept_
        return scores

    def _trained(self, settings: Settings, kernel: Floats, y: Labels, seed: int) -> SVC:
        """Fit to a kernel matrix, where setting rows aside for a while gains libsvm nothing."""
        model = self.make(settings, seed)["classify"]
        with config_context(assume_finite=True):
            return model.set_params(kernel="precomputed", shrinking=False).fit(kernel, y)

    def _prepare(self, data: Fold, candidates: Candidates, *, seed: int, jobs: int) -> None:
        data.inner_products()

    def _solve(
        self, settings: Settings, data: Fold, y: Labels, *, seed: int, jobs: int
    ) -> Solution | None:
        """Fit with scikit-learn on inner products that all heads share."""
        kernel = data.inner_products().squared_distances()[0].astype(np.float64)
        kernel *= -settings["gamma"]
        model = self._trained(settings, np.exp(kernel, out=kernel), y, seed)
        return {
            "support": np.asarray(model.support_, np.int64),
            "weights": np.asarray(model.dual_coef_[0], np.float64),
            "intercept": np.asarray(model.intercept_, np.float64),
        }

    def build(self, solution: Solution, settings: Settings, data: Fold, *, seed: int) -> Any:
        """Take the support vectors out of the embeddings."""
        return KernelMachine.of(
            data,
            solution["support"],
            solution["weights"],
            float(solution["intercept"][0]),
            settings["gamma"],
        )


def _make(settings: Settings, seed: int) -> Pipeline:
    model = SVC(
        C=settings["C"],
        gamma=settings["gamma"],
        class_weight="balanced",
        cache_size=500,
        random_state=seed,
    )
    return Pipeline([("scale", StandardScaler()), ("classify", model)])


def _candidates(d: int) -> list[Settings]:
    scales, strengths = (0.0625, 0.125, 0.25, 0.5), (0.3, 1.0, 3.0, 10.0)
    return [{"C": C, "gamma": scale / d} for scale in scales for C in strengths]


def _dump(machine: KernelMachine) -> bytes:
    from safetensors.numpy import save

    numbers = np.array([machine.intercept, machine.gamma])
    arrays = {name: np.ascontiguousarray(getattr(machine, name)) for name in _ARRAYS}
    return bytes(save({**arrays, "numbers": numbers}))


def _load(data: bytes) -> KernelMachine:
    from safetensors import SafetensorError
    from safetensors.numpy import load

    with require_readable(SafetensorError):
        arrays = load(data)
        if set(arrays) != {*_ARRAYS, "numbers"} or arrays["support"].ndim != 2:
            raise HeadFileError("it holds other arrays than a kernel machine's")
        intercept, gamma = map(float, arrays["numbers"])
        parts = {name: arrays[name] for name in _ARRAYS}
        return KernelMachine(**parts, intercept=intercept, gamma=gamma)


SVM: Final = _Svm(
    "svm",
    "SVM (RBF)",
    _candidates,
    _make,
    parts=(
        "sklearn.pipeline.Pipeline",
        "sklearn.preprocessing._data.StandardScaler",
        "sklearn.svm._classes.SVC",
        *NYSTROEM.parts,
    ),
    format=Format(
        ".safetensors", lambda estimator: isinstance(estimator, KernelMachine), _dump, _load
    ),
)
