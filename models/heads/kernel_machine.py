"""A fitted RBF machine as plain numbers, small enough to be served also with long embeddings."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

import numpy as np
import numpy.typing as npt

__all__ = ["KernelMachine"]

_ROWS: Final = 256
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
        cls, scaler: Any, rows: npt.NDArray[np.floating], fitted: Any, gamma: float
    ) -> KernelMachine:
        """Make one of a machine that was fitted on a kernel matrix.

        Parameters
        ----------
        scaler : StandardScaler
            Fitted.
        rows : ndarray, shape (n, d)
            What the kernel matrix was made of, standardised.
        fitted : SVC
            With ``kernel="precomputed"``, on two classes.
        gamma : float
        """
        support = np.clip(rows[fitted.support_], -_FURTHEST, _FURTHEST)
        return cls(
            np.asarray(scaler.mean_, np.float32),
            np.asarray(scaler.scale_, np.float32),
            support.astype(np.float16),
            np.asarray(fitted.dual_coef_[0], np.float64),
            float(fitted.intercept_[0]),
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
            lengths = np.einsum("ij,ij->i", rows, rows, dtype=np.float64)
            squared = lengths[:, None] + self._lengths - 2.0 * (rows @ self._vectors.T)
            kernel = np.exp(-self.gamma * np.maximum(squared, 0))
            scores[block] = kernel @ self.weights + self.intercept
        return scores

    @cached_property
    def _vectors(self) -> npt.NDArray[np.float32]:
        return self.support.astype(np.float32)

    @cached_property
    def _lengths(self) -> npt.NDArray[np.float64]:
        vectors = self._vectors
        return np.asarray(np.einsum("ij,ij->i", vectors, vectors, dtype=np.float64))
