"""Ways from a score to a probability, as plain numbers that a bundle can carry."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
from scipy.special import expit

__all__ = ["Beta", "Calibration", "Isotonic", "Platt"]

Floats = npt.NDArray[np.float64]


class Calibration(ABC):
    """Turns scores into probabilities; a higher score never gets a lower probability.

    Attributes
    ----------
    method : str
        ``"platt"``, ``"isotonic"`` or ``"beta"``.
    """

    method: ClassVar[str]

    @abstractmethod
    def apply(self, scores: npt.ArrayLike) -> Floats:
        """Give the probabilities of `scores`, of the same shape."""

    @property
    @abstractmethod
    def flat(self) -> bool:
        """Whether every score gets the same probability."""

    @abstractmethod
    def as_dict(self) -> dict[str, Any]:
        """Give JSON-ready values."""

    @staticmethod
    def from_dict(values: Mapping[str, Any]) -> Calibration:
        """Read what `as_dict` gave.

        Raises
        ------
        ValueError, TypeError, LookupError
            If these are not the values of a calibration that never falls.
        """
        method = values["method"]
        if method not in _METHODS:
            raise ValueError(f"got method {method!r}, expected one of {', '.join(_METHODS)}")
        kind = _METHODS[method]
        numbers = {name: value for name, value in values.items() if name != "method"}
        if isinstance(numbers.get("scores"), Sequence):
            return kind(**{name: tuple(map(_finite, numbers[name])) for name in numbers})
        return kind(**{name: _finite(value) for name, value in numbers.items()})


@dataclass(frozen=True)
class Platt(Calibration):
    """``1 / (1 + exp(-(slope * score + intercept)))``; the slope is never negative.

    References
    ----------
    Platt, Probabilistic outputs for support vector machines and comparisons to regularized
    likelihood methods, 1999.
    """

    slope: float
    intercept: float
    method: ClassVar[str] = "platt"

    def __post_init__(self) -> None:
        _require_not_negative(slope=self.slope)

    def apply(self, scores: npt.ArrayLike) -> Floats:
        """Give the probabilities of `scores`, of the same shape."""
        calibrated: Floats = expit(self.slope * np.asarray(scores, float) + self.intercept)
        return calibrated

    @property
    def flat(self) -> bool:
        """Whether every score gets the same probability."""
        return self.slope == 0

    def as_dict(self) -> dict[str, Any]:
        """Give JSON-ready values."""
        return {"method": self.method, "slope": self.slope, "intercept": self.intercept}


@dataclass(frozen=True)
class Beta(Calibration):
    """``sigmoid(a * ln p - b * ln(1 - p) + c)`` of Platt's ``p = sigmoid(slope * s + intercept)``.

    Platt's sigmoid brings scores of any scale between 0 and 1; with ``a = b = 1`` and ``c = 0`` it
    is all there is. None of `slope`, `a` and `b` is negative.

    References
    ----------
    Kull, Silva Filho and Flach, Beta calibration, AISTATS 2017.
    """

    slope: float
    intercept: float
    a: float
    b: float
    c: float
    method: ClassVar[str] = "beta"

    def __post_init__(self) -> None:
        _require_not_negative(slope=self.slope, a=self.a, b=self.b)

    def apply(self, scores: npt.ArrayLike) -> Floats:
        """Give the probabilities of `scores`, of the same shape."""
        odds = self.slope * np.asarray(scores, float) + self.intercept
        # ln p = -ln(1 + exp(-odds)), which is exact where p itself is 0 or 1.
        calibrated: Floats = expit(
            self.b * np.logaddexp(0, odds) - self.a * np.logaddexp(0, -odds) + self.c
        )
        return calibrated

    @property
    def flat(self) -> bool:
        """Whether every score gets the same probability."""
        return self.slope == 0 or self.a == self.b == 0

    def as_dict(self) -> dict[str, Any]:
        """Give JSON-ready values."""
        return {"method": self.method, **vars(self)}


@dataclass(frozen=True)
class Isotonic(Calibration):
    """A line through breakpoints, level beyond the first and the last.

    Parameters
    ----------
    scores : tuple of float
        Ascending, at least one.
    probabilities : tuple of float
        Never falling, between 0 and 1, as many as `scores`.

    References
    ----------
    Zadrozny and Elkan, Transforming classifier scores into accurate multiclass probability
    estimates, KDD 2002.
    """

    scores: tuple[float, ...]
    probabilities: tuple[float, ...]
    method: ClassVar[str] = "isotonic"

    def __post_init__(self) -> None:
        if not self.scores or len(self.scores) != len(self.probabilities):
            raise ValueError(
                f"got {len(self.scores)} scores and {len(self.probabilities)} probabilities, "
                "expected as many of both, at least one"
            )
        if any(np.diff(self.scores) <= 0) or any(np.diff(self.probabilities) < 0):
            raise ValueError("the breakpoints don't ascend")
        if not 0 <= self.probabilities[0] <= self.probabilities[-1] <= 1:
            raise ValueError("a breakpoint is no probability")

    def apply(self, scores: npt.ArrayLike) -> Floats:
        """Give the probabilities of `scores`, of the same shape."""
        calibrated: Floats = np.interp(np.asarray(scores, float), self.scores, self.probabilities)
        return calibrated

    @property
    def flat(self) -> bool:
        """Whether every score gets the same probability."""
        return self.probabilities[0] == self.probabilities[-1]

    def as_dict(self) -> dict[str, Any]:
        """Give JSON-ready values."""
        return {
            "method": self.method,
            "scores": list(self.scores),
            "probabilities": list(self.probabilities),
        }


_METHODS: dict[str, type[Calibration]] = {kind.method: kind for kind in (Platt, Isotonic, Beta)}


def _finite(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError(f"got {value!r}, expected a finite number")
    return float(value)


def _require_not_negative(**numbers: float) -> None:
    for name, value in numbers.items():
        if value < 0:
            raise ValueError(f"got {name} {value}, expected none below 0")
