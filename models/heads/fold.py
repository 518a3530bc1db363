"""The training images split into parts to fit on and parts to judge by, and what heads share there.

A fold knows embeddings only, so that several sets of labels (one per class) and all candidates of
all heads use the same standardised columns, inner products and eigenbasis.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
from sklearn.preprocessing import StandardScaler

from models.heads.boosting import ColumnParts
from models.heads.eigen import eigenpairs

__all__ = ["Eigenbasis", "Fold", "InnerProducts", "whole"]

Singles = npt.NDArray[np.float32]


Rows = npt.NDArray[np.intp]


Kept = TypeVar("Kept")


_KEEP_BYTES = 300 * 2**20


# Relative to the largest eigenvalue: directions that hold the rounding of single precision only.
_FLAT = 1e-6


_ROUNDING = 1e-6


@dataclass(frozen=True)
class InnerProducts:
    """Of the standardised embeddings of a fold.

    Parameters
    ----------
    gram : ndarray, shape (n_train, n_train)
        Between the rows to fit on.
    cross : ndarray, shape (n_test, n_train)
        Between the rows to judge by and those to fit on.
    lengths : ndarray, shape (n_test,)
        Squared norms of the rows to judge by.
    """

    gram: Singles
    cross: Singles
    lengths: Singles

    def squared_distances(self) -> tuple[Singles, Singles]:
        """Give those between the rows to fit on, and from the rows to judge by to them."""
        diagonal = np.diag(self.gram)
        within = np.maximum(diagonal[:, None] + diagonal - 2 * self.gram, 0)
        return within, np.maximum(self.lengths[:, None] + diagonal - 2 * self.cross, 0)


@dataclass(frozen=True)
class Eigenbasis:
    """The standardised embeddings of a fold along the principal axes of the part to fit on.

    Parameters
    ----------
    train : ndarray, shape (n_train, r)
    test : ndarray, shape (n_test, r)
    eigenvalues : ndarray, shape (r,)
        Squared lengths of the columns of `train`.
    """

    train: Singles
    test: Singles
    eigenvalues: npt.NDArray[np.float64]


class Fold:
    """The training images split into a part to fit on and a part to judge by.

    Parameters
    ----------
    X : ndarray or features.cache.rows.Rows, shape (n, d)
        Embeddings of all training images. In blocks they are for `models.heads.streaming` alone.
    train, test : ndarray of int
        Row numbers of the two parts.
    """

    def __init__(self, X: Any, train: Rows, test: Rows) -> None:
        self.X, self.train, self.test = X, train, test
        self._kept: dict[Hashable, Any] = {}
        self._keeping = threading.RLock()

    def standardised(self) -> tuple[Singles, Singles]:
        """Scale both parts by the mean and deviation of the part to fit on.

        As scikit-learn's ``StandardScaler`` does, in a fifth of its time.
        """
        train = np.asarray(self.X[self.train], np.float32)
        mean = train.mean(axis=0, dtype=np.float64).astype(np.float32)
        train = train - mean
        deviation = np.sqrt(np.einsum("ij,ij->j", train, train) / len(train))
        # A column without any spread but that of rounding is only centred.
        deviation[deviation <= _ROUNDING * np.abs(mean)] = 1
        train /= deviation
        return train, (np.asarray(self.X[self.test], np.float32) - mean) / deviation

    def scaled(self) -> tuple[StandardScaler, npt.NDArray[np.float64]]:
        """Give scikit-learn's scaler of the part to fit on, and that part scaled in full precision.

        Kept for the next head unless large.
        """

        def scale() -> tuple[StandardScaler, npt.NDArray[np.float64]]:
            scaler = StandardScaler()
            return scaler, scaler.fit_transform(np.asarray(self.X[self.train], np.float64))

        return self._keep("scaled", scale) if self.small else scale()

    def inner_products(self) -> InnerProducts:
        """Give the inner products, kept for the next head unless they are large."""
        return self._keep("products", self._multiply) if self.small else self._multiply()

    def eigenbasis(self) -> Eigenbasis:
        """Rotate both parts to the principal axes of the part to fit on.

        Kept for the next set of labels unless large. Rotating changes neither a ridge penalty nor
        what is fitted under it.
        """
        return self._keep("basis", self._rotate) if self.small else self._rotate()

    def column_parts(self, share: float, *, bins: int, seed: int, jobs: int) -> ColumnParts:
        """Bin the part to fit on for boosted trees, kept for the next set of labels unless large.

        Parameters
        ----------
        share, bins, seed, jobs
            As for `models.heads.boosting.ColumnParts`.
        """

        def bin_columns() -> ColumnParts:
            return ColumnParts(self.X[self.train], share, bins=bins, seed=seed, jobs=jobs)

        # XGBoost holds two bytes for a number.
        if 2 * len(self.train) * self.X.shape[1] > _KEEP_BYTES:
            return bin_columns()
        return self._keep((share, bins, seed), bin_columns)

    @property
    def small(self) -> bool:
        """Whether what is computed is kept."""
        return 4 * len(self.train) * (len(self.train) + len(self.test)) <= _KEEP_BYTES

    def _keep(self, name: Hashable, make: Callable[[], Kept]) -> Kept:
        # Not functools' way: before Python 3.12 it lets one fold work at a time.
        with self._keeping:
            if name not in self._kept:
                self._kept[name] = make()
            found: Kept = self._kept[name]
        return found

    def _multiply(self) -> InnerProducts:
        train, test = self.standardised()
        return InnerProducts(train @ train.T, test @ train.T, np.einsum("ij,ij->i", test, test))

    def _rotate(self) -> Eigenbasis:
        """By the smaller of the two eigenproblems, in single precision.

        In double precision the areas under the curve are the same to 1e-3 of their standard
        errors, in twice the time.
        """
        n, d = len(self.train), self.X.shape[1]
        if d < n:
            train, test = self.standardised()
            eigenvalues, axes = _positive_eigenpairs(train.T @ train)
            return Eigenbasis(train @ axes, test @ axes, eigenvalues)
        products = self.inner_products()
        eigenvalues, axes = _positive_eigenpairs(products.gram)
        lengths = np.sqrt(eigenvalues).astype(np.float32)
        return Eigenbasis(axes * lengths, products.cross @ (axes / lengths), eigenvalues)


def _positive_eigenpairs(matrix: Singles) -> tuple[npt.NDArray[np.float64], Singles]:
    eigenvalues, axes = eigenpairs(matrix)
    kept = eigenvalues > _FLAT * eigenvalues[-1]
    return eigenvalues[kept].astype(np.float64), axes[:, kept]


def whole(X: Any) -> Fold:
    """Give all rows as the part to fit on, and none to judge by: for the final fits.

    Parameters
    ----------
    X : ndarray, shape (n, d)
    """
    return Fold(X, np.arange(len(X)), np.arange(0))
