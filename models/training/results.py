"""What a comparison of heads found: plain values, each of which turns into JSON as it is."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from models.decisions.decision import Decision
from models.evaluation.classes import ClassEvaluation
from models.evaluation.paired import PairedTest
from models.evaluation.representations import Ranking
from models.evaluation.values import Evaluation, Interval, number, or_none
from models.heads.classes import ClassHead, ClassHeads

if TYPE_CHECKING:
    from features.cache.contents import Items
from models.training.relabelling import Relabelling

__all__ = ["Candidate", "Classes", "Comparison", "DataAudit", "HeadResult", "LeakRow", "Subgroup"]


@dataclass(frozen=True)
class Classes:
    """What the heads make of more than two classes.

    Parameters
    ----------
    labels : tuple of str
        The classes that are told apart, the positive one first.
    shares : tuple of float
        Of these classes among the training images.
    evaluations : dict of str to dict of str to ClassEvaluation
        By head and split.
    others : tuple of ClassHead
        The chosen head of each class but the positive one, fitted on all training images.
    """

    labels: tuple[str, ...]
    shares: tuple[float, ...]
    evaluations: dict[str, dict[str, ClassEvaluation]]
    others: tuple[ClassHead, ...]

    def as_dict(self) -> dict[str, Any]:
        """Give JSON-ready values: everything but the estimators and the probabilities."""
        return {
            "labels": list(self.labels),
            "shares": list(self.shares),
            "heads": {
                name: {split: found.as_dict() for split, found in splits.items()}
                for name, splits in self.evaluations.items()
            },
        }


Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class LeakRow:
    """The chosen head on all images of a split, or on those without a relative in training.

    Parameters
    ----------
    split : str
    leaks : bool
        Whether images that belong together with a training image are among them.
    n, positives : int
    auc, sensitivity, specificity : Interval or None
        None where the class they need is missing.
    """

    split: str
    leaks: bool
    n: int
    positives: int
    auc: Interval | None
    sensitivity: Interval | None
    specificity: Interval | None

    def as_dict(self) -> dict[str, Any]:
        """Give JSON-ready values."""
        intervals = ("auc", "sensitivity", "specificity")
        return {**vars(self), **{name: or_none(getattr(self, name)) for name in intervals}}


@dataclass(frozen=True)
class DataAudit:
    """Which images belong together, and what that does to the figures.

    Parameters
    ----------
    searched : bool
        Whether somebody looked for copies; if not, only files that are equal byte for byte are
        known, and what the data itself says of patients or lesions.
    groups, images : int
        Groups of copies, and the image files in them.
    contradicting : int
        Groups of copies whose labels differ.
    crossing : int
        Groups, of copies or by patient or lesion, that are in several splits.
    trained : int
        Images of such groups that were trained on all the same.
    rows : tuple of LeakRow
        With and without, for every judged split that has such images.
    leaking : dict of str to ndarray of bool
        By part, in the order of its images: which belong together with one of another split.
    """

    searched: bool
    groups: int
    images: int
    contradicting: int
    crossing: int
    trained: int
    rows: tuple[LeakRow, ...]
    leaking: dict[str, Mask]

    def as_dict(self) -> dict[str, Any]:
        """Give JSON-ready values."""
        names = ("searched", "groups", "images", "contradicting", "crossing", "trained")
        return {
            **{name: getattr(self, name) for name in names},
            "figures": [row.as_dict() for row in self.rows],
        }


@dataclass(frozen=True)
class Candidate:
    """Settings that were tried, and the area under the ROC curve of their out-of-fold scores."""

    settings: dict[str, Any]
    auc: float

    def as_dict(self) -> dict[str, Any]:
        """Give JSON-ready values."""
        return {"settings": self.settings, "auc": number(self.auc)}


@dataclass(frozen=True)
class HeadResult:
    """One tuned, calibrated and refitted head.

    Parameters
    ----------
    name : str
        Key in `models.heads.HEADS`, e.g. ``"logistic_regression"``.
    title : str
        The name that a person reads.
    settings : dict
        Of the best candidate.
    candidates : tuple of Candidate
        In the order in which they were tried.
    evaluations : dict of str to Evaluation
        ``"cross-validation"`` always, ``"valid"`` and ``"test"`` where the data has them.
    decision : Decision
        Of its scores.
    calibration_losses : dict of str to float
        Cross-validated log loss by method, where the method was chosen by it.
    seconds : float
        Time from the first candidate to the last evaluation, in which other heads may be worked on,
        too.
    estimator : object
        Fitted on all training images; use `models.heads.base.score` on it.
    """

    name: str
    title: str
    settings: dict[str, Any]
    candidates: tuple[Candidate, ...]
    evaluations: dict[str, Evaluation]
    decision: Decision
    calibration_losses: dict[str, float]
    seconds: float
    estimator: Any

    def metrics(self) -> dict[str, Any]:
        """Give its figures by split, JSON-ready, without the curves."""
        found = {split: judged.as_dict() for split, judged in self.evaluations.items()}
        for figures in found.values():
            del figures["roc"]
        return found

    def as_dict(self) -> dict[str, Any]:
        """Give JSON-ready values: everything but the estimator."""
        return {
            "name": self.name,
            "title": self.title,
            "settings": self.settings,
            "candidates": [candidate.as_dict() for candidate in self.candidates],
            "evaluations": {name: found.as_dict() for name, found in self.evaluations.items()},
            "calibration": self.decision.calibration.as_dict(),
            "calibration_losses": self.calibration_losses,
            **self.decision.terms(),
            "seconds": round(self.seconds, 3),
        }


@dataclass(frozen=True)
class Subgroup:
    """The chosen head on images of one kind.

    Parameters
    ----------
    split, variable, value : str
        Such as ``"test"``, ``"age"``, ``"45 to 59"``.
    n, positives : int
    auc, sensitivity, specificity : Interval or None
        None where the class they need is missing.
    few : bool
        Fewer than 10 images of a class: too few to conclude anything from.
    """

    split: str
    variable: str
    value: str
    n: int
    positives: int
    auc: Interval | None
    sensitivity: Interval | None
    specificity: Interval | None
    few: bool

    def as_dict(self) -> dict[str, Any]:
        """Give JSON-ready values."""
        return {
            **vars(self),
            **{
                name: or_none(getattr(self, name)) for name in ("auc", "sensitivity", "specificity")
            },
        }


@dataclass(frozen=True)
class Comparison:
    """The heads side by side.

    Parameters
    ----------
    labels : tuple of str
        (negative, positive).
    heads : dict of str to HeadResult
        In the order in which they were asked for.
    chosen : str
        Key of the head to be served.
    chosen_by : str
        Why that one, for a person.
    folds, seed : int
        Of the cross-validation.
    counts : dict of str to dict of str to int
        Images by split (``"train"``, ``"valid"``, ``"test"``) and by the label in the data, after
        everything that the notes mention was left out.
    notes : tuple of str
        What a reader of the figures must know, one sentence each.
    marks : tuple of str
        ``"untrained"``, ``"synthetic"``: to be shown on every output.
    fingerprint : str
        Of the extractor that made the embeddings.
    tests : tuple of PairedTest
        Every pair of heads on every split with both classes.
    subgroups : tuple of Subgroup
        Of the chosen head, where metadata was given.
    images : dict of str to Items
        By part, those that were trained on and judged by, in the order of the evaluations.
    audit : DataAudit or None
        Which images belong together, and the chosen head without those that leak.
    classes : Classes or None
        Which class it is, where the data has more than two that can be told apart.
    relabelling : Relabelling
        What classes of the feature file were taken for.
    ranking : Ranking or None
        The heads on other networks' embeddings, where several feature files were compared.
    """

    labels: tuple[str, str]
    heads: dict[str, HeadResult]
    chosen: str
    chosen_by: str
    folds: int
    seed: int
    counts: dict[str, dict[str, int]]
    notes: tuple[str, ...]
    marks: tuple[str, ...]
    fingerprint: str
    tests: tuple[PairedTest, ...] = ()
    subgroups: tuple[Subgroup, ...] = ()
    classes: Classes | None = None
    images: dict[str, Items] = field(default_factory=dict)
    audit: DataAudit | None = None
    relabelling: Relabelling = field(default_factory=Relabelling)
    ranking: Ranking | None = None

    @property
    def best(self) -> HeadResult:
        """The chosen head."""
        return self.heads[self.chosen]

    @property
    def served(self) -> ClassHeads:
        """The chosen head of every class that is told from the rest."""
        best, known = self.best, self.classes
        first = ClassHead(self.labels[1], best.estimator, best.decision.calibration)
        if known is None:
            return ClassHeads((first,))
        return ClassHeads((first, *known.others), known.shares)

    def as_dict(self) -> dict[str, Any]:
        """Give JSON-ready values: everything but the estimators and the scores."""
        return {
            "labels": {"negative": self.labels[0], "positive": self.labels[1]},
            "heads": {name: head.as_dict() for name, head in self.heads.items()},
            "chosen": self.chosen,
            "chosen_by": self.chosen_by,
            "folds": self.folds,
            "seed": self.seed,
            "counts": self.counts,
            "notes": list(self.notes),
            "marks": list(self.marks),
            "fingerprint": self.fingerprint,
            "tests": [test.as_dict() for test in self.tests],
            "subgroups": [subgroup.as_dict() for subgroup in self.subgroups],
            "audit": None if self.audit is None else self.audit.as_dict(),
            **({} if self.classes is None else {"classes": self.classes.as_dict()}),
            **({} if self.ranking is None else {"ranking": self.ranking.as_dict()}),
        }
