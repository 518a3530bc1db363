"""The training images split into parts to fit on and parts to judge by, and what heads share there.

A fold knows embeddings only, so that several sets of labels (one per class) and all candidates of
all heads use the same standardised columns, inner products and eigenbasis.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeVar

import numpy as np
import numpy.typing as npt
from sklearn.preprocessing import StandardScaler

from models.heads.folds.moments import Sums, stretches
from models.heads.folds.routines import add_products, eigenpairs, mirror

__all__ = [
    "Common",
    "Eigenbasis",
    "Fold",
    "InnerProducts",
    "join",
    "share_sums",
    "whole",
]

Singles = npt.NDArray[np.float32]
Numbers = npt.NDArray[np.intp]
Kept = TypeVar("Kept")

_KEEP_BYTES: Final = 300 * 2**20
# Relative to the largest eigenvalue: directions that hold the rounding of single precision only.
_FLAT: Final = 1e-6
# Relative to a column's deviation: less is lost in the rounding of single precision.
_ROUNDING: Final = 1e-7


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
    axes : ndarray, shape (d, r), or None
        Where there are fewer columns than rows, the axes themselves.
    """

    train: Singles
    test: Singles
    eigenvalues: npt.NDArray[np.float64]
    axes: Singles | None = None


class Common:
    """What is kept for folds of the same embeddings, and the rows that all of them fit on."""

    def __init__(self, rows: Numbers) -> None:
        self.rows = rows
        self.kept: dict[Hashable, Any] = {}
        self._keeping = threading.Lock()
        self._making: dict[Hashable, threading.RLock] = {}

    def made(self, name: Hashable, make: Callable[[], Kept]) -> Kept:
        """Make something once; `name` is of what it is and what it was made with."""
        # Not functools' way: before Python 3.12 whoever makes something keeps all others waiting.
        with self._keeping:
            making = self._making.setdefault(name, threading.RLock())
        with making:
            if name not in self.kept:
                self.kept[name] = make()
            found: Kept = self.kept[name]
        return found


class Fold:
    """The training images split into a part to fit on and a part to judge by.

    Parameters
    ----------
    X : ndarray or Rows, shape (n, d)
        Embeddings of all training images; in `Rows` they are for what goes by blocks alone.
    train, test : ndarray of int
        Row numbers of the two parts.
    weights : ndarray of float, shape (d,), optional
        What every column is multiplied by once it is standardised, for heads that standardise; 1
        by default.
    """

    def __init__(
        self,
        X: Any,
        train: Numbers,
        test: Numbers,
        weights: npt.NDArray[np.float64] | None = None,
    ) -> None:
        self.X, self.train, self.test, self.weights = X, train, test, weights
        self._own = Common(train)
        self.common = self._own
        self.sums: tuple[Sums, Sequence[int]] = (Sums(X, [train]), [0])

    def moments(self) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        """Give mean and deviation of every column over the part to fit on, each of shape (d,).

        As of `models.heads.folds.moments.Sums`. With weights, the deviation is what scaling has to
        divide by: the true one over the weight.
        """
        return self.shared("moments", self._find_moments, size=0)

    def scaler(self) -> StandardScaler:
        """Give scikit-learn's scaler of the part to fit on, fitted."""
        mean, deviation = self.moments()
        scaler = StandardScaler()
        scaler.mean_, scaler.scale_, scaler.var_ = mean, deviation, deviation**2
        scaler.n_samples_seen_ = np.int64(len(self.train))
        scaler.n_features_in_ = len(mean)
        return scaler

    def stretches(self, rows: Numbers | None = None) -> Iterator[tuple[slice, Singles]]:
        """Scale rows by the mean and deviation of the part to fit on, as `scaler` would.

        Never are more than some columns of it held at once, so that it takes no second copy of
        the embeddings.

        Parameters
        ----------
        rows : ndarray of int, optional
            Which; by default all to fit on, and after them those to judge by.

        Yields
        ------
        columns : slice
        values : ndarray of float32, shape (len(rows), columns)
            The caller's to change.
        """
        mean, deviation = self.moments()
        if rows is None:
            rows = np.concatenate([self.train, self.test])
        for columns in stretches(len(rows), self.X.shape[1]):
            # `take` would copy all rows of the stretch first.
            values = np.asarray(self.X[rows, columns], np.float32)
            centre, spread = mean[columns].astype(np.float32), deviation[columns]
            values -= centre
            left = mean[columns] - centre
            if (np.abs(left) > _ROUNDING * spread).any():
                # What rounding the centre left off counts in columns of little spread.
                values -= left.astype(np.float32)
            values *= (1 / spread).astype(np.float32)
            yield columns, values

    def standardised(self) -> tuple[Singles, Singles]:
        """Give both parts scaled, whole: for embeddings of few columns."""
        found = np.empty((len(self.train) + len(self.test), self.X.shape[1]), np.float32)
        for columns, values in self.stretches():
            found[:, columns] = values
        return found[: len(self.train)], found[len(self.train) :]

    def weighted(self, weights: npt.NDArray[np.floating]) -> npt.NDArray[np.float64]:
        """Sum the scaled rows to fit on, times `weights` (n_train,); shape (d,)."""
        found = np.empty(self.X.shape[1])
        singles = np.asarray(weights, np.float32)
        for columns, values in self.stretches(self.train):
            found[columns] = singles @ values
        return found

    def inner_products(self) -> InnerProducts:
        """Give the inner products, kept for the next head unless they are large."""
        return self.shared("products", self._multiply)

    def eigenbasis(self) -> Eigenbasis:
        """Rotate both parts to the principal axes of the part to fit on.

        Kept for the next set of labels unless large. Rotating changes neither a ridge penalty nor
        what is fitted under it.
        """
        return self.shared("basis", self._rotate)

    def shared(
        self,
        name: Hashable,
        make: Callable[[], Kept],
        size: int | None = None,
        *,
        by_all: bool = False,
    ) -> Kept:
        """Make something once for all candidates and sets of labels, unless it is large.

        Parameters
        ----------
        name : hashable
            Of what it is and what it was made with.
        make : callable
        size : int, optional
            Bytes that it takes; by default those of the inner products.
        by_all : bool
            Whether it is of ``common.rows`` alone, and so for all folds joined to this one.
        """
        large = not self.small if size is None else size > _KEEP_BYTES
        return make() if large else (self.common if by_all else self._own).made(name, make)

    @property
    def small(self) -> bool:
        """Whether what is computed is kept."""
        return 4 * len(self.train) * (len(self.train) + len(self.test)) <= _KEEP_BYTES

    def _find_moments(self) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        sums, parts = self.sums
        mean, deviation = sums.moments(parts)
        return mean, deviation if self.weights is None else deviation / self.weights

    def _multiply(self) -> InnerProducts:
        """By stretches of columns, so that no copy of the embeddings is made."""
        m, beside = len(self.train), len(self.test)
        gram, cross = np.zeros((m, m), np.float32), np.zeros((beside, m), np.float32)
        lengths = np.zeros(beside, np.float32)
        for _, values in self.stretches():
            train, test = values[:m], values[m:]
            add_products(gram, train)
            cross += test @ train.T
            lengths += np.einsum("ij,ij->i", test, test)
        mirror(gram)
        return InnerProducts(gram, cross, lengths)

    def _rotate(self) -> Eigenbasis:
        """By the smaller of the two eigenproblems, in single precision.

        In double precision the areas under the curve are the same to 1e-3 of their standard
        errors, in twice the time.
        """
        n, d = len(self.train), self.X.shape[1]
        if d < n:
            train, test = self.standardised()
            eigenvalues, axes = _positive_eigenpairs(train.T @ train)
            return Eigenbasis(train @ axes, test @ axes, eigenvalues, axes)
        products = self.inner_products()
        eigenvalues, axes = _positive_eigenpairs(products.gram)
        lengths = np.sqrt(eigenvalues).astype(np.float32)
        return Eigenbasis(axes * lengths, products.cross @ (axes / lengths), eigenvalues)


def _positive_eigenpairs(matrix: Singles) -> tuple[npt.NDArray[np.float64], Singles]:
    eigenvalues, axes = eigenpairs(matrix)
    kept = eigenvalues > _FLAT * eigenvalues[-1]
    return eigenvalues[kept].astype(np.float64), axes[:, kept]


def join(folds: Sequence[Fold]) -> None:
    """Let folds of the same embeddings share what can be learnt from rows that all fit on."""
    common = Common(functools.reduce(np.intersect1d, [fold.train for fold in folds]))
    for fold in folds:
        fold.common = common


def share_sums(folds: Sequence[Fold], everything: Fold | None = None) -> None:
    """Let folds of the same embeddings find their moments in one pass.

    Parameters
    ----------
    folds : sequence of Fold
        Every row is judged by in one of them, and fitted on in all others.
    everything : Fold, optional
        Of all rows, as `whole` gives them.
    """
    sums, places = Sums(folds[0].X, [fold.test for fold in folds]), range(len(folds))
    for place, fold in enumerate(folds):
        fold.sums = sums, [each for each in places if each != place]
    if everything is not None:
        everything.sums = sums, places


def whole(X: Any) -> Fold:
    """Give all rows of X (n, d) to fit on, and none to judge by: for the final fits."""
    return Fold(X, np.arange(len(X)), np.arange(0))
