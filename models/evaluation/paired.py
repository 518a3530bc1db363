"""Whether heads differ: paired tests on the same images, corrected for there being several."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.stats import binomtest

from features.datasets.splits import CROSS_VALIDATION
from features.numbers import decimal, p_value, signed
from models.evaluation.roc import AucDifference, compare_auc
from models.evaluation.values import Evaluation, Interval

__all__ = ["PairedTest", "as_rows", "compare_all", "compare_pairs", "holm", "mcnemar", "sentence"]


@dataclass(frozen=True)
class PairedTest:
    """Two heads on the same images of one split.

    Parameters
    ----------
    split, first, second : str
        The heads by their titles.
    auc : Interval
        Area under the ROC curve of the first less that of the second, with the interval for this
        pair alone: `models.evaluation.roc.compare_auc`.
    p : float
        For no difference, by the same.
    p_holm : float
        The same after Holm's correction over all pairs of the split.
    first_only, second_only : dict of str to int
        Images that only one of the two judges rightly, by ``"sensitivity"`` (positives) and
        ``"specificity"`` (the rest).
    mcnemar, mcnemar_holm : dict of str to float
        Exact p values by the same names; corrected over both and all pairs of the split.
    """

    split: str
    first: str
    second: str
    auc: Interval
    p: float
    p_holm: float
    first_only: dict[str, int]
    second_only: dict[str, int]
    mcnemar: dict[str, float]
    mcnemar_holm: dict[str, float]

    @property
    def told_apart(self) -> bool:
        """Whether the areas differ at the 5 % level after the correction."""
        return self.p_holm < 0.05

    def as_dict(self) -> dict[str, Any]:
        """Give JSON-ready values."""
        return {**vars(self), "auc": self.auc.as_dict(), "told_apart": self.told_apart}


Named = tuple[str, Evaluation]

_SIDES = {"sensitivity": 1, "specificity": 0}


def holm(p_values: Sequence[float]) -> list[float]:
    """Correct p values for having made several tests.

    Parameters
    ----------
    p_values : sequence of float

    Returns
    -------
    list of float
        In the same order; at or above what went in, at most 1.

    References
    ----------
    Holm, A simple sequentially rejective multiple test procedure, Scandinavian Journal of
    Statistics 1979.

    Examples
    --------
    >>> [round(p, 3) for p in holm([0.01, 0.04, 0.03])]
    [0.03, 0.06, 0.06]
    """
    order = np.argsort(p_values, kind="stable")
    raised = np.asarray(p_values, float)[order] * np.arange(len(order), 0, -1)
    corrected = np.empty(len(order))
    corrected[order] = np.minimum(np.maximum.accumulate(raised), 1)
    return [float(p) for p in corrected]


def mcnemar(first: npt.NDArray[np.bool_], second: npt.NDArray[np.bool_]) -> tuple[int, int, float]:
    """Compare two ways of judging by the images that only one of them judges rightly.

    Parameters
    ----------
    first, second : ndarray of bool, shape (n,)
        Whether each judges the image rightly.

    Returns
    -------
    first_only, second_only : int
    p : float
        Exact and two-sided.

    References
    ----------
    McNemar, Note on the sampling error of the difference between correlated proportions,
    Psychometrika 1947.
    """
    one, other = int((first & ~second).sum()), int((second & ~first).sum())
    p = 1.0 if one + other == 0 else float(binomtest(one, one + other).pvalue)
    return one, other, p


def compare_all(
    split: str, named: Sequence[Named], *, folds: int | None = None
) -> list[PairedTest]:
    """Compare every pair of evaluations on the same images, as `compare_pairs` does."""
    return compare_pairs(split, list(combinations(named, 2)), folds=folds)


def compare_pairs(
    split: str, pairs: Sequence[tuple[Named, Named]], *, folds: int | None = None
) -> list[PairedTest]:
    """Compare the evaluations of each pair on the same images, all pairs as one family of tests.

    Parameters
    ----------
    split : str
    pairs : sequence of pairs of (str, Evaluation)
    folds : int, optional
        As for `models.evaluation.roc.compare_auc`.
    """
    drafts = [
        (first, second, _difference(one, other, folds), _calls(one, other))
        for (first, one), (second, other) in pairs
    ]
    p_auc = holm([difference.p for _, _, difference, _ in drafts])
    p_calls = iter(holm([call[2] for *_, calls in drafts for call in calls.values()]))
    return [
        PairedTest(
            split=split,
            first=first,
            second=second,
            auc=difference.difference,
            p=difference.p,
            p_holm=corrected,
            first_only={side: call[0] for side, call in calls.items()},
            second_only={side: call[1] for side, call in calls.items()},
            mcnemar={side: call[2] for side, call in calls.items()},
            mcnemar_holm={side: next(p_calls) for side in calls},
        )
        for (first, second, difference, calls), corrected in zip(drafts, p_auc, strict=True)
    ]


def _difference(one: Evaluation, other: Evaluation, folds: int | None) -> AucDifference:
    return compare_auc(one.labels, one.scores, other.scores, folds=folds)


def _calls(one: Evaluation, other: Evaluation) -> dict[str, tuple[int, int, float]]:
    right = [judged.suspicious == (judged.labels == 1) for judged in (one, other)]
    return {
        side: mcnemar(right[0][one.labels == label], right[1][one.labels == label])
        for side, label in _SIDES.items()
    }


def sentence(test: PairedTest) -> str:
    """Say what a test found, for a person; the difference is that of the better from the worse."""
    first, second, auc = test.first, test.second, test.auc
    if auc.value < 0 and test.told_apart:
        first, second = second, first
        auc = Interval(-auc.value, -auc.high, -auc.low)
    where, variance = "", ""
    if test.split == CROSS_VALIDATION:
        where, variance = "cross-validated ", " with Nadeau and Bengio's variance"
    figures = (
        f"{where}ROC AUCs differ by {signed(auc.value)} (95 % interval {signed(auc.low)} to "
        f"{signed(auc.high)}, paired DeLong{variance}, {p_value(test.p_holm, named=True)} after "
        "Holm's correction)"
    )
    if test.told_apart:
        return f"{first} ranks these images better than {second}: their {figures}."
    return f"{first} and {second} can't be told apart by these data: their {figures}."


def as_rows(tests: Sequence[PairedTest]) -> list[tuple[str, ...]]:
    """Lay tests out as the rows of a table, with its header."""
    rows: list[tuple[str, ...]] = [
        ("pair", "AUC difference (95 %)", "p, Holm", "sensitivity p", "specificity p", "verdict")
    ]
    for test in tests:
        auc = test.auc
        rows.append(
            (
                f"{test.first} - {test.second}",
                f"{signed(auc.value)} ({signed(auc.low)} to {signed(auc.high)})",
                decimal(test.p_holm),
                decimal(test.mcnemar_holm["sensitivity"]),
                decimal(test.mcnemar_holm["specificity"]),
                "different" if test.told_apart else "can't be told apart",
            )
        )
    return rows
