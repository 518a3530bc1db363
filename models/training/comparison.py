"""The heads side by side: tuned, calibrated, evaluated, and one of them chosen."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from features.cache.contents import Features
from features.datasets.splits import CROSS_VALIDATION
from features.networks.weights import may_have_seen
from models.errors import TrainingError
from models.evaluation.paired import PairedTest, compare_all, sentence
from models.evaluation.values import Evaluation
from models.heads import HEADS
from models.heads.base import Head
from models.heads.ensemble import ENSEMBLE, MEMBERS
from models.patients.fusion import FUSION
from models.patients.tables import BASELINE, Metadata
from models.training.breakdowns.leaks import audit_leaks
from models.training.breakdowns.subgroups import subgroups
from models.training.fitting import (
    fit_classes,
    fit_ensemble,
    fit_fused,
    fit_heads,
    fit_metadata,
)
from models.training.options import Options, Progress, Study, make_study
from models.training.own_heads import find_head
from models.training.results import Comparison, HeadResult, Subgroup
from models.training.selection import Selection, select
from models.training.tuning import threads

__all__ = ["compare_heads", "conclude", "paired_tests"]


def compare_heads(
    features: Features,
    options: Options | None = None,
    *,
    metadata: Metadata | None = None,
    groups: npt.NDArray[np.str_] | None = None,
    progress: Progress | None = None,
) -> Comparison:
    """Tune, calibrate and evaluate heads on the same images, and choose one.

    Only the training images, by cross-validation, decide settings, calibration, threshold and
    choice; the validation and test splits are evaluated, once, at the end.

    Parameters
    ----------
    features : Features
    options : Options, optional
        Those with their defaults, if not given.
    metadata : Metadata, optional
        Adds a baseline that sees age, sex and site alone, the chosen head's score together with
        them, and the chosen head by subgroup.
    groups : ndarray of str, shape (items,), optional
        Images that belong together besides those whose `group` says so; empty where alone. None
        if nobody looked for copies.
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
    options = options or Options()
    known = _find_heads(options.heads, options.head)
    names = list(known)
    members = _find_members(options.heads, names)
    selection = select(
        features,
        positive=options.positive,
        folds=options.folds,
        groups=groups,
        on_leak=options.on_leak,
        memory=options.memory,
        threads=threads(options.jobs),
    )
    train = selection.parts["train"]
    notes = list(selection.notes)
    if (seen := may_have_seen(features.trained_on)) is not None:
        notes.append(seen)
    known = {name: each.suited_to(train.X) for name, each in known.items()}
    notes += [each.note for each in known.values() if each.note]
    study, told = make_study(selection.parts, options, progress or (lambda _: None))
    results = fit_heads(known, study)
    if members:
        results[ENSEMBLE] = fit_ensemble({name: results[name] for name in members}, study)
    return conclude(
        features,
        selection,
        study,
        known,
        results,
        metadata=metadata,
        groups=groups,
        told=(notes, told),
    )


def conclude(
    features: Features,
    selection: Selection,
    study: Study,
    known: Mapping[str, Head],
    results: dict[str, HeadResult],
    *,
    metadata: Metadata | None,
    groups: npt.NDArray[np.str_] | None,
    told: tuple[list[str], list[str]],
) -> Comparison:
    """Choose one of heads that were fitted, and fit and count what depends on the choice.

    Parameters
    ----------
    features : Features
    selection : Selection
    study : Study
        That the heads were fitted in.
    known : mapping of str to Head
        By the names in `results`, but for the ensemble.
    results : dict of str to HeadResult
        Gets what is fitted to metadata.
    metadata, groups : optional
        As for `compare_heads`.
    told : tuple of (list of str, list of str)
        What a reader must know, before and after what is found here.

    Returns
    -------
    Comparison
    """
    options, head = study.options, study.options.head
    notes = list(told[0])
    judged = {
        name: result.evaluations["cross-validation"]
        for name, result in results.items()
        if name == ENSEMBLE or known[name].storable
    }
    chosen = head or max(judged, key=lambda name: _area(judged[name]))
    found: tuple[Subgroup, ...] = ()
    if metadata is not None:
        results[BASELINE.name] = fit_metadata(metadata, study, notes)
        fused = fit_fused(metadata, results[chosen], study)
        results[FUSION] = fused
        notes.append(
            f"Where any of {', '.join(metadata.columns)} is given beside an image, the bundle "
            f"judges by {fused.title}, with its own threshold and zone."
        )
        found = subgroups(metadata, selection.parts, results[chosen].evaluations)
    tests = paired_tests(results, options.folds)
    classes = fit_classes(known, results, study, chosen)
    notes += [*_notes_on(results, tests, results[chosen].title), *told[1]]
    notes += [
        f"{one.title} is compared but was not up for choice: a bundle can't hold its parts."
        for one in known.values()
        if not one.storable
    ]
    return Comparison(
        labels=selection.labels,
        heads=results,
        chosen=chosen,
        chosen_by="asked for" if head else "best cross-validated ROC AUC on the training images",
        folds=options.folds,
        seed=options.seed,
        counts=selection.counts,
        notes=tuple(notes),
        marks=features.marks,
        fingerprint=features.fingerprint,
        tests=tests,
        subgroups=found,
        classes=classes,
        images={part: chosen_from.items for part, chosen_from in selection.parts.items()},
        audit=audit_leaks(features, selection.parts, groups, results[chosen].evaluations),
    )


def _find_heads(heads: Sequence[str] | None, head: str | None) -> dict[str, Head]:
    named = [*HEADS, ENSEMBLE] if heads is None else list(heads)
    known = {name: find_head(name) for name in named if name != ENSEMBLE}
    if not known:
        raise TrainingError(f"no head to train: name at least one of {', '.join(HEADS)}")
    if head and head not in named:
        if head != ENSEMBLE:
            find_head(head)
        raise TrainingError(
            f"the head to choose, {head}, is not among those to train: {', '.join(named)}"
        )
    wanted = [head] if head and head != ENSEMBLE else list(known)
    if not any(known[name].storable for name in wanted):
        raise TrainingError(
            f"a bundle can't hold {wanted[0]}, which is made of other parts than those that are "
            f"safe to load: it is compared with others, one of which is to be {', '.join(HEADS)} "
            "and goes into the bundle"
        )
    return known


def _find_members(heads: Sequence[str] | None, known: Sequence[str]) -> list[str]:
    """Name what the ensemble averages; nothing if it isn't wanted."""
    if heads is not None and ENSEMBLE not in heads:
        return []
    members = [name for name in MEMBERS if name in known]
    if len(members) < 2:
        raise TrainingError(
            f"the {ENSEMBLE} averages {' and '.join(MEMBERS)}: ask for those heads too"
        )
    return members


def _area(evaluation: Evaluation) -> float:
    return evaluation.auc.value if evaluation.auc else 0.0


def _notes_on(
    results: dict[str, HeadResult], tests: Sequence[PairedTest], chosen: str
) -> list[str]:
    notes = []
    for result in results.values():
        if result.decision.calibration.flat:
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
    return notes + [
        sentence(test)
        for test in tests
        # The table has all pairs; what a reader of the choice must know is who came near it.
        if test.split == "cross-validation" and chosen in (test.first, test.second)
    ]


def paired_tests(heads: Mapping[str, HeadResult], folds: int) -> tuple[PairedTest, ...]:
    """Compare every pair of heads on every split.

    Parameters
    ----------
    heads : mapping of str to HeadResult
        Evaluated on the same images.
    folds : int
        Of the cross-validation.

    Returns
    -------
    tuple of PairedTest
        Splits with fewer than two images of a class are left out. Areas by DeLong, in
        cross-validation with Nadeau and Bengio's variance; sensitivities and specificities at each
        head's own threshold by McNemar.
    """
    some = next(iter(heads.values())).evaluations
    found: list[PairedTest] = []
    for split, judged in some.items():
        if 2 <= judged.positives <= judged.n - 2:
            named = [(head.title, head.evaluations[split]) for head in heads.values()]
            found += compare_all(split, named, folds=folds if split == CROSS_VALIDATION else None)
    return tuple(found)
