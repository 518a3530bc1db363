"""The names of splits: as the data has them, and as everything here calls them."""

from __future__ import annotations

from typing import Final

__all__ = ["CROSS_VALIDATION", "SPLITS", "part_of"]

SPLITS: Final = ("train", "valid", "test")
# Not a split of the data: each training image, judged by a head that was made without it.
CROSS_VALIDATION: Final = "cross-validation"


def part_of(evaluated: str) -> str:
    """Give the split whose images are judged where a head is evaluated.

    Examples
    --------
    >>> part_of("cross-validation"), part_of("test")
    ('train', 'test')
    """
    return "train" if evaluated == CROSS_VALIDATION else evaluated
