"""The training images split into parts to fit on and parts to judge by, and what heads share there.

A fold knows embeddings only, so that several sets of labels (one per class) and all candidates of
all heads use the same standardised columns, inner products and eigenbasis. Embeddings that come by
blocks share what reading them needs.
"""

from __future__ import annotations

import contextlib
import ctypes
import tempfile
import threading
from collections.abc import Callable, Hashable, Iterator
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

__all__ = ["Blocks", "Eigenbasis", "Fold", "InnerProducts", "eigenpairs", "in_blocks", "whole"]

Singles = npt.NDArray[np.float32]
Numbers = npt.NDArray[np.intp]
Kept = TypeVar("Kept")

_KEEP_BYTES: Final = 300 * 2**20
# Relative to the largest eigenvalue: directions that hold the rounding of single precision only.
_FLAT: Final = 1e-6
_ROUNDING: Final = 1e-6


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
    X : ndarray or Rows, shape (n, d)
        Embeddings of all training images; in `Rows` they are for what goes by blocks alone.
    train, test : ndarray of int
        Row numbers of the two parts.
    """

    def __init__(self, X: Any, train: Numbers, test: Numbers) -> None:
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

        return self.shared("scaled", scale)

    def inner_products(self) -> InnerProducts:
        """Give the inner products, kept for the next head unless they are large."""
        return self.shared("products", self._multiply)

    def eigenbasis(self) -> Eigenbasis:
        """Rotate both parts to the principal axes of the part to fit on.

        Kept for the next set of labels unless large. Rotating changes neither a ridge penalty nor
        what is fitted under it.
        """
        return self.shared("basis", self._rotate)

    def shared(self, name: Hashable, make: Callable[[], Kept], size: int | None = None) -> Kept:
        """Make something once for all candidates and sets of labels, unless it is large.

        Parameters
        ----------
        name : hashable
            Of what it is and what it was made with.
        make : callable
        size : int, optional
            Bytes that it takes; by default those of the inner products.
        """
        if not self.small if size is None else size > _KEEP_BYTES:
            return make()
        # Not functools' way: before Python 3.12 it lets one fold work at a time.
        with self._keeping:
            if name not in self._kept:
                self._kept[name] = make()
            found: Kept = self._kept[name]
        return found

    @property
    def small(self) -> bool:
        """Whether what is computed is kept."""
        return 4 * len(self.train) * (len(self.train) + len(self.test)) <= _KEEP_BYTES

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


@dataclass(frozen=True)
class Blocks:
    """Embeddings that come block by block, and what all fits to them share.

    Parameters
    ----------
    rows : Rows, shape (n, d)
    seed, jobs : int
    aside : Path
        A folder for the time being.
    """

    rows: Rows
    seed: int
    jobs: int
    aside: Path

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
