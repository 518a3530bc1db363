"""One head at a time: tuned, calibrated, fitted on all training images, and judged."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.metrics import roc_auc_score

from models.decisions.calibration import calibrate
from models.decisions.thresholds import ThresholdRule, cross_fitted, uncertain_zone
from models.evaluation.binary import evaluate
from models.heads.base import Head, Settings, score, worthwhile_threads
from models.heads.ensemble import ENSEMBLE, TITLE, Ensemble, average
from models.heads.fold import Fold, whole
from models.heads.refitting import prepare, refit
from models.heads.streaming import streams
from models.patients.fusion import FUSION, STRENGTH, cross_fit, fit_fusion
from models.patients.tables import BASELINE, Metadata
from models.training.results import Candidate, HeadResult
from models.training.selection import Part
from models.training.tuning import Reuse, Tuned, Workers, threads, tune, workers

__all__ = ["Terms", "judge", "judge_all", "judge_ensemble", "judge_fusion", "judge_metadata"]

Progress = Callable[[str], None]


@dataclass(frozen=True)
class Terms:
    """What all heads are judged by alike.

    Parameters
    ----------
    rule : callable
        How the threshold is chosen.
    calibration : str
        A method, or ``"auto"`` for the best of them.
    alpha : float
        Share of each class that may lie on the wrong side of the zone of uncertainty.
    seed, jobs : int
    tell : callable
        Is told what is being done.
    settings : mapping of str to dict
        Of heads, by name, for which nothing is searched.
    reuse : Reuse or None
        What was found before.
    """

    rule: ThresholdRule
    calibration: str
    alpha: float
    seed: int
    jobs: int
    tell: Progress
    settings: Mapping[str, Settings]
    reuse: Reuse | None


def judge_all(
    heads: Mapping[str, Head],
    parts: dict[str, Part],
    folds: list[Fold],
    everything: Fold,
    terms: Terms,
) -> dict[str, HeadResult]:
    """Tune and judge heads, side by side where that leaves no core idle.

    Parameters
    ----------
    heads : mapping of str to Head
    parts, folds, everything, terms
        As for `judge`.

    Returns
    -------
    dict of str to HeadResult
        In the order of `heads`.
    """
    if not _are_side_by_side(heads, parts["train"].X, folds, terms.jobs):
        return {name: judge(head, parts, folds, everything, terms) for name, head in heads.items()}
    tasks = len(heads) * (len(folds) + 1)
    # One thread for each head to hand out its folds and to judge what comes back.
    with ThreadPoolExecutor(len(heads)) as judges, workers(terms.jobs, tasks) as shared:
        # Those that take longest come last in the table, and begin first: at the end little is left
        # to wait for.
        found = {
            name: judges.submit(judge, heads[name], parts, folds, everything, terms, shared)
            for name in reversed(list(heads))
        }
        return {name: found[name].result() for name in heads}


def _are_side_by_side(heads: Mapping[str, Head], X: Any, folds: Sequence[Fold], jobs: int) -> bool:
    """Tell whether every core is kept busy by folds that take one thread each."""
    if threads(jobs) == 1 or any(streams(head, X) for head in heads.values()):
        return False
    return threads(jobs) <= len(folds) or worthwhile_threads(X) == 1


def judge(
    head: Head,
    parts: dict[str, Part],
    folds: list[Fold],
    everything: Fold,
    terms: Terms,
    shared: Workers | None = None,
) -> HeadResult:
    """Tune and judge a head.

    Parameters
    ----------
    head : Head
    parts : dict of str to Part
        ``"train"``, and ``"valid"`` and ``"test"`` where the data has them.
    folds : list of Fold
        Of the training images.
    everything : Fold
        All training images, to fit on in the end.
    terms : Terms
    shared : Workers, optional
        Threads that search other heads, too.

    Returns
    -------
    HeadResult
    """
    began = time.perf_counter()
    train, seed = parts["train"], terms.seed
    given = terms.settings.get(head.name)
    candidates = [given] if given else head.candidates(train.X.shape[1])
    terms.tell(f"{head.title}: {len(candidates)} candidates on {len(folds)} folds")
    tuned = tune(
        head,
        folds,
        train.y,
        candidates=candidates,
        seed=seed,
        jobs=terms.jobs,
        beside=lambda inner: prepare(head, everything, candidates, seed=seed, jobs=inner),
        reuse=terms.reuse,
        shared=shared,
    )
    terms.tell(f"{head.title}: fitting on all {len(train.y)} training images")
    estimator = refit(
        head,
        tuned.settings,
        everything,
        train.y,
        seed=seed,
        jobs=shared.inner if shared else threads(terms.jobs),
        limited=shared is not None,
    )
    scores = {split: score(estimator, part.X) for split, part in parts.items() if split != "train"}
    return _result(head.name, head.title, tuned, estimator, scores, parts, folds, terms, began)


def judge_ensemble(
    members: Mapping[str, HeadResult], parts: dict[str, Part], folds: list[Fold], terms: Terms
) -> HeadResult:
    """Judge the average of heads by the scores that they already gave.

    Parameters
    ----------
    members : mapping of str to HeadResult
        The heads to average, by name; judged on the same images and folds.
    parts, folds, terms
        As for `judge`.

    Returns
    -------
    HeadResult
    """
    began = time.perf_counter()
    given = {
        split: {name: member.evaluations[split].scores for name, member in members.items()}
        for split in next(iter(members.values())).evaluations
    }
    scores, scales = average(given.pop("cross-validation"))
    estimator = Ensemble({name: member.estimator for name, member in members.items()}, scales)
    settings: Settings = {"members": ", ".join(members)}
    auc = float(roc_auc_score(parts["train"].y, scores))
    tuned = Tuned((Candidate(settings, auc),), settings, scores)
    terms.tell(f"{TITLE}: the average of {' and '.join(one.title for one in members.values())}")
    others = {split: estimator.combine(found) for split, found in given.items()}
    return _result(ENSEMBLE, TITLE, tuned, estimator, others, parts, folds, terms, began)


def _result(
    name: str,
    title: str,
    tuned: Tuned,
    estimator: Any,
    scores: Mapping[str, npt.NDArray[np.float64]],
    parts: dict[str, Part],
    folds: list[Fold],
    terms: Terms,
    began: float,
) -> HeadResult:
    """Calibrate a head by its out-of-fold scores, and judge it by these and by other splits'."""
    train, seed = parts["train"], terms.seed
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
    for split, found in scores.items():
        evaluations[split] = evaluate(
            split,
            parts[split].y,
            found,
            calibration.apply(found),
            threshold.value,
            seed=seed,
        )
    return HeadResult(
        name=name,
        title=title,
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


def judge_metadata(
    metadata: Metadata, parts: dict[str, Part], folds: list[Fold], terms: Terms, notes: list[str]
) -> HeadResult:
    """Judge what metadata alone can tell, on the same images, folds and terms.

    Parameters
    ----------
    metadata : Metadata
    parts, folds, terms
        As for `judge`.
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
    encoded, told = metadata.encode({split: part.items for split, part in parts.items()})
    notes += told
    described = {split: replace(part, X=encoded[split]) for split, part in parts.items()}
    train = described["train"]
    same = [Fold(train.X, fold.train, fold.test) for fold in folds]
    return judge(BASELINE, described, same, whole(train.X), replace(terms, reuse=None))


def judge_fusion(
    metadata: Metadata,
    chosen: HeadResult,
    parts: dict[str, Part],
    folds: list[Fold],
    terms: Terms,
) -> HeadResult:
    """Judge the chosen head's scores together with metadata, on the same images, folds and terms.

    Parameters
    ----------
    metadata : Metadata
    chosen : HeadResult
        The head, judged on the same images and folds.
    parts, folds, terms
        As for `judge`.

    Returns
    -------
    HeadResult
        Its estimator is a `models.patients.fusion.Fusion`.
    """
    began = time.perf_counter()
    title = f"{chosen.title} + {', '.join(metadata.columns)}"
    terms.tell(f"{title}: cross-fitted on {len(folds)} folds")
    train, known = parts["train"], {split: metadata.of(part.items) for split, part in parts.items()}
    given = {split: judged.scores for split, judged in chosen.evaluations.items()}
    unseen = given.pop("cross-validation")
    stacked = known["train"], train.y, metadata.columns
    fusion = fit_fusion(unseen, *stacked)
    scores = cross_fit(unseen, *stacked, [fold.test for fold in folds])
    settings: Settings = {"C": STRENGTH, "head": chosen.name}
    tuned = Tuned((Candidate(settings, float(roc_auc_score(train.y, scores))),), settings, scores)
    others = {split: fusion.score(found, known[split]) for split, found in given.items()}
    return _result(FUSION, title, tuned, fusion, others, parts, folds, terms, began)
