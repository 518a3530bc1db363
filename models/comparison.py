"""The heads side by side: tuned, calibrated, judged, and one of them chosen."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from itertools import combinations

import numpy as np

from features.cache import Features
from models.decision import TargetSensitivity, ThresholdRule, calibrate, cross_fitted
from models.evaluation import compare_auc, evaluate
from models.heads import HEADS, Head, fit, score
from models.results import Comparison, Evaluation, HeadResult
from models.selection import Part, TrainingError, select
from models.tuning import Fold, make_folds, threads, tune

__all__ = ["TrainingError", "compare_heads"]

Progress = Callable[[str], None]

# Between so many images all inner products are held at once: 0.7 GB per fold.
SVM_LIMIT = 12_000


def compare_heads(
    features: Features,
    *,
    positive: str = "melanoma",
    heads: Sequence[str] | None = None,
    head: str | None = None,
    folds: int = 5,
    seed: int = 0,
    jobs: int = -1,
    rule: ThresholdRule | None = None,
    progress: Progress | None = None,
) -> Comparison:
    """Tune, calibrate and judge heads on the same images, and choose one.

    Only the training images, by cross-validation, decide settings, calibration, threshold and
    choice; the validation and test splits are judged, once, at the end.

    Parameters
    ----------
    features : Features
    positive : str
        Name of the positive class.
    heads : sequence of str, optional
        Keys of `models.heads.HEADS`; all by default.
    head : str, optional
        The head to choose, instead of the one with the best cross-validated area under the ROC
        curve.
    folds : int
    seed : int
        The same seed gives the same result.
    jobs : int
        Threads; -1 is one per core.
    rule : callable, optional
        How the threshold is chosen; `models.decision.TargetSensitivity` by default.
    progress : callable, optional
        Is told in a few words what is being done.

    Returns
    -------
    Comparison

    Raises
    ------
    TrainingError
        If the labels, the embeddings or the options don't allow it; says why.
    """
    tell = progress or (lambda _: None)
    names = _names_of(heads, head)
    if folds < 2:
        raise TrainingError(f"got {folds} folds, but cross-validation needs at least 2")
    selection = select(features, positive=positive, folds=folds)
    train = selection.parts["train"]
    notes = list(selection.notes)
    if "svm" in names and len(train.y) > SVM_LIMIT:
        _leave_out_svm(names, head, len(train.y), notes)
    parts = _fold(train, folds, seed)
    results = {
        name: _judge(
            HEADS[name], selection.parts, parts, rule or TargetSensitivity(), seed, jobs, tell
        )
        for name in names
    }
    judged = {name: result.evaluations["cross-validation"] for name, result in results.items()}
    best = max(judged, key=lambda name: _area(judged[name]))
    notes += _notes_on(results)
    return Comparison(
        labels=selection.labels,
        heads=results,
        chosen=head or best,
        chosen_by="asked for" if head else "best cross-validated ROC AUC on the training images",
        folds=folds,
        seed=seed,
        counts=selection.counts,
        notes=tuple(notes),
        marks=features.marks,
        fingerprint=features.fingerprint,
    )


def _names_of(heads: Sequence[str] | None, head: str | None) -> list[str]:
    names = list(dict.fromkeys(heads if heads is not None else HEADS))
    unknown = [name for name in (*names, *([head] if head else [])) if name not in HEADS]
    if unknown:
        raise TrainingError(f"no head is called {unknown[0]!r}: there are {', '.join(HEADS)}")
    if not names:
        raise TrainingError(f"no head to train: name at least one of {', '.join(HEADS)}")
    if head and head not in names:
        raise TrainingError(
            f"the head to choose, {head}, is not among those to train: {', '.join(names)}"
        )
    return names


def _leave_out_svm(names: list[str], head: str | None, n: int, notes: list[str]) -> None:
    if head == "svm" or names == ["svm"]:
        raise TrainingError(
            f"the SVM takes up to {SVM_LIMIT:,} training images and there are {n:,}: "
            "use another head"
        )
    names.remove("svm")
    notes.append(f"The SVM was left out: it takes up to {SVM_LIMIT:,} training images, not {n:,}.")


def _fold(train: Part, folds: int, seed: int) -> list[Fold]:
    parts = make_folds(train.X, train.y, train.groups, folds=folds, seed=seed)
    for part in parts:
        if any(len(np.unique(train.y[rows])) < 2 for rows in (part.train, part.test)):
            raise TrainingError(
                f"the images can't be split into {folds} folds that each have both classes, "
                "because too many belong together: ask for fewer folds"
            )
    return parts


def _judge(
    head: Head,
    parts: dict[str, Part],
    folds: list[Fold],
    rule: ThresholdRule,
    seed: int,
    jobs: int,
    tell: Progress,
) -> HeadResult:
    began = time.perf_counter()
    train = parts["train"]
    candidates = head.candidates(train.X.shape[1])
    tell(f"{head.title}: {len(candidates)} candidates on {len(folds)} folds")
    tuned = tune(head, folds, candidates=candidates, seed=seed, jobs=jobs)
    calibration = calibrate(train.y, tuned.scores)
    threshold = rule(train.y, calibration.apply(tuned.scores))
    probabilities, suspicious = cross_fitted(
        train.y, tuned.scores, [fold.test for fold in folds], rule
    )
    evaluations = {
        "cross-validation": evaluate(
            "cross-validation",
            train.y,
            tuned.scores,
            probabilities,
            threshold.value,
            suspicious=suspicious,
        )
    }
    tell(f"{head.title}: fitting on all {len(train.y)} training images")
    estimator = fit(head, tuned.settings, train.X, train.y, seed=seed, jobs=threads(jobs))
    for split in ("valid", "test"):
        if split in parts:
            scores = score(estimator, parts[split].X)
            evaluations[split] = evaluate(
                split, parts[split].y, scores, calibration.apply(scores), threshold.value
            )
    return HeadResult(
        name=head.name,
        title=head.title,
        settings=tuned.settings,
        candidates=tuned.candidates,
        evaluations=evaluations,
        calibration=calibration,
        threshold=threshold.value,
        threshold_rule=threshold.rule,
        seconds=time.perf_counter() - began,
        estimator=estimator,
    )


def _area(evaluation: Evaluation) -> float:
    return evaluation.auc.value if evaluation.auc else 0.0


def _notes_on(results: dict[str, HeadResult]) -> list[str]:
    notes = []
    for result in results.values():
        if result.calibration.slope == 0:
            notes.append(
                f"{result.title} is no better than chance in cross-validation: all its "
                "probabilities are the share of positives."
            )
    some = next(iter(results.values()))
    for split, evaluation in some.evaluations.items():
        if evaluation.auc is None:
            notes.append(
                f"The {split} split has a single class: no ROC AUC and no average precision there."
            )
    for first, second in combinations(results.values(), 2):
        one, other = (found.evaluations["cross-validation"] for found in (first, second))
        difference = compare_auc(one.labels, one.scores, other.scores).difference
        if difference.low <= 0 <= difference.high:
            notes.append(
                f"{first.title} and {second.title} can't be told apart by these data: their "
                f"cross-validated ROC AUCs differ by {difference.value:+.3f} "
                f"(95 % interval {difference.low:+.3f} to {difference.high:+.3f}, paired DeLong)."
            )
    return notes
