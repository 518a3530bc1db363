"""The heads side by side: tuned, calibrated, judged, and one of them chosen."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from features.cache import Features
from models.calibrating import METHODS, calibrate
from models.decision import TargetSensitivity, ThresholdRule, cross_fitted, uncertain_zone
from models.evaluation import evaluate
from models.heads import HEADS, Head, fit, score
from models.metadata import BASELINE, Metadata, subgroups
from models.paired import paired_tests, sentence
from models.results import Comparison, Evaluation, HeadResult, PairedTest, Subgroup
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
    calibration: str = "auto",
    alpha: float = 0.1,
    metadata: Metadata | None = None,
    groups: npt.NDArray[np.str_] | None = None,
    on_leak: str = "drop",
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
    calibration : {"auto", "platt", "isotonic", "beta"}
        ``"auto"`` takes the one with the lowest cross-validated log loss.
    alpha : float
        Share of each class that may lie on the wrong side of the zone of uncertainty.
    metadata : Metadata, optional
        Adds a baseline that sees age, sex and site alone, and the chosen head by subgroup.
    groups : ndarray of str, shape (items,), optional
        Images that belong together besides those whose `group` says so; empty where alone.
    on_leak : {"drop", "group", "ignore"}
        What becomes of training images that belong together with an image of another split.
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
    if calibration not in ("auto", *METHODS):
        raise TrainingError(
            f"no calibration is called {calibration!r}: there are auto, {', '.join(METHODS)}"
        )
    if not 0 < alpha < 0.5:
        raise TrainingError(f"got alpha {alpha:g}, expected an error rate between 0 and 0.5")
    selection = select(features, positive=positive, folds=folds, groups=groups, on_leak=on_leak)
    train = selection.parts["train"]
    notes = list(selection.notes)
    if "svm" in names and len(train.y) > SVM_LIMIT:
        _leave_out_svm(names, head, len(train.y), notes)
    parts = _fold(train, folds, seed)
    terms = _Terms(rule or TargetSensitivity(), calibration, alpha, seed, jobs, tell)
    results = {name: _judge(HEADS[name], selection.parts, parts, terms) for name in names}
    judged = {name: result.evaluations["cross-validation"] for name, result in results.items()}
    chosen = head or max(judged, key=lambda name: _area(judged[name]))
    found: tuple[Subgroup, ...] = ()
    if metadata is not None:
        results[BASELINE.name] = _judge_metadata(metadata, selection.parts, parts, terms, notes)
        found = subgroups(metadata, selection.parts, results[chosen].evaluations)
    tests = paired_tests(results)
    notes += _notes_on(results, tests)
    return Comparison(
        labels=selection.labels,
        heads=results,
        chosen=chosen,
        chosen_by="asked for" if head else "best cross-validated ROC AUC on the training images",
        folds=folds,
        seed=seed,
        counts=selection.counts,
        notes=tuple(notes),
        marks=features.marks,
        fingerprint=features.fingerprint,
        tests=tests,
        subgroups=found,
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


@dataclass(frozen=True)
class _Terms:
    """What all heads are judged by alike."""

    rule: ThresholdRule
    calibration: str
    alpha: float
    seed: int
    jobs: int
    tell: Progress


def _judge(head: Head, parts: dict[str, Part], folds: list[Fold], terms: _Terms) -> HeadResult:
    began = time.perf_counter()
    train, seed = parts["train"], terms.seed
    candidates = head.candidates(train.X.shape[1])
    terms.tell(f"{head.title}: {len(candidates)} candidates on {len(folds)} folds")
    tuned = tune(head, folds, candidates=candidates, seed=seed, jobs=terms.jobs)
    tests = [fold.test for fold in folds]
    calibration, losses = calibrate(train.y, tuned.scores, tests, terms.calibration)
    known = calibration.apply(tuned.scores)
    threshold = terms.rule(train.y, known)
    zone = uncertain_zone(train.y, known, threshold.value, terms.alpha)
    probabilities, suspicious = cross_fitted(
        train.y, tuned.scores, tests, terms.rule, terms.calibration
    )
    evaluations = {
        "cross-validation": evaluate(
            "cross-validation",
            train.y,
            tuned.scores,
            probabilities,
            threshold.value,
            suspicious=suspicious,
            seed=seed,
        )
    }
    terms.tell(f"{head.title}: fitting on all {len(train.y)} training images")
    estimator = fit(head, tuned.settings, train.X, train.y, seed=seed, jobs=threads(terms.jobs))
    for split in ("valid", "test"):
        if split in parts:
            scores = score(estimator, parts[split].X)
            evaluations[split] = evaluate(
                split,
                parts[split].y,
                scores,
                calibration.apply(scores),
                threshold.value,
                seed=seed,
            )
    return HeadResult(
        name=head.name,
        title=head.title,
        settings=tuned.settings,
        candidates=tuned.candidates,
        evaluations=evaluations,
        calibration=calibration,
        calibration_losses=dict(losses),
        threshold=threshold.value,
        threshold_rule=threshold.rule,
        zone=zone,
        seconds=time.perf_counter() - began,
        estimator=estimator,
    )


def _judge_metadata(
    metadata: Metadata, parts: dict[str, Part], folds: list[Fold], terms: _Terms, notes: list[str]
) -> HeadResult:
    """Judge the baseline on the same images, folds and terms."""
    encoded, told = metadata.encode({split: part.items for split, part in parts.items()})
    notes += told
    described = {split: replace(part, X=encoded[split]) for split, part in parts.items()}
    train = described["train"]
    same = [Fold(train.X, train.y, fold.train, fold.test) for fold in folds]
    return _judge(BASELINE, described, same, terms)


def _area(evaluation: Evaluation) -> float:
    return evaluation.auc.value if evaluation.auc else 0.0


def _notes_on(results: dict[str, HeadResult], tests: Sequence[PairedTest]) -> list[str]:
    notes = []
    for result in results.values():
        if result.calibration.flat:
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
    return notes + [sentence(test) for test in tests if test.split == "cross-validation"]
