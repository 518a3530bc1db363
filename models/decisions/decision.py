"""What goes with a head: from its scores to probabilities, and from these to what is said."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

import numpy as np
import numpy.typing as npt

from models.decisions.calibration import calibrate
from models.decisions.calibrators import Calibration
from models.decisions.thresholds import ThresholdRule, Zone, uncertain_zone

__all__ = ["Call", "Decision", "cross_fitted", "fit_decision"]

Floats = npt.NDArray[np.float64]
Part = TypeVar("Part", Calibration, Zone)
Call = Literal["suspicious", "not suspicious", "cannot tell"]


@dataclass(frozen=True)
class Decision:
    """How a head's scores become probabilities, and when an image is called suspicious.

    Parameters
    ----------
    calibration : Calibration
        From scores to probabilities.
    threshold : float
        At or above this probability an image is suspicious.
    threshold_rule : str
        How the threshold was chosen, for a person.
    zone : Zone or None
        Of probabilities that don't tell; the threshold is in it. None in bundles of version 1.
    """

    calibration: Calibration
    threshold: float
    threshold_rule: str
    zone: Zone | None

    def flags(self, probabilities: npt.ArrayLike) -> npt.NDArray[np.bool_]:
        """Say of each probability whether the threshold calls it suspicious."""
        flagged: npt.NDArray[np.bool_] = np.asarray(probabilities) >= self.threshold
        return flagged

    def doubts(self, probabilities: npt.ArrayLike) -> npt.NDArray[np.bool_]:
        """Say of each probability whether it lies where nothing is certain."""
        if self.zone is None:
            return np.zeros(np.shape(probabilities), bool)
        return self.zone.holds(probabilities)

    def decide(self, probability: float) -> Call:
        """Say what a probability means.

        Examples
        --------
        >>> from models.decisions.calibrators import Platt
        >>> known = Decision(Platt(1, 0), 0.5, "as asked", Zone(0.4, 0.6, alpha=0.1))
        >>> [known.decide(probability) for probability in (0.3, 0.5, 0.7)]
        ['not suspicious', 'cannot tell', 'suspicious']
        """
        if self.doubts(probability):
            return "cannot tell"
        return "suspicious" if self.flags(probability) else "not suspicious"

    def as_dict(self) -> dict[str, Any]:
        """Give JSON-ready values."""
        return {"calibration": self.calibration.as_dict(), **self.terms()}

    def terms(self) -> dict[str, Any]:
        """Give those of them that a person wants to know, JSON-ready."""
        return {
            "threshold": self.threshold,
            "threshold_rule": self.threshold_rule,
            "zone": None if self.zone is None else self.zone.as_dict(),
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Decision:
        """Read what `as_dict` gave; other values are ignored.

        Raises
        ------
        ValueError
            If one of them makes no sense; says which.
        LookupError
            If one is missing.
        """
        given, rule = values["threshold"], values["threshold_rule"]
        if type(given) not in (int, float) or not 0 <= given <= 1:
            raise ValueError(f"a threshold of {given!r}, which is no probability")
        if not isinstance(rule, str):
            raise ValueError("a rule for its threshold that is no text")
        calibration = _part("calibration", Calibration.from_dict, values["calibration"])
        zone = None if values["zone"] is None else _part("zone", Zone.from_dict, values["zone"])
        if zone is not None and not zone.holds(given):
            raise ValueError("a zone that the threshold is not in")
        return cls(calibration, float(given), rule, zone)


def _part(name: str, read: Callable[[Any], Part], values: Any) -> Part:
    try:
        return read(values)
    except (TypeError, ValueError, LookupError, AttributeError) as error:
        raise ValueError(f"a {name} without sense ({error})") from error


def fit_decision(
    labels: npt.NDArray[Any],
    scores: Floats,
    tests: Sequence[npt.NDArray[np.intp]],
    rule: ThresholdRule,
    *,
    method: str = "platt",
    alpha: float = 0.1,
) -> tuple[Decision, dict[str, float]]:
    """Make the decision that goes with a head.

    Parameters
    ----------
    labels : ndarray of int, shape (n,)
        1 for the positive class, 0 for the rest; both occur.
    scores : ndarray, shape (n,)
        Out-of-fold.
    tests : sequence of ndarray of int
        The images of each fold; ``"auto"`` chooses by them.
    rule : callable
        How the threshold is chosen.
    method : {"auto", "platt", "isotonic", "beta"}
        Of calibration.
    alpha : float
        Share of each class that may lie on the wrong side of the zone of uncertainty.

    Returns
    -------
    decision : Decision
    losses : dict of str to float
        Cross-validated log loss by method, where the method was chosen by it.
    """
    calibration, losses = calibrate(labels, scores, tests, method)
    probabilities = calibration.apply(scores)
    threshold = rule(labels, probabilities)
    zone = uncertain_zone(labels, probabilities, threshold.value, alpha)
    return Decision(calibration, threshold.value, threshold.rule, zone), dict(losses)


def cross_fitted(
    labels: npt.NDArray[Any],
    scores: Floats,
    tests: Sequence[npt.NDArray[np.intp]],
    rule: ThresholdRule,
    method: str = "platt",
) -> tuple[Floats, npt.NDArray[np.bool_]]:
    """Calibrate and decide for each fold with what the other folds' scores say.

    Parameters
    ----------
    labels : ndarray of int, shape (n,)
    scores : ndarray, shape (n,)
        Out-of-fold.
    tests : sequence of ndarray of int
        The images of each fold.
    rule : callable
    method : str
        Of calibration; ``"auto"`` is chosen anew for every fold.

    Returns
    -------
    probabilities : ndarray of float, shape (n,)
    suspicious : ndarray of bool, shape (n,)
        Neither saw the label of the image it is for.
    """
    probabilities, suspicious = np.empty(len(scores)), np.empty(len(scores), bool)
    for held, test in enumerate(tests):
        kept = [fold for place, fold in enumerate(tests) if place != held]
        others = np.sort(np.concatenate(kept))
        known, _ = fit_decision(
            labels[others],
            scores[others],
            [np.searchsorted(others, np.sort(fold)) for fold in kept],
            rule,
            # With a single fold left there is nothing to choose by.
            method="platt" if method == "auto" and len(kept) < 2 else method,
        )
        probabilities[test] = known.calibration.apply(scores[test])
        suspicious[test] = known.flags(probabilities[test])
    return probabilities, suspicious
