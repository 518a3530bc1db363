"""What can go wrong in training, by name."""

from __future__ import annotations

from features.errors import LesionError

__all__ = ["TrainingError"]


class TrainingError(LesionError):
    """Features, labels or options that no head can be trained with."""
