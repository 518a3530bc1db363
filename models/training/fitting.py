"""Heads of one class against the rest: tuned, fitted on all training images, calibrated, evaluated.

The question is answered by a list of them, the positive class first. Settings and choice are made
for that one; with more than two classes the others take its settings. What the folds have prepared
is shared by all.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.metrics import roc_auc_score

from features.datasets.splits import CROSS_VALIDATION, part_of
from models.decisions.decision import Decision, cross_fitted, fit_decision
from models.evaluation.binary import evaluate
from models.evaluation.classes import ClassEvaluation, evaluate_classes
from models.heads.base import Head, Settings, score, worthwhile_threads
from models.heads.classes import ClassHead, share_out
from models.heads.ensemble import ENSEMBLE, TITLE, Ensemble, average
from models.heads.folds.fold import Fold, whole
from models.machine import give_back
from models.patients.fusion import FUSION, STRENGTH, cross_fit, fit_fusion
from models.patients.tables import BASELINE, Metadata
from models.training.classes import class_codes
from models.training.options import Study
from models.training.results import Candidate, Classes, HeadResult
from models.training.tuning import Tuned, Workers, limited_pool, threads, tune, tune_each, workers

__all__ = ["fit_classes", "fit_ensemble", "fit_fused", "fit_head", "fit_heads", "fit_metadata"]

Floats = npt.NDArray[np.float64]
Labels = npt.NDArray[np.int8]


@dataclass(frozen=True)
class _Scored:
    """A class against the rest: what was fitted, and its scores by split, first the out-of-fold."""

    estimator: Any
    scores: dict[str, Floats]


@dataclass(frozen=True)
class _Decided:
    """Its decision, and what that makes of its scores; by what other folds say, out of fold."""

    decision: Decision
    losses: dict[str, float]
    probabilities: dict[str, Floats]
    suspicious: dict[str, npt.NDArray[np.bool_]]


def fit_heads(heads: Mapping[str, Head], study: Study) -> dict[str, HeadResult]:
    """Fit heads of the positive class, side by side where that leaves no core idle.

    Parameters
    ----------
    heads : mapping of str to Head
    study : Study

    Returns
    -------
    dict of str to HeadResult
        In the order of `heads`.
    """
    if not _are_side_by_side(heads, study):
        return {name: fit_head(head, study) for name, head in heads.items()}
    tasks = len(heads) * (len(study.folds) + 1)
    # One thread for each head to hand out its folds and to evaluate what comes back.
    with (
        limited_pool(len(heads), 1) as pool,
        workers(study.options.jobs, tasks) as shared,
    ):
        # Those that take longest come last in the table, and begin first: at the end little is left
        # to wait for.
        found = {
            name: pool.submit(fit_head, heads[name], study, shared)
            for name in reversed(list(heads))
        }
        return {name: found[name].result() for name in heads}


def _are_side_by_side(heads: Mapping[str, Head], study: Study) -> bool:
    """Tell whether every core is kept busy by folds that take one thread each."""
    count = threads(study.options.jobs)
    X: Any = study.train.X
    if count == 1 or any(head.by_blocks(X) for head in heads.values()):
        return False
    return count <= len(study.folds) or worthwhile_threads(X) == 1


def fit_head(head: Head, study: Study, shared: Workers | None = None) -> HeadResult:
    """Search the settings of a head for the positive class, and fit it with the best.

    Parameters
    ----------
    head : Head
    study : Study
    shared : Workers, optional
        Threads that search other heads, too.

    Returns
    -------
    HeadResult
    """
    began, options, train = time.perf_counter(), study.options, study.train
    given = options.settings.get(head.name)
    candidates = [given] if given else head.candidates(train.X.shape[1])
    study.tell(f"{head.title}: {len(candidates)} candidates on {len(study.folds)} folds")
    tuned = tune(
        head,
        study.folds,
        train.y,
        candidates=candidates,
        seed=options.seed,
        jobs=options.jobs,
        beside=lambda inner: head.prepare(
            study.everything, candidates, seed=options.seed, jobs=inner
        ),
        reuse=study.reuse,
        shared=shared,
    )
    study.tell(f"{head.title}: fitting on all {len(train.y)} training images")
    scored = _fit(head, study, [train.y], [tuned], shared)[0]
    if len(study.labels) == 1:
        head.forget([*study.folds, study.everything])
        give_back()
    return _result(head.name, head.title, tuned, scored, study, began)


def fit_ensemble(members: Mapping[str, HeadResult], study: Study) -> HeadResult:
    """Average heads by the scores that they already gave.

    Parameters
    ----------
    members : mapping of str to HeadResult
        The heads to average, by name.
    study : Study
        Of these heads.

    Returns
    -------
    HeadResult
    """
    began = time.perf_counter()
    scored = _average({name: _scored_of(member) for name, member in members.items()})
    tuned = _tried({"members": ", ".join(members)}, scored, study)
    study.tell(f"{TITLE}: the average of {' and '.join(one.title for one in members.values())}")
    return _result(ENSEMBLE, TITLE, tuned, scored, study, began)


def fit_metadata(metadata: Metadata, study: Study, notes: list[str]) -> HeadResult:
    """Fit what metadata alone can tell, on the same images and folds.

    Parameters
    ----------
    metadata : Metadata
    study : Study
    notes : list of str
        Gets what a reader must know of the metadata.

    Returns
    -------
    HeadResult

    Raises
    ------
    TrainingError
        If nothing is known of any training image.
    """
    encoded, told = metadata.encode({split: part.items for split, part in study.parts.items()})
    notes += told
    parts = {split: replace(part, X=encoded[split]) for split, part in study.parts.items()}
    X = parts["train"].X
    folds = [Fold(X, fold.train, fold.test) for fold in study.folds]
    return fit_head(
        BASELINE, replace(study, parts=parts, folds=folds, everything=whole(X), reuse=None)
    )


def fit_fused(metadata: Metadata, chosen: HeadResult, study: Study) -> HeadResult:
    """Fit metadata on top of the chosen head's scores.

    Parameters
    ----------
    metadata : Metadata
    chosen : HeadResult
        The head.
    study : Study
        Of this head.

    Returns
    -------
    HeadResult
        Its estimator is a `models.patients.fusion.Fusion`.
    """
    began = time.perf_counter()
    title = f"{chosen.title} + {', '.join(metadata.columns)}"
    study.tell(f"{title}: cross-fitted on {len(study.folds)} folds")
    known = {split: metadata.of(part.items) for split, part in study.parts.items()}
    given = _scored_of(chosen).scores
    stacked = given[CROSS_VALIDATION], known["train"], study.train.y, metadata.columns
    fusion = fit_fusion(*stacked)
    scores = {
        split: cross_fit(*stacked, study.tests)
        if split == CROSS_VALIDATION
        else fusion.score(found, known[split])
        for split, found in given.items()
    }
    scored = _Scored(fusion, scores)
    tuned = _tried({"C": STRENGTH, "head": chosen.name}, scored, study)
    return _result(FUSION, title, tuned, scored, study, began)


def fit_classes(
    heads: Mapping[str, Head], results: Mapping[str, HeadResult], study: Study, chosen: str
) -> Classes | None:
    """Fit heads of the other classes against the rest, beside those of the positive one.

    They take the settings that were found for that one. Nothing is chosen by their figures.

    Parameters
    ----------
    heads : mapping of str to Head
        Those that can be fitted to embeddings.
    results : mapping of str to HeadResult
        Of the positive class: of these by the same names, and of ensembles of them.
    study : Study
        Of these heads.
    chosen : str
        The head that is served.

    Returns
    -------
    Classes or None
        None with two classes, of which there are no others.
    """
    labels = study.labels
    if len(labels) == 1:
        return None
    codes = {split: class_codes(part.items, labels) for split, part in study.parts.items()}
    counts = np.bincount(codes["train"][codes["train"] >= 0])
    shares = tuple((counts / counts.sum()).tolist())
    ys = [(codes["train"] == place).astype(np.int8) for place in range(1, len(labels))]
    evaluations: dict[str, dict[str, ClassEvaluation]] = {}
    others: tuple[ClassHead, ...] = ()
    for name, scored in _fit_others(heads, results, study, ys).items():
        decided = [_decide(y, each, study) for y, each in zip(ys, scored, strict=True)]
        evaluations[name] = {}
        for split, evaluation in results[name].evaluations.items():
            truth = codes[part_of(split)]
            claimed = np.stack([each.probabilities[split] for each in decided], axis=1)
            probabilities = share_out(evaluation.probabilities, claimed)
            if (known := truth >= 0).any():
                evaluations[name][split] = evaluate_classes(
                    split, labels, truth[known], probabilities[known], shares
                )
        if name == chosen:
            others = tuple(
                ClassHead(label, each.estimator, its.decision.calibration)
                for label, each, its in zip(labels[1:], scored, decided, strict=True)
            )
    return Classes(labels, shares, evaluations, others)


def _fit_others(
    heads: Mapping[str, Head],
    results: Mapping[str, HeadResult],
    study: Study,
    ys: Sequence[Labels],
) -> dict[str, list[_Scored]]:
    """Fit all heads to the labels of other classes, and average them as the results are."""
    scored: dict[str, list[_Scored]] = {}
    seed, jobs = study.options.seed, study.options.jobs
    for name, head in heads.items():
        study.tell(f"{head.title}: {len(ys)} more classes, one against the rest")
        known = [results[name].settings]
        tuned = tune_each(head, study.folds, ys, candidates=known, seed=seed, jobs=jobs)
        scored[name] = _fit(head, study, ys, tuned)
    for name, result in results.items():
        if isinstance(result.estimator, Ensemble):
            members = result.estimator.members
            scored[name] = [
                _average({member: scored[member][place] for member in members})
                for place in range(len(ys))
            ]
    return scored


def _fit(
    head: Head,
    study: Study,
    ys: Sequence[Labels],
    tuned: Sequence[Tuned],
    shared: Workers | None = None,
) -> list[_Scored]:
    """Fit a head to all training images once for each set of labels; score the other splits."""
    found = []
    for y, best in zip(ys, tuned, strict=True):
        estimator = _refit(head, best.settings, study, y, shared)
        scores = {CROSS_VALIDATION: best.scores}
        for split, part in study.parts.items():
            if split != "train":
                scores[split] = score(estimator, part.X)
        found.append(_Scored(estimator, scores))
    return found


def _refit(head: Head, settings: Settings, study: Study, y: Labels, shared: Workers | None) -> Any:
    """Fit to all training images, or build what an earlier run found to be the fit."""
    data, seed = study.everything, study.options.seed
    jobs = shared.inner if shared else threads(study.options.jobs)
    limited = shared is not None
    # What was found before is of the positive class.
    reuse = study.reuse if y is study.train.y else None
    solution = reuse.recall_fit(head, settings, seed) if reuse else None
    if solution is None:
        solution = head.solve(settings, data, y, seed=seed, jobs=jobs, limited=limited)
        if solution is None:
            return head.refit(settings, data, y, seed=seed, jobs=jobs, limited=limited)
        if reuse:
            reuse.keep_fit(head, settings, seed, solution)
    return head.build(solution, settings, data, seed=seed)


def _average(members: Mapping[str, _Scored]) -> _Scored:
    given = {
        split: {name: member.scores[split] for name, member in members.items()}
        for split in next(iter(members.values())).scores
    }
    unseen, scales = average(given.pop(CROSS_VALIDATION))
    estimator = Ensemble({name: member.estimator for name, member in members.items()}, scales)
    others = {split: estimator.combine(scores) for split, scores in given.items()}
    return _Scored(estimator, {CROSS_VALIDATION: unseen, **others})


def _decide(y: Labels, scored: _Scored, study: Study) -> _Decided:
    """Calibrate by the out-of-fold scores, and decide on every split."""
    options, unseen = study.options, scored.scores[CROSS_VALIDATION]
    decision, losses = fit_decision(
        y, unseen, study.tests, options.rule, method=options.calibration, alpha=options.alpha
    )
    probabilities, suspicious = {}, {}
    for split, scores in scored.scores.items():
        probabilities[split] = decision.calibration.apply(scores)
        suspicious[split] = decision.flags(probabilities[split])
    probabilities[CROSS_VALIDATION], suspicious[CROSS_VALIDATION] = cross_fitted(
        y, unseen, study.tests, options.rule, options.calibration
    )
    return _Decided(decision, losses, probabilities, suspicious)


def _scored_of(result: HeadResult) -> _Scored:
    scores = {split: found.scores for split, found in result.evaluations.items()}
    return _Scored(result.estimator, scores)


def _tried(settings: Settings, scored: _Scored, study: Study) -> Tuned:
    """Say of something that has no settings to search how good it is."""
    scores = scored.scores[CROSS_VALIDATION]
    area = float(roc_auc_score(study.train.y, scores))
    return Tuned((Candidate(settings, area),), settings, scores)


def _result(
    name: str, title: str, tuned: Tuned, scored: _Scored, study: Study, began: float
) -> HeadResult:
    """Evaluate a head of the positive class on every split."""
    decided = _decide(study.train.y, scored, study)
    evaluations = {
        split: evaluate(
            split,
            study.part(split).y,
            scores,
            decided.probabilities[split],
            decided.decision.threshold,
            suspicious=decided.suspicious[split],
            seed=study.options.seed,
        )
        for split, scores in scored.scores.items()
    }
    return HeadResult(
        name=name,
        title=title,
        settings=tuned.settings,
        candidates=tuned.candidates,
        evaluations=evaluations,
        decision=decided.decision,
        calibration_losses=decided.losses,
        seconds=time.perf_counter() - began,
        estimator=scored.estimator,
    )
