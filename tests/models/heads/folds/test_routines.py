"""What LAPACK and BLAS do by their published addresses."""

from __future__ import annotations

import threading
import time

import numpy as np
import pytest
from scipy.linalg import LinAlgError, eigh

from models.heads.folds.routines import add_products, eigenpairs, mirror


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


@pytest.mark.parametrize(("n", "k"), [(1, 1), (5, 3), (255, 40), (256, 7), (257, 7), (600, 90)])
def test_products_are_added_up(n: int, k: int) -> None:
    drawn = np.random.default_rng(n)
    values = [drawn.normal(size=(n, k)).astype(np.float32) for _ in range(2)]
    total = np.zeros((n, n), np.float32)
    for some in values:
        add_products(total, np.asfortranarray(some))
    mirror(total)
    expected = sum(some.astype(np.float64) @ some.T for some in values)
    np.testing.assert_allclose(total, expected, atol=1e-5 * k)
    np.testing.assert_array_equal(total, total.T)


@pytest.mark.parametrize("total", [np.zeros((3, 3)), np.zeros((2, 3), np.float32)])
def test_what_products_do_not_fit_is_not_written_to(total: np.ndarray) -> None:
    with pytest.raises(ValueError, match="expected float32"):
        add_products(total, np.ones((3, 2), np.float32))
