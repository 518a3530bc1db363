"""Eigenvectors of symmetric matrices, several matrices side by side.

`scipy.linalg.eigh` keeps the interpreter's lock while LAPACK works, so that threads would wait for
each other, and NumPy's takes twice the time. This is the same routine of the same library, called
by the address that SciPy publishes for compiled code.
"""

from __future__ import annotations

import ctypes
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from scipy.linalg import LinAlgError, cython_lapack

__all__ = ["eigenpairs"]

Singles = npt.NDArray[np.float32]


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
