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
