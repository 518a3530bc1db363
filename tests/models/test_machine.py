from __future__ import annotations

import sys

import numpy as np
import psutil
import pytest

from models.machine import allowance, available, give_back, needed_at_once


def test_memory_is_what_is_left() -> None:
    assert 0 < available() <= allowance() * 1.5
    assert allowance(1e6) > 0.9e6 * 2**30
    assert allowance(1e-9) == 1
    assert needed_at_once(1000, 100, folds=5, threads=4) > 4 * 1000 * 100 * 5


def test_no_support_vectors_are_planned_for_where_the_svm_keeps_landmarks() -> None:
    exact, near = (needed_at_once(n, 25_600, folds=5, threads=2) for n in (12_000, 12_001))
    # Six bytes for a number of the vectors, and tables of all pairs.
    assert exact - near > 6 * 12_000 * 25_600 + 12_000**2 * 8 * 6


def test_no_rotated_embeddings_are_planned_for_where_axes_are_not_looked_for() -> None:
    few, many = (needed_at_once(20_000, d, folds=5, threads=2) / d for d in (4_000, 4_001))
    assert few - many == pytest.approx(8 * 20_000 * 2)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="other systems do so themselves")
def test_memory_that_was_freed_is_given_back() -> None:
    def taken() -> int:
        return int(psutil.Process().memory_info().rss)

    # Too small to be mapped one by one, with something above that stays.
    arrays = [np.ones(8_000) for _ in range(2_000)]
    del arrays[:-1]
    before = taken()
    give_back()
    assert before - taken() > 64_000 * 1_000
