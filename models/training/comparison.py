"""The heads side by side: tuned, calibrated, judged, and one of them chosen."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import numpy.typing as npt

from features.cache.contents import Features
from features.cache.rows import Rows
from models.decisions.calibration import METHODS
from models.decisions.thresholds import TargetSensitivity, ThresholdRule
from models.errors import TrainingError
from models.evaluation.paired import PairedTest, compare_all, sentence
from models.evaluation.values import Evaluation
from models.heads.base import HEADS, Head, Settings
from models.heads.ensemble import ENSEMBLE, MEMBERS
from models.heads.fold import Fold, whole
from models.heads.nystroem import NYSTROEM
from models.patients.fusion import FUSION
from models.patients.tables import BASELINE, Metadata
from models.training.classes import judge_classes, strata
from models.training.fitting import Terms, judge_all, judge_ensemble, judge_fusion, judge_metadata
from models.training.folds import make_folds
from models.training.leaks import audit_leaks
from models.training.own_heads import find_head
from models.training.results import Comparison, HeadResult, Subgroup
from models.training.selection import Part, select
from models.training.subgroups import subgroups
from models.training.tuning import Reuse, threads

__all__ = ["compare_heads", "paired_tests"]

Progress = Callable[[str], None]


# Between so many images all inner products are held at once: 0.7 GB per fold.
SVM_LIMIT = 12_000


_NOTE_ON_NYSTROEM = (
    "The SVM is an approximation (Nyström's): there are too many training images for the exact one."
)


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
    memory: int = 0,
    settings: Mapping[str, Settings] | None = None,
    reuse: bool = False,
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
        Keys of `models.heads.base.HEADS`, dotted paths of scikit-learn classifiers (see
        `models.training.own_heads.find_head`), and ``"ensemble"``, the average of those of
        `models.heads.ensemble.MEMBERS` that are named; all heads and the ensemble by default.
    head : str, optional
        The head to choose, instead of the one with the best cross-validated area under the ROC
        curve.
    folds : int
    seed : int
        The same seed gives the same result.
    jobs : int
        Threads; -1 is one per core.
    rule : callable, optional
        How the threshold is chosen; `models.decisions.thresholds.TargetSensitivity` by default.
    calibration : {"auto", "platt", "isotonic", "beta"}
        ``"auto"`` takes the one with the lowest cross-validated log loss.
    alpha : float
        Share of each class that may lie on the wrong side of the zone of uncertainty.
    metadata : Metadata, optional
        Adds a baseline that sees age, sex and site alone, the chosen head's score together with
        them, and the chosen head by subgroup.
    groups : ndarray of str, shape (items,), optional
        Images that belong together besides those whose `group` says so; empty where alone. None
        if nobody looked for copies.
    on_leak : {"drop", "group", "ignore"}
        What becomes of training images that belong together with an image of another split.
    memory : int, optional
        Bytes that may be taken; if heads need more, they are fitted block by block. As much as
        there is by default.
    settings : mapping of str to dict, optional
        Of heads, by name, for which nothing is to be searched.
    reuse : bool
        Whether candidates that were tried before on the same embeddings, labels and folds are
        taken from the user's cache folder, and new ones kept there.
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
    known = _find_heads(heads, head)
    names = list(known)
    members = _find_members(heads, names)
    if folds < 2:
        raise TrainingError(f"got {folds} folds, but cross-validation needs at least 2")
    if calibration not in ("auto", *METHODS):
        raise TrainingError(
            f"no calibration is called {calibration!r}: there are auto, {', '.join(METHODS)}"
        )
    if not 0 < alpha < 0.5:
        raise TrainingError(f"got alpha {alpha:g}, expected an error rate between 0 and 0.5")
    selection = select(
        features,
        positive=positive,
        folds=folds,
        groups=groups,
        on_leak=on_leak,
        memory=memory,
        threads=threads(jobs),
    )
    train = selection.parts["train"]
    notes = list(selection.notes)
    if known.get("svm") is HEADS["svm"] and (isinstance(train.X, Rows) or len(train.y) > SVM_LIMIT):
        known["svm"] = NYSTROEM
        notes.append(_NOTE_ON_NYSTROEM)
    parts = _fold(train, folds, seed)
    terms = Terms(
        rule=rule or TargetSensitivity(),
        calibration=calibration,
        alpha=alpha,
        seed=seed,
        jobs=jobs,
        tell=tell,
        settings=settings or {},
        reuse=Reuse(parts, train.y) if reuse else None,
    )
    everything = whole(train.X)
    results = judge_all(known, selection.parts, parts, everything, terms)
    if members:
        trained = {name: results[name] for name in members}
        results[ENSEMBLE] = judge_ensemble(trained, selection.parts, parts, terms)
    judged = {
        name: result.evaluations["cross-validation"]
        for name, result in results.items()
        if name == ENSEMBLE or known[name].storable
    }
    chosen = head or max(judged, key=lambda name: _area(judged[name]))
    found: tuple[Subgroup, ...] = ()
    if metadata is not None:
        results[BASELINE.name] = judge_metadata(metadata, selection.parts, parts, terms, notes)
        fused = judge_fusion(metadata, results[chosen], selection.parts, parts, terms)
        results[FUSION] = fused
        notes.append(
            f"Where any of {', '.join(metadata.columns)} is given beside an image, the bundle "
            f"judges by {fused.title}, with its own threshold and zone."
        )
        found = subgroups(metadata, selection.parts, results[chosen].evaluations)
    tests = paired_tests(results)
    classes, told = judge_classes(
        {name: known[name] for name in names},
        results,
        selection.parts,
        parts,
        everything,
        chosen=chosen,
        calibration=calibration,
        seed=seed,
        jobs=jobs,
        tell=tell,
    )
    notes += [*_notes_on(results, tests, results[chosen].title), *told]
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
        folds=folds,
        seed=seed,
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


def _fold(train: Part, folds: int, seed: int) -> list[Fold]:
    kinds = strata(train, folds)
    parts = make_folds(
        train.X, train.y if kinds is None else kinds, train.groups, folds=folds, seed=seed
    )
    for part in parts:
        if any(len(np.unique(train.y[rows])) < 2 for rows in (part.train, part.test)):
            raise TrainingError(
                f"the images can't be split into {folds} folds that each have both classes, "
                "because too many belong together: ask for fewer folds"
            )
    return parts


def _area(evaluation: Evaluation) -> float:
    return evaluation.auc.value if evaluation.auc else 0.0


def _notes_on(
    results: dict[str, HeadResult], tests: Sequence[PairedTest], chosen: str
) -> list[str]:
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
    return notes + [
        sentence(test)
        for test in tests
        # The table has all pairs; what a reader of the choice must know is who came near it.
        if test.split == "cross-validation" and chosen in (test.first, test.second)
    ]


def paired_tests(heads: Mapping[str, HeadResult]) -> tuple[PairedTest, ...]:
    """Compare every pair of heads on every split.

    Parameters
    ----------
    heads : mapping of str to HeadResult
        Evaluated on the same images.

    Returns
    -------
    tuple of PairedTest
        Splits with fewer than two images of a class are left out. Areas by DeLong; sensitivities
        and specificities at each head's own threshold by McNemar.
    """
    some = next(iter(heads.values())).evaluations
    found: list[PairedTest] = []
    for split, judged in some.items():
        if 2 <= judged.positives <= judged.n - 2:
            named = [(head.title, head.evaluations[split]) for head in heads.values()]
            found += compare_all(split, named)
    return tuple(found)
