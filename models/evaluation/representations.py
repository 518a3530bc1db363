"""Which network's embeddings are better: their heads on the same images, ranked and compared."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any, Final

from features.datasets.splits import CROSS_VALIDATION
from models.evaluation.paired import PairedTest, compare_pairs
from models.evaluation.values import Evaluation, or_none

__all__ = ["Ranking", "Representation", "Row", "rank", "summary"]

UNLIKE: Final = ("better", "worse")
ALIKE: Final = "can't be told apart"
_TOLD: Final = ("split", "first", "second", "p", "p_holm", "told_apart")


@dataclass(frozen=True)
class Representation:
    """Embeddings of one network, or those of several together.

    Parameters
    ----------
    name : str
        By which a person knows it.
    network : str
        The network, or the names of what it is put together from.
    numbers : int
        How many a head is given of an image; of averaged scores, of all networks together.
    trained_on : str
        Which images the network was trained on, in words.
    members : tuple of str
        Names of what it is put together from; empty for a feature file's own.
    """

    name: str
    network: str
    numbers: int
    trained_on: str
    members: tuple[str, ...] = ()


@dataclass(frozen=True)
class Row:
    """A head on a representation.

    Parameters
    ----------
    representation, head : str
        By their names for a person.
    evaluations : dict of str to Evaluation
        By split.
    """

    representation: str
    head: str
    evaluations: dict[str, Evaluation]

    @property
    def title(self) -> str:
        """Name both."""
        return f"{self.representation}, {self.head}"

    @property
    def area(self) -> float:
        """The cross-validated area under the ROC curve, by which rows are ranked."""
        auc = self.evaluations[CROSS_VALIDATION].auc
        return auc.value if auc else 0.0


@dataclass(frozen=True)
class Ranking:
    """Heads on representations, side by side.

    Parameters
    ----------
    representations : tuple of Representation
        In the order in which they were given, combinations last.
    rows : tuple of Row
        The largest cross-validated area first.
    tests : tuple of PairedTest
        Of every pair of representations with the same head, on every split.
    served : str
        Name of the representation that the bundle is of.
    """

    representations: tuple[Representation, ...]
    rows: tuple[Row, ...]
    tests: tuple[PairedTest, ...]
    served: str = ""

    def against(self, row: Row, other: str) -> PairedTest | None:
        """Find the cross-validated test of a row and another representation, the same head."""
        titles = {row.title, f"{other}, {row.head}"}
        return next(
            (
                test
                for test in self.tests
                if test.split == CROSS_VALIDATION and {test.first, test.second} == titles
            ),
            None,
        )

    def verdict(self, row: Row, other: str) -> str:
        """Say how a row stands to another representation with the same head; empty if to itself."""
        test = self.against(row, other)
        if test is None:
            return ""
        if not test.told_apart:
            return ALIKE
        return UNLIKE[(test.auc.value > 0) != (test.first == row.title)]

    def as_dict(self) -> dict[str, Any]:
        """Give JSON-ready values."""
        return {
            "served": self.served,
            "representations": [
                {**vars(one), "members": list(one.members)} for one in self.representations
            ],
            "rows": [
                {
                    "representation": row.representation,
                    "head": row.head,
                    "auc": {split: or_none(found.auc) for split, found in row.evaluations.items()},
                }
                for row in self.rows
            ],
            "tests": [
                {
                    **{name: getattr(test, name) for name in _TOLD},
                    "auc": test.auc.as_dict(),
                }
                for test in self.tests
            ],
        }


def rank(
    representations: Sequence[Representation], rows: Sequence[Row], *, folds: int, served: str = ""
) -> Ranking:
    """Rank heads on representations, and compare representations head by head.

    Parameters
    ----------
    representations : sequence of Representation
    rows : sequence of Row
        Evaluated on the same images.
    folds : int
        Of the cross-validation.
    served : str, optional
        Name of the representation that the bundle is of.

    Returns
    -------
    Ranking
        Like is compared with like: each test is of two representations with the same head. Areas
        by DeLong, in cross-validation with Nadeau and Bengio's variance, corrected by Holm over all
        heads and pairs of representations of a split. Splits with fewer than two images of a class
        are left out.
    """
    tests: list[PairedTest] = []
    for split, some in rows[0].evaluations.items():
        if 2 <= some.positives <= some.n - 2:
            pairs = [
                ((one.title, one.evaluations[split]), (other.title, other.evaluations[split]))
                for one, other in combinations(rows, 2)
                if one.head == other.head and one.representation != other.representation
            ]
            tests += compare_pairs(split, pairs, folds=folds if split == CROSS_VALIDATION else None)
    ordered = tuple(sorted(rows, key=lambda row: -row.area))
    return Ranking(tuple(representations), ordered, tuple(tests), served)


def summary(ranking: Ranking) -> list[str]:
    """Say of every pair of representations, in a sentence, which one is better, by which heads."""
    by_name: dict[str, list[Row]] = {one.name: [] for one in ranking.representations}
    for row in ranking.rows:
        by_name[row.representation].append(row)
    return [_pair(ranking, one, by_name[one], other) for one, other in combinations(by_name, 2)]


def _pair(ranking: Ranking, one: str, rows: Sequence[Row], other: str) -> str:
    found: dict[str, list[str]] = {}
    for row in rows:
        if verdict := ranking.verdict(row, other):
            found.setdefault(verdict, []).append(row.head)
    clauses = []
    for verdict, (first, second) in zip(UNLIKE, ((one, other), (other, one)), strict=True):
        if heads := found.get(verdict):
            clauses.append(f"{first} ranks these images better than {second} by {', '.join(heads)}")
    if heads := found.get(ALIKE):
        by = f" by {', '.join(heads)}" if clauses else ""
        clauses.append(f"{one} and {other} {ALIKE} by these data{by}")
    text = "; ".join(clauses)
    return f"{text} (cross-validated ROC AUC, paired and corrected for all heads and pairs)."
