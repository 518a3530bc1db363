from __future__ import annotations

from models.machine import allowance, available, needed_at_once


def test_memory_is_what_is_left() -> None:
    assert 0 < available() <= allowance() * 1.5
    assert allowance(1e6) > 0.9e6 * 2**30
    assert allowance(1e-9) == 1
    assert needed_at_once(1000, 100, folds=5, threads=4) > 4 * 1000 * 100 * 5
