"""Eigenvectors by the published address of LAPACK's routine."""

from __future__ import annotations

import threading
import time

import numpy as np
import pytest
from scipy.linalg import LinAlgError, eigh

from models.heads.fold import eigenpairs


@pytest.mark.parametrize("n", [1, 2, 7, 100, 301])
def test_they_are_scipy_s(n: int) -> None:
    drawn = np.random.default_rng(n).normal(size=(n, 2 * n)).astype(np.float32)
    matrix = drawn @ drawn.T
    given = matrix.copy()
    eigenvalues, vectors = eigenpairs(matrix)
    np.testing.assert_array_equal(matrix, given)
    largest = eigenvalues[-1]
    np.testing.assert_allclose(eigenvalues, eigh(matrix, eigvals_only=True), atol=1e-5 * largest)
    np.testing.assert_allclose(vectors * eigenvalues @ vectors.T, matrix, atol=1e-5 * largest)
    np.testing.assert_allclose(vectors.T @ vectors, np.eye(n), atol=1e-5)


def test_others_go_on_meanwhile() -> None:
    drawn = np.random.default_rng(0).normal(size=(900, 1000)).astype(np.float32)
    matrix, steps = drawn @ drawn.T, []
    worker = threading.Thread(target=lambda: eigenpairs(matrix))
    worker.start()
    while worker.is_alive():
        steps.append(time.perf_counter())
        time.sleep(0.001)
    # With the lock held, all of it would pass between two steps.
    assert max(np.diff(steps)) < 0.5 * (steps[-1] - steps[0])


def test_what_has_no_eigenvalues_is_an_error() -> None:
    with pytest.raises(LinAlgError, match="3 x 3"):
        eigenpairs(np.full((3, 3), np.nan, np.float32))
