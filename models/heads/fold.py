"""The training images split into parts to fit on and parts to judge by, and what heads share there.

A fold knows embeddings only, so that several sets of labels (one per class) and all candidates of
all heads use the same standardised columns, inner products and eigenbasis. Embeddings that come by
blocks share what reading them needs.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import tempfile
import threading
from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeVar

import numpy as np
import numpy.typing as npt
from scipy.linalg import LinAlgError, cython_lapack
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits

from features.cache.rows import Rows
from models.machine import available

__all__ = [
    "Blocks",
    "Common",
    "Eigenbasis",
    "Fold",
    "InnerProducts",
    "eigenpairs",
    "in_blocks",
    "join",
    "whole",
]

Singles = npt.NDArray[np.float32]
Numbers = npt.NDArray[np.intp]
Kept = TypeVar("Kept")

_KEEP_BYTES: Final = 300 * 2**20
# Relative to the largest eigenvalue: directions that hold the rounding of single precision only.
_FLAT: Final = 1e-6
_ROUNDING: Final = 1e-6
# Of standardised embeddings at once: enough for products at full speed, and to stay in the caches.
_STRETCH_BYTES: Final = 8 * 2**20


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

    def moments(self) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        """Give mean and deviation of every column over the part to fit on, each of shape (d,).

        In double precision, stretch by stretch of the columns. The deviation of a column without
        any spread but that of rounding is 1. With weights, the deviation is what scaling has to
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

    def stretches(self) -> Iterator[tuple[slice, Singles]]:
        """Scale all rows by the mean and deviation of the part to fit on, as `scaler` would.

        Never are more than some columns of it held at once, so that it takes no second copy of
        the embeddings.

        Yields
        ------
        columns : slice
        values : ndarray of float32, shape (n_train + n_test, columns)
            The rows to fit on, and after them those to judge by; the caller's to change.
        """
        mean, deviation = self.moments()
        rows = np.concatenate([self.train, self.test])
        for columns in _stretches(len(rows), self.X.shape[1]):
            values = np.asarray(self.X[:, columns].take(rows, axis=0), np.float32)
            centre = mean[columns].astype(np.float32)
            values -= centre
            # What rounding the centre left off counts in columns of little spread.
            values -= (mean[columns] - centre).astype(np.float32)
            values *= (1 / deviation[columns]).astype(np.float32)
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
        for columns, values in self.stretches():
            found[columns] = singles @ values[: len(self.train)]
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
        mean, deviation = np.empty(self.X.shape[1]), np.empty(self.X.shape[1])
        for columns in _stretches(len(self.train), self.X.shape[1]):
            values = np.asarray(self.X[:, columns].take(self.train, axis=0), np.float32)
            mean[columns] = values.mean(axis=0, dtype=np.float64)
            # Rounding the centre takes nothing from the deviation that its own mean doesn't give
            # back.
            values -= mean[columns].astype(np.float32)
            beside = values.mean(axis=0, dtype=np.float64)
            np.square(values, out=values)
            square = values.mean(axis=0, dtype=np.float64) - beside**2
            deviation[columns] = np.sqrt(np.maximum(square, 0))
        deviation[deviation <= _ROUNDING * np.abs(mean)] = 1
        return mean, deviation if self.weights is None else deviation / self.weights

    def _multiply(self) -> InnerProducts:
        """By stretches of columns: one symmetric product of each gives all that is wanted."""
        m, n = len(self.train), len(self.train) + len(self.test)
        total, product = np.zeros((n, n), np.float32), np.empty((n, n), np.float32)
        for _, values in self.stretches():
            total += np.matmul(values, values.T, out=product)
        return InnerProducts(total[:m, :m].copy(), total[m:, :m].copy(), np.diag(total)[m:].copy())

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


def _stretches(n: int, d: int) -> list[slice]:
    step = max(64, _STRETCH_BYTES // (4 * max(n, 1)))
    return [slice(start, start + step) for start in range(0, d, step)]


def join(folds: Sequence[Fold]) -> None:
    """Let folds of the same embeddings share what can be learnt from rows that all fit on."""
    common = Common(functools.reduce(np.intersect1d, [fold.train for fold in folds]))
    for fold in folds:
        fold.common = common


def whole(X: Any) -> Fold:
    """Give all rows of X (n, d) to fit on, and none to judge by: for the final fits."""
    return Fold(X, np.arange(len(X)), np.arange(0))


@dataclass(frozen=True)
class Blocks:
    """Embeddings that come block by block, and what all fits to them share.

    Parameters
    ----------
    rows : Rows, shape (n, d)
    seed, jobs : int
    aside : Path
        A folder for the time being.
    common : ndarray of int, optional
        As of `Common`, for a final fit; all rows by default.
    """

    rows: Rows
    seed: int
    jobs: int
    aside: Path
    common: Numbers | None = None

    @property
    def memory(self) -> int:
        """Bytes that one head's preparations may take."""
        return self.rows.memory // 2 if self.rows.memory else available() // 2

    def mask(self, train: npt.NDArray[np.intp]) -> npt.NDArray[np.bool_]:
        """Mark the rows of these numbers."""
        found = np.zeros(len(self.rows), bool)
        found[train] = True
        return found


@contextlib.contextmanager
def in_blocks(X: npt.NDArray[Any] | Rows, seed: int, jobs: int) -> Iterator[Blocks]:
    """Hold back the linear algebra's threads and keep a folder as long as blocks are worked on."""
    with threadpool_limits(limits=jobs), tempfile.TemporaryDirectory(prefix="lesion-") as aside:
        yield Blocks(X if isinstance(X, Rows) else Rows(X), seed, jobs, Path(aside))


def _published(name: str) -> Any:
    capsule = cython_lapack.__pyx_capi__[name]
    name_of = ctypes.pythonapi.PyCapsule_GetName
    name_of.restype, name_of.argtypes = ctypes.c_char_p, [ctypes.py_object]
    address_of = ctypes.pythonapi.PyCapsule_GetPointer
    address_of.restype, address_of.argtypes = ctypes.c_void_p, [ctypes.py_object, ctypes.c_char_p]
    return address_of(capsule, name_of(capsule))


_INTEGER: Final = ctypes.POINTER(ctypes.c_int)
# Job, triangle, order, matrix, its stride, eigenvalues, two work spaces with their lengths, status.
_SSYEVD: Final = ctypes.CFUNCTYPE(
    None,
    *(ctypes.c_char_p, ctypes.c_char_p, _INTEGER, ctypes.c_void_p, _INTEGER, ctypes.c_void_p),
    *(ctypes.c_void_p, _INTEGER, ctypes.c_void_p, _INTEGER, _INTEGER),
)(_published("ssyevd"))


def eigenpairs(matrix: Singles) -> tuple[Singles, Singles]:
    """Decompose a symmetric matrix, by divide and conquer.

    `scipy.linalg.eigh` keeps the interpreter's lock while LAPACK works, so that threads would wait
    for each other, and NumPy's takes twice the time. This is the same routine of the same library,
    called by the address that SciPy publishes for compiled code.

    Parameters
    ----------
    matrix : ndarray of float32, shape (n, n)
        Finite; n is at least 1. It stays as it is.

    Returns
    -------
    eigenvalues : ndarray of float32, shape (n,)
        Rising.
    vectors : ndarray of float32, shape (n, n)
        In the columns, of length 1.

    Raises
    ------
    LinAlgError
        If it doesn't converge.

    References
    ----------
    LAPACK's SSYEVD: Cuppen, A divide and conquer method for the symmetric tridiagonal
    eigenproblem, Numerische Mathematik 1981.

    Examples
    --------
    >>> import numpy as np
    >>> eigenpairs(np.array([[2, 1], [1, 2]], np.float32))[0]
    array([1., 3.], dtype=float32)
    """
    n = len(matrix)
    vectors = np.array(matrix, np.float32, order="F")
    eigenvalues = np.empty(n, np.float32)
    work = np.empty(1 + 6 * n + 2 * n * n, np.float32)
    integers = np.empty(3 + 5 * n, np.intc)
    status = ctypes.c_int()
    order, first, second = (ctypes.c_int(each) for each in (n, work.size, integers.size))
    _SSYEVD(
        *(b"V", b"L", ctypes.byref(order), vectors.ctypes.data, ctypes.byref(order)),
        *(eigenvalues.ctypes.data, work.ctypes.data, ctypes.byref(first)),
        *(integers.ctypes.data, ctypes.byref(second), ctypes.byref(status)),
    )
    if status.value:
        raise LinAlgError(f"the eigenvalues of a {n} x {n} matrix do not converge")
    return eigenvalues, vectors
