"""Routines of LAPACK and BLAS by the addresses that SciPy publishes for compiled code.

SciPy's own functions keep the interpreter's lock while these work, so that threads would wait for
each other, and NumPy's take longer: for eigenvectors twice as long, for products of rows a tenth.
"""

from __future__ import annotations

import ctypes
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from scipy.linalg import LinAlgError, cython_blas, cython_lapack

__all__ = ["add_products", "eigenpairs", "mirror"]

Singles = npt.NDArray[np.float32]


def _published(module: Any, name: str) -> Any:
    capsule = module.__pyx_capi__[name]
    name_of = ctypes.pythonapi.PyCapsule_GetName
    name_of.restype, name_of.argtypes = ctypes.c_char_p, [ctypes.py_object]
    address_of = ctypes.pythonapi.PyCapsule_GetPointer
    address_of.restype, address_of.argtypes = ctypes.c_void_p, [ctypes.py_object, ctypes.c_char_p]
    return address_of(capsule, name_of(capsule))


_INTEGER: Final = ctypes.POINTER(ctypes.c_int)
_SINGLE: Final = ctypes.POINTER(ctypes.c_float)
# Job, triangle, order, matrix, its stride, eigenvalues, two work spaces with their lengths, status.
_SSYEVD: Final = ctypes.CFUNCTYPE(
    None,
    *(ctypes.c_char_p, ctypes.c_char_p, _INTEGER, ctypes.c_void_p, _INTEGER, ctypes.c_void_p),
    *(ctypes.c_void_p, _INTEGER, ctypes.c_void_p, _INTEGER, _INTEGER),
)(_published(cython_lapack, "ssyevd"))
# Triangle, transposed or not, order, columns, factor, matrix, its stride, factor, sum, its stride.
_SSYRK: Final = ctypes.CFUNCTYPE(
    None,
    *(ctypes.c_char_p, ctypes.c_char_p, _INTEGER, _INTEGER, _SINGLE, ctypes.c_void_p, _INTEGER),
    *(_SINGLE, ctypes.c_void_p, _INTEGER),
)(_published(cython_blas, "ssyrk"))


def add_products(total: Singles, values: Singles) -> None:
    """Add the inner products of all pairs of rows to the lower triangle of a matrix.

    Parameters
    ----------
    total : ndarray of float32, shape (n, n)
        In rows; is added to, on and below the diagonal.
    values : ndarray of float32, shape (n, k)
        In rows.

    References
    ----------
    BLAS' SSYRK.

    Examples
    --------
    >>> import numpy as np
    >>> total = np.zeros((2, 2), np.float32)
    >>> add_products(total, np.array([[1, 2], [3, 4]], np.float32))
    >>> mirror(total)
    >>> total
    array([[ 5., 11.],
           [11., 25.]], dtype=float32)
    """
    rows, into = np.ascontiguousarray(values, np.float32), total
    n, k = rows.shape
    if into.shape != (n, n) or into.dtype != np.float32 or not into.flags.c_contiguous:
        raise ValueError(f"got {into.dtype} {into.shape} to add to, expected float32 {(n, n)}")
    if not n or not k:
        return
    # Of columns, as BLAS has matrices, its upper triangle is the lower one of rows.
    order, columns, one = ctypes.c_int(n), ctypes.c_int(k), ctypes.c_float(1)
    _SSYRK(
        *(b"U", b"T", ctypes.byref(order), ctypes.byref(columns), ctypes.byref(one)),
        *(rows.ctypes.data, ctypes.byref(columns), ctypes.byref(one)),
        *(into.ctypes.data, ctypes.byref(order)),
    )


def mirror(matrix: Singles) -> None:
    """Write the triangle below the diagonal of a matrix (n, n) above it, too."""
    step = 256
    for start in range(0, len(matrix), step):
        own = slice(start, start + step)
        block = matrix[own, own]
        block += np.tril(block, -1).T - np.triu(block, 1)
        matrix[own, start + step :] = matrix[start + step :, own].T


def eigenpairs(matrix: Singles) -> tuple[Singles, Singles]:
    """Decompose a symmetric matrix, by divide and conquer.

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
