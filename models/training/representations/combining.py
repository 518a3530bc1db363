"""Embeddings of several networks put together: side by side, and by averaging their scores."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

from features.cache.contents import Features
from features.cache.rows import Rows
from features.embedding.joined import JoinedSpec
from models.heads.base import Head
from models.heads.ensemble import ENSEMBLE, MEMBERS, side_by_side
from models.heads.folds.fold import Fold
from models.machine import available, needed_at_once
from models.training.fitting import fit_ensemble, fit_heads
from models.training.options import Options, Progress, Study, make_study
from models.training.own_heads import find_head
from models.training.representations.matching import averaged_name, joined_name
from models.training.results import HeadResult
from models.training.selection import Part, Selection, select
from models.training.tuning import Reuse, threads

__all__ = [
    "Combination",
    "average_files",
    "block_weights",
    "join_files",
]

Groups = npt.NDArray[np.str_]


@dataclass(frozen=True)
class Combination:
    """Heads on what several feature files have together.

    Parameters
    ----------
    name : str
    numbers : int
        Of all embeddings together.
    heads : dict of str to HeadResult
        By the names that they have on each file alone.
    selection : Selection
        Of the first file.
    study : Study
        That they were fitted in.
    known : dict of str to Head
        By the same names, but for the ensemble.
    notes : list of str
        What a reader of a bundle of these must know.
    """

    name: str
    numbers: int
    heads: dict[str, HeadResult]
    selection: Selection
    study: Study
    known: dict[str, Head]
    notes: list[str] = field(default_factory=list)

    @property
    def choosable(self) -> dict[str, HeadResult]:
        """The heads that a bundle could hold, or of these the one that was asked for."""
        asked = self.study.options.head
        return {
            name: head
            for name, head in self.heads.items()
            if asked in (None, name) and (name == ENSEMBLE or self.known[name].storable)
        }


def block_weights(lengths: Sequence[int]) -> npt.NDArray[np.float64]:
    """Weigh standardised columns so that each block of them has the same variance in all.

    Parameters
    ----------
    lengths : sequence of int
        Columns of each block.

    Returns
    -------
    ndarray, shape (sum of lengths,)
        All together have the variance of as many unweighted columns, so that a grid of settings
        made for such a length suits them.

    References
    ----------
    Block scaling: Westerhuis, Kourti and MacGregor, Analysis of multiblock and hierarchical PCA
    and PLS models, Journal of Chemometrics 1998.

    Examples
    --------
    >>> (block_weights([2, 6]) ** 2).round(3).tolist()
    [2.0, 2.0, 0.667, 0.667, 0.667, 0.667, 0.667, 0.667]
    """
    weights = [np.sqrt(sum(lengths) / (len(lengths) * length)) for length in lengths]
    return np.repeat(weights, lengths)


def join_files(
    files: Mapping[str, Features],
    heads: Sequence[str],
    options: Options,
    groups: Groups | None,
    tell: Progress,
) -> tuple[Combination | None, list[str]]:
    """Fit heads to the embeddings of all files side by side.

    Parameters
    ----------
    files : mapping of str to Features
        All with the same items.
    heads : sequence of str
        As they were fitted to each file.
    options : Options
    groups : ndarray of str, shape (items,), or None
    tell : callable

    Returns
    -------
    combination : Combination or None
        None where there is too little memory for it.
    notes : list of str
        What was left out, and why.
    """
    selected = {name: _select(found, options, groups) for name, found in files.items()}
    parts = {name: each.parts for name, each in selected.items()}
    name = joined_name(files)
    selection = next(iter(selected.values()))
    some = selection.parts
    lengths = [found.spec.head_dim for found in files.values()]
    needed = needed_at_once(
        len(some["train"].y), sum(lengths), folds=options.folds, threads=threads(options.jobs)
    )
    allowed = options.memory or available()
    if needed > allowed or any(isinstance(own["train"].X, Rows) for own in parts.values()):
        return None, [
            f"{name}: left out, since all embeddings at once would take {needed / 2**30:.3g} GiB "
            f"of memory, and there are {allowed / 2**30:.3g}; the averages need no more than each."
        ]
    joined = {
        split: replace(part, X=np.hstack([own[split].X for own in parts.values()]))
        for split, part in some.items()
    }
    parts.clear()
    selected.clear()
    selection = replace(selection, parts=joined)
    some.clear()
    study, told = _weighted(joined, block_weights(lengths), options, tell)
    known = {each: find_head(each).suited_to(study.train.X) for each in heads if each != ENSEMBLE}
    # What goes by blocks standardises for itself, without weights.
    able = {each: head for each, head in known.items() if not head.by_blocks(study.train.X)}
    notes = [
        f"{name}: {head.title} left out, since it is fitted block by block to so many images."
        for each, head in known.items()
        if each not in able
    ]
    if not able:
        return None, notes
    results = fit_heads(able, study)
    if ENSEMBLE in heads and all(member in results for member in MEMBERS):
        results[ENSEMBLE] = fit_ensemble({member: results[member] for member in MEMBERS}, study)
    return Combination(name, sum(lengths), results, selection, study, able, told), notes


def average_files(
    files: Mapping[str, Features],
    results: Mapping[str, Mapping[str, HeadResult]],
    heads: Sequence[str],
    options: Options,
    groups: Groups | None,
    tell: Progress,
) -> Combination:
    """Average, head by head, the scores that were given to the images by each file.

    Parameters
    ----------
    files : mapping of str to Features
        All with the same items.
    results : mapping of str to mapping of str to HeadResult
        Heads by file.
    heads : sequence of str
        Those to average.
    options, groups, tell
        As for `join_files`.

    Returns
    -------
    Combination
        Scores are standardised by their out-of-fold mean and deviation, as those of an ensemble
        are; calibration and threshold are its own.
    """
    selection = _select(next(iter(files.values())), options, groups)
    bare = {
        split: replace(part, X=np.empty((len(part.y), 0), np.float32))
        for split, part in selection.parts.items()
    }
    study, _ = make_study(bare, replace(options, reuse=False), lambda _: None)
    study, notes = _of_the_positive_class(study)
    spec = JoinedSpec(tuple(found.spec for found in files.values()))
    columns = dict(zip(files, spec.columns, strict=True))
    averaged, known = {}, {}
    for each in heads:
        if each != ENSEMBLE:
            known[each] = find_head(each)
        tell(f"the average of {results[next(iter(files))][each].title} over all feature files")
        found = fit_ensemble({file: results[file][each] for file in files}, study)
        averaged[each] = replace(
            found,
            name=each,
            title=results[next(iter(files))][each].title,
            estimator=side_by_side(found.estimator, columns),
        )
    selection = replace(selection, parts=bare)
    name = averaged_name(files)
    return Combination(name, spec.head_dim, averaged, selection, study, known, notes)


def _of_the_positive_class(study: Study) -> tuple[Study, list[str]]:
    if len(study.labels) == 1:
        return study, []
    positive, *others = study.labels
    told = (
        f"Averages over networks tell {positive} from all the others together; what a head on one "
        f"file, or on all side by side, says of {', '.join(others)}, they don't."
    )
    return replace(study, labels=(positive,)), [told]


def _select(features: Features, options: Options, groups: Groups | None) -> Selection:
    return select(
        features,
        positive=options.positive,
        folds=options.folds,
        groups=groups,
        on_leak=options.on_leak,
        memory=options.memory,
        threads=threads(options.jobs),
    )


def _weighted(
    parts: dict[str, Part], weights: npt.NDArray[np.float64], options: Options, tell: Progress
) -> tuple[Study, list[str]]:
    study, told = make_study(parts, replace(options, reuse=False), tell)
    X, n = study.train.X, len(study.train.y)
    folds = [Fold(X, fold.train, fold.test, weights) for fold in study.folds]
    weighted = replace(
        study,
        options=options,
        folds=folds,
        everything=Fold(X, np.arange(n), np.arange(0), weights),
        reuse=Reuse(folds, study.train.y) if options.reuse else None,
    )
    return weighted, told
