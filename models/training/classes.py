"""Which of several classes: heads of one class against the rest, judged beside the one question."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from features.cache.contents import Items
from features.presenting import SPLIT_TITLES
from models.decisions.calibration import calibrate
from models.decisions.calibrators import Calibration
from models.decisions.thresholds import Probability, cross_fitted
from models.evaluation.classes import ClassEvaluation, evaluate_classes
from models.heads.base import Head, Settings, score
from models.heads.classes import ClassHead, ClassHeads, share_out
from models.heads.ensemble import Ensemble, average
from models.heads.fold import Fold
from models.heads.refitting import refit
from models.training.results import Classes, HeadResult
from models.training.selection import Part
from models.training.tuning import threads, tune_each

__all__ = ["class_codes", "judge_classes", "strata"]

Floats = npt.NDArray[np.float64]
Codes = npt.NDArray[np.int64]
Columns = dict[str, list[Floats]]


def class_codes(items: Items, labels: Sequence[str]) -> Codes:
    """Give the place of each item's label among `labels`, in any case; -1 where it isn't one."""
    places = {label.casefold(): place for place, label in enumerate(labels)}
    return np.array([places.get(label.casefold(), -1) for label in items.label], np.int64)


def strata(train: Part, folds: int) -> Codes | None:
    """Say what is to be in proportion in the folds, where there are more than two classes.

    Parameters
    ----------
    train : Part
    folds : int

    Returns
    -------
    ndarray of int, shape (n,), or None
        The classes, those that can't be in every fold counted to the largest; the positive class
        is by itself. None with two classes.
    """
    names = _by_frequency(train)
    if len(names) < 3:
        return None
    codes = class_codes(train.items, names)
    largest = next(place for place in range(len(names)) if not train.y[codes == place].any())
    for place in range(len(names)):
        if len(np.unique(train.groups[codes == place])) < folds:
            codes[codes == place] = largest
    return codes


def judge_classes(
    heads: Mapping[str, Head],
    results: Mapping[str, HeadResult],
    parts: Mapping[str, Part],
    folds: Sequence[Fold],
    everything: Fold,
    *,
    chosen: str,
    calibration: str,
    seed: int,
    jobs: int,
    tell: Callable[[str], None],
) -> tuple[Classes | None, list[str]]:
    """Fit and judge a head of each class against the rest, for all heads of the one question.

    They take the settings that were found for the positive class and share what the folds have
    prepared; calibrations are fitted to out-of-fold scores, and cross-fitted for the figures of
    cross-validation. Nothing is chosen by these figures.

    Parameters
    ----------
    heads : mapping of str to Head
        Those that can be fitted to embeddings.
    results : mapping of str to HeadResult
        Of the positive class: of these by the same names, and of ensembles of them.
    parts : mapping of str to Part
    folds : sequence of Fold
        Of the training images.
    everything : Fold
        All training images to fit on, as `models.heads.fold.whole` gives them.
    chosen : str
        The head that is served.
    calibration : str
        Method, or ``"auto"``.
    seed, jobs : int
    tell : callable
        Is told what is being done.

    Returns
    -------
    classes : Classes or None
        None if fewer than three classes can be told apart.
    notes : list of str
    """
    train = parts["train"]
    labels, notes = _told_apart(train, folds)
    if len(labels) < 3:
        return None, notes
    truth = {split: class_codes(part.items, labels) for split, part in parts.items()}
    notes += [
        f"{(codes < 0).sum()} images of the {SPLIT_TITLES[split].lower()} are of other classes "
        "and not in the figures of the classes."
        for split, codes in truth.items()
        if split != "train" and (codes < 0).any()
    ]
    counts = np.bincount(truth["train"][truth["train"] >= 0])
    shares = tuple((counts / counts.sum()).tolist())
    ys = [(truth["train"] == place).astype(np.int8) for place in range(1, len(labels))]
    fitted: dict[str, list[_Fitted]] = {}
    for name, head in heads.items():
        tell(f"{head.title}: {len(ys)} more classes, one against the rest")
        fitted[name] = _fit(head, results[name].settings, folds, everything, ys, seed, jobs)
    fitted |= {
        name: _averaged(result.estimator, fitted, len(ys))
        for name, result in results.items()
        if isinstance(result.estimator, Ensemble)
    }
    tests = [fold.test for fold in folds]
    evaluations: dict[str, dict[str, ClassEvaluation]] = {}
    served: tuple[ClassHead, ...] = ()
    for name, found in fitted.items():
        columns: Columns = {split: [] for split in results[name].evaluations}
        calibrations = [
            _calibrate(y, of_class, parts, tests, columns, calibration)
            for y, of_class in zip(ys, found, strict=True)
        ]
        evaluations[name] = _evaluations(labels, shares, truth, results[name], columns)
        if name == chosen:
            served = tuple(
                ClassHead(label, of_class.estimator, known)
                for label, of_class, known in zip(labels[1:], found, calibrations, strict=True)
            )
    return Classes(labels, evaluations, ClassHeads(labels, shares, served)), notes


@dataclass(frozen=True)
class _Fitted:
    """A class against the rest: out-of-fold scores, and what was fitted on all images."""

    scores: Floats
    estimator: Any


def _fit(
    head: Head,
    settings: Settings,
    folds: Sequence[Fold],
    everything: Fold,
    ys: Sequence[npt.NDArray[np.int8]],
    seed: int,
    jobs: int,
) -> list[_Fitted]:
    tuned = tune_each(head, folds, ys, candidates=[settings], seed=seed, jobs=jobs)
    return [
        _Fitted(
            found.scores,
            refit(head, settings, everything, y, seed=seed, jobs=threads(jobs)),
        )
        for y, found in zip(ys, tuned, strict=True)
    ]


def _averaged(
    ensemble: Ensemble, fitted: Mapping[str, Sequence[_Fitted]], classes: int
) -> list[_Fitted]:
    found = []
    for place in range(classes):
        members = {name: fitted[name][place] for name in ensemble.members}
        scores, scales = average({name: member.scores for name, member in members.items()})
        estimators = {name: member.estimator for name, member in members.items()}
        found.append(_Fitted(scores, Ensemble(estimators, scales)))
    return found


def _by_frequency(train: Part) -> tuple[str, ...]:
    """Name the classes, the largest first; spelt as they come first."""
    spelling: dict[str, str] = {}
    named = [spelling.setdefault(label.casefold(), label) for label in train.items.label.tolist()]
    counts = Counter(named)
    return tuple(sorted(counts, key=lambda name: (-counts[name], name)))


def _told_apart(train: Part, folds: Sequence[Fold]) -> tuple[tuple[str, ...], list[str]]:
    """Name the classes that are in every fold, the positive one first, and those that aren't."""
    known: list[str] = []
    rare: list[str] = []
    names = _by_frequency(train)
    codes = class_codes(train.items, names)
    for place, name in enumerate(names):
        own = codes == place
        if train.y[own].any():
            known.insert(0, name)
        elif all(own[fold.test].any() for fold in folds):
            known.append(name)
        else:
            rare.append(f"{name!r} ({own.sum()})")
    notes = []
    if rare and len(names) > 2:
        notes.append(
            f"Classes with too few training images to be in each of the {len(folds)} folds are "
            f"not told from the others, nor in the figures of the classes: {', '.join(rare)}."
        )
    return tuple(known), notes


def _calibrate(
    y: npt.NDArray[np.int8],
    fitted: _Fitted,
    parts: Mapping[str, Part],
    tests: Sequence[npt.NDArray[np.intp]],
    columns: Columns,
    method: str,
) -> Calibration:
    """Calibrate a class against the rest; append its probabilities to `columns`."""
    crossed, _ = cross_fitted(y, fitted.scores, tests, Probability(0.5), method)
    columns["cross-validation"].append(crossed)
    known, _ = calibrate(y, fitted.scores, tests, method)
    for split, found in columns.items():
        if split != "cross-validation":
            found.append(known.apply(score(fitted.estimator, parts[split].X)))
    return known


def _evaluations(
    labels: tuple[str, ...],
    shares: Sequence[float],
    truth: Mapping[str, Codes],
    result: HeadResult,
    columns: Columns,
) -> dict[str, ClassEvaluation]:
    evaluations = {}
    for split, others in columns.items():
        codes = truth["train" if split == "cross-validation" else split]
        probabilities = share_out(result.evaluations[split].probabilities, np.stack(others, axis=1))
        if (known := codes >= 0).any():
            evaluations[split] = evaluate_classes(
                split, labels, codes[known], probabilities[known], shares
            )
    return evaluations
