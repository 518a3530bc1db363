"""The chosen head's score together with age, sex and site: a logistic regression on top of both.

Stacking (Wolpert, Stacked generalization, Neural Networks 1992): it is fitted on scores of images
that the head had not seen. What is missing has indicators of its own beside the values.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from sklearn.linear_model import LogisticRegression

from models.decisions.calibration import fit_platt
from models.decisions.calibrators import Platt
from models.decisions.decision import Decision
from models.patients.encoding import Kinds, blocks, kinds_in, numbers

__all__ = ["FUSION", "STRENGTH", "FusedHead", "Fusion", "cross_fit", "fit_fusion"]

Floats = npt.NDArray[np.float64]


Row = Mapping[str, Any]


FUSION: Final = "fusion"


# So few columns on hundreds of images need little holding back: rare sites get some.
STRENGTH: Final = 1.0


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
        Means of the columns of `models.patients.encoding.numbers` over the images that they are
        known of.
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
    decision : Decision
        Of the fused log-odds.
    metrics : dict
        By split, as for the bundle's head.
    """

    title: str
    fusion: Fusion
    decision: Decision
    metrics: dict[str, Any]

    def probability(self, scores: npt.ArrayLike, rows: Sequence[Row]) -> Floats:
        """Give the probabilities of the positive class, shape (n,); as for `Fusion.score`."""
        return self.decision.calibration.apply(self.fusion.score(scores, rows))

    def as_dict(self) -> dict[str, Any]:
        """Give JSON-ready values: what it takes, and how it decides and does."""
        return {
            "title": self.title,
            "inputs": {name: list(known) for name, known in self.fusion.kinds.items()},
            **self.decision.terms(),
            "metrics": self.metrics,
        }
