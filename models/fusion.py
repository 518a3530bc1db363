"""The chosen head's score together with age, sex and site: a logistic regression on top of both.

Stacking (Wolpert, Stacked generalization, Neural Networks 1992): it is fitted on scores of images
that the head had not seen. What is missing has indicators of its own beside the values.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt
from sklearn.linear_model import LogisticRegression

from models.calibrating import fit_platt
from models.calibrators import Calibration, Platt
from models.manifest import MANIFEST, altered
from models.patient import NAMES, Kinds, blocks, kinds_in, numbers
from models.results import Zone

if TYPE_CHECKING:
    from models.results import Comparison, Evaluation

__all__ = [
    "FUSION",
    "STRENGTH",
    "FusedHead",
    "Fusion",
    "cross_fit",
    "dump_fusion",
    "fit_fusion",
    "load_fusion",
]

Floats = npt.NDArray[np.float64]
Row = Mapping[str, Any]

FUSION: Final = "fusion"
# So few columns on hundreds of images need little holding back: rare sites get some.
STRENGTH: Final = 1.0

_FIELDS: Final = {
    "title", "kinds", "log_odds", "typical", "means", "scales", "coefficients", "intercept",
    "calibration", "threshold", "threshold_rule", "zone", "metrics",
}  # fmt: skip
_MOST_KINDS: Final = 1000
_LARGEST: Final = 1e9


@dataclass(frozen=True)
class Fusion:
    """Weights of the score, of age, sex and site, as plain numbers.

    Parameters
    ----------
    kinds : mapping of str to tuple of str
        Which of age, sex and site it takes, with their categories.
    log_odds : Platt
        Turns the head's score into log-odds of the positive class.
    typical : tuple of float
        Means of the columns of `models.patient.numbers` over the images that they are known of.
    means, scales, coefficients : tuple of float
        Of the log-odds and then of these columns.
    intercept : float

    Notes
    -----
    In an archive it may tell something that a value is missing: whole collections lack it. In use
    it tells nothing. So the indicators of what is missing take part in the fit, where they keep
    that from the other weights, and what is missing is then judged as the average of the known.
    """

    kinds: Kinds
    log_odds: Platt
    typical: tuple[float, ...]
    means: tuple[float, ...]
    scales: tuple[float, ...]
    coefficients: tuple[float, ...]
    intercept: float

    def score(self, scores: npt.ArrayLike, rows: Sequence[Row]) -> Floats:
        """Give the log-odds of the positive class.

        Parameters
        ----------
        scores : array-like, shape (n,)
            Of the head.
        rows : sequence of mapping
            What is known of each image's patient.

        Returns
        -------
        ndarray, shape (n,)
        """
        known = numbers(self.kinds, rows)
        for block in blocks(self.kinds):
            known[known[:, block.stop - 1] > 0, block] = self.typical[block]
        odds = self.log_odds.slope * np.asarray(scores, np.float64) + self.log_odds.intercept
        columns = (np.column_stack([odds, known]) - self.means) / self.scales
        fused: Floats = columns @ np.asarray(self.coefficients) + self.intercept
        return fused


def fit_fusion(
    scores: Floats, rows: Sequence[Row], labels: npt.NDArray[Any], columns: Sequence[str]
) -> Fusion:
    """Fit the weights.

    Parameters
    ----------
    scores : ndarray, shape (n,)
        Out-of-fold scores of the head.
    rows : sequence of mapping, length n
        What is known of each image's patient.
    labels : ndarray of int, shape (n,)
        Both 0 and 1 occur.
    columns : sequence of str
        Which of age, sex and site to take.

    Returns
    -------
    Fusion
    """
    kinds, log_odds = kinds_in(columns, rows), fit_platt(labels, scores)
    known = numbers(kinds, rows)
    odds = log_odds.slope * scores + log_odds.intercept
    stacked = np.column_stack([odds, known])
    means, scales = stacked.mean(axis=0), stacked.std(axis=0)
    scales[scales == 0] = 1.0
    model = LogisticRegression(C=STRENGTH, max_iter=1000).fit((stacked - means) / scales, labels)
    return Fusion(
        kinds,
        log_odds,
        _typical(kinds, known),
        tuple(means.tolist()),
        tuple(scales.tolist()),
        tuple(model.coef_[0].tolist()),
        float(model.intercept_[0]),
    )


def cross_fit(
    scores: Floats,
    rows: Sequence[Row],
    labels: npt.NDArray[Any],
    columns: Sequence[str],
    tests: Sequence[npt.NDArray[np.intp]],
) -> Floats:
    """Give each fold's images the log-odds of a fusion that was fitted on the other folds.

    Parameters
    ----------
    scores, rows, labels, columns
        As for `fit_fusion`.
    tests : sequence of ndarray of int
        The images of each fold, as the scores were made by; every image is in one.

    Returns
    -------
    ndarray, shape (n,)
        Categories, means, log-odds and weights never saw the label of the image that they are for.
    """
    found = np.empty(len(scores))
    for test in tests:
        others = np.setdiff1d(np.arange(len(scores)), test)
        fusion = fit_fusion(
            scores[others], [rows[place] for place in others], labels[others], columns
        )
        found[test] = fusion.score(scores[test], [rows[place] for place in test])
    return found


def _typical(kinds: Kinds, known: Floats) -> tuple[float, ...]:
    typical = known.mean(axis=0)
    for block in blocks(kinds):
        given = known[known[:, block.stop - 1] == 0, block]
        if len(given):
            typical[block] = given.mean(axis=0)
    return tuple(typical.tolist())


@dataclass(frozen=True)
class FusedHead:
    """A fusion in a bundle, with the decisions that go with it.

    Parameters
    ----------
    title : str
    fusion : Fusion
    calibration : Calibration
        Of the fused log-odds.
    threshold : float
        On the fused probability.
    threshold_rule : str
    zone : Zone
    metrics : dict
        By split, as for the bundle's head.
    """

    title: str
    fusion: Fusion
    calibration: Calibration
    threshold: float
    threshold_rule: str
    zone: Zone
    metrics: dict[str, Any]

    def probability(self, scores: npt.ArrayLike, rows: Sequence[Row]) -> Floats:
        """Give the probabilities of the positive class, shape (n,); as for `Fusion.score`."""
        return self.calibration.apply(self.fusion.score(scores, rows))

    def as_dict(self) -> dict[str, Any]:
        """Give JSON-ready values: what it takes, and how it decides and does."""
        return {
            "title": self.title,
            "inputs": {name: list(known) for name, known in self.fusion.kinds.items()},
            "threshold": self.threshold,
            "threshold_rule": self.threshold_rule,
            "zone": self.zone.as_dict(),
            "metrics": self.metrics,
        }


def dump_fusion(comparison: Comparison) -> dict[str, Any]:
    """Give the field of a bundle's manifest; nothing where there was no metadata.

    Returns
    -------
    dict
    """
    result = comparison.heads.get(FUSION)
    if result is None:
        return {}
    fusion: Fusion = result.estimator
    return {
        FUSION: {
            "title": result.title,
            "kinds": {name: list(known) for name, known in fusion.kinds.items()},
            "log_odds": fusion.log_odds.as_dict(),
            "typical": list(fusion.typical),
            "means": list(fusion.means),
            "scales": list(fusion.scales),
            "coefficients": list(fusion.coefficients),
            "intercept": fusion.intercept,
            "calibration": result.calibration.as_dict(),
            "threshold": result.threshold,
            "threshold_rule": result.threshold_rule,
            "zone": result.zone.as_dict(),
            "metrics": {split: _metrics(found) for split, found in result.evaluations.items()},
        }
    }


def _metrics(evaluation: Evaluation) -> dict[str, Any]:
    return {name: value for name, value in evaluation.as_dict().items() if name != "roc"}


def load_fusion(folder: Path, values: Mapping[str, Any]) -> FusedHead | None:
    """Read the field of a bundle's manifest.

    Parameters
    ----------
    folder : Path
        To be named where something is wrong.
    values : mapping
        The manifest.

    Returns
    -------
    FusedHead or None

    Raises
    ------
    BundleRefused
        If its values make no sense.
    """
    if values[FUSION] is None:
        return None
    try:
        return _read(values[FUSION])
    except (TypeError, ValueError, LookupError, AttributeError) as error:
        raise altered(folder, f"{MANIFEST} has a {FUSION} without sense ({error})") from error


def _read(values: Mapping[str, Any]) -> FusedHead:
    if odd := sorted(set(values) ^ _FIELDS):
        raise ValueError(f"missing or unknown fields: {', '.join(odd)}")
    kinds = _read_kinds(values["kinds"])
    log_odds, zone = Calibration.from_dict(values["log_odds"]), Zone.from_dict(values["zone"])
    if not isinstance(log_odds, Platt):
        raise ValueError("the log-odds are not those of a sigmoid")
    width = 1 + max(block.stop for block in blocks(kinds))
    typical = _read_numbers("typical", values["typical"], width - 1)
    means, scales, coefficients = (
        _read_numbers(name, values[name], width) for name in ("means", "scales", "coefficients")
    )
    if min(scales) <= 0:
        raise ValueError("a scale is not above 0")
    (intercept,) = _read_numbers("intercept", [values["intercept"]], 1)
    (threshold,) = _read_numbers("threshold", [values["threshold"]], 1)
    if not (0 <= threshold <= 1 and zone.holds(threshold)):
        raise ValueError("the threshold is no probability, or not in its zone")
    texts = values["title"], values["threshold_rule"]
    if not all(isinstance(text, str) for text in texts) or not isinstance(values["metrics"], dict):
        raise ValueError("a title, rule or figures of a wrong type")
    return FusedHead(
        title=values["title"],
        fusion=Fusion(kinds, log_odds, typical, means, scales, coefficients, intercept),
        calibration=Calibration.from_dict(values["calibration"]),
        threshold=threshold,
        threshold_rule=values["threshold_rule"],
        zone=zone,
        metrics=values["metrics"],
    )


def _read_kinds(values: Mapping[str, Any]) -> dict[str, tuple[str, ...]]:
    if not values or [name for name in NAMES if name in values] != list(values):
        raise ValueError(f"inputs {', '.join(values) or 'of no kind'}, expected {', '.join(NAMES)}")
    for name, known in values.items():
        if not isinstance(known, list) or not all(isinstance(kind, str) for kind in known):
            raise ValueError(f"the categories of {name} are no words")
        if known != sorted(set(known)) or len(known) > _MOST_KINDS or (name == "age" and known):
            raise ValueError(f"the categories of {name} are not in order, or too many")
    return {name: tuple(known) for name, known in values.items()}


def _read_numbers(name: str, values: Any, length: int) -> tuple[float, ...]:
    if not isinstance(values, list) or len(values) != length:
        raise ValueError(f"{name} are not {length} numbers")
    for value in values:
        if type(value) not in (int, float) or not math.isfinite(value) or abs(value) > _LARGEST:
            raise ValueError(f"{name} has {value!r}, expected a finite number")
    return tuple(map(float, values))
