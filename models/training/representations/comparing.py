"""Several feature files of the same images: every head on each of them, and one file chosen."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Final

import numpy as np
import numpy.typing as npt

from features.cache.contents import Features
from features.datasets.splits import CROSS_VALIDATION
from features.networks.weights import may_have_seen
from models.errors import TrainingError
from models.evaluation.representations import (
    ALIKE,
    Ranking,
    Representation,
    Row,
    rank,
    summary,
)
from models.patients.fusion import FUSION
from models.patients.tables import BASELINE, Metadata
from models.training.comparison import compare_heads, conclude
from models.training.options import Options, Progress
from models.training.representations.combining import (
    Combination,
    average_files,
    join_files,
)
from models.training.representations.described import describe, warnings_of
from models.training.representations.joining import join_features
from models.training.representations.matching import require_several
from models.training.results import Comparison, HeadResult

__all__ = ["compare_representations"]

# What is not fitted to embeddings alone.
_BESIDE: Final = (BASELINE.name, FUSION)


def compare_representations(
    files: Mapping[str, Features],
    options: Options | None = None,
    *,
    representation: str | None = None,
    combine: bool = False,
    metadata: Metadata | None = None,
    groups: npt.NDArray[np.str_] | None = None,
    progress: Progress | None = None,
) -> tuple[str, Comparison]:
    """Compare heads on the embeddings of several networks, and choose one of each.

    All are fitted and judged on the same images and folds. Only the training images decide.

    Parameters
    ----------
    files : mapping of str to Features
        By name, all with the same items, as `models.training.representations.matching.match_images`
        gives them. With one there is nothing to compare, and the result is that of
        `models.training.comparison.compare_heads`.
    options : Options, optional
        Those with their defaults, if not given.
    representation : str, optional
        Name of the file, or of the combination, whose heads the bundle is chosen from, instead of
        that with the best cross-validated area under the ROC curve.
    combine : bool
        Whether to judge all of them together, too: side by side, and by the average of their
        scores.
    metadata, groups, progress
        As for `models.training.comparison.compare_heads`.

    Returns
    -------
    name : str
        Of the chosen file or combination.
    comparison : Comparison
        Of heads on it; its `ranking` has all of them.

    Raises
    ------
    TrainingError
        As `models.training.comparison.compare_heads` does, or if `representation` is none of them.
    """
    options = options or Options()
    require_several(files, representation=representation, combine=combine)
    tell: Progress = progress or (lambda _: None)
    if len(files) == 1:
        name, only = next(iter(files.items()))
        return name, compare_heads(
            only, options, metadata=metadata, groups=groups, progress=progress
        )
    found = {
        name: compare_heads(
            each,
            options,
            metadata=metadata,
            groups=groups,
            progress=lambda message, name=name: tell(f"{name}: {message}"),  # type: ignore[misc]
        )
        for name, each in files.items()
    }
    combinations, notes = (
        _combine(files, found, options, groups, tell) if combine else ([], list[str]())
    )
    together = {one.name: one for one in combinations if one.choosable}
    areas = {each: _area(comparison.best) for each, comparison in found.items()}
    areas |= {each: max(map(_area, one.choosable.values())) for each, one in together.items()}
    name = representation or max(areas, key=lambda each: areas[each])
    if name not in areas:
        raise TrainingError(
            f"{name} was asked for and can't be had: {' '.join(notes)} Leave --representation out, "
            f"or give one of {', '.join(areas)}"
        )
    ranking = _rank(files, found, combinations, options.folds, name)
    if name in together:
        one, seen = together[name], None
        chosen = conclude(
            join_features(files),
            one.selection,
            one.study,
            one.known,
            one.heads,
            metadata=metadata,
            groups=groups,
            told=([*one.selection.notes], one.notes),
        )
    else:
        chosen, seen = found[name], may_have_seen(files[name].trained_on)
    notes += [*warnings_of(files), *summary(ranking)]
    if representation is None and name in together:
        notes += _costs(ranking, name, chosen.best.title, len(files))
    by = f"of {name}, the representation asked for" if representation else f"of {name}"
    return name, replace(
        chosen,
        chosen_by=f"{by}: {chosen.chosen_by}",
        ranking=ranking,
        # With its name it is said among the warnings.
        notes=(*(note for note in chosen.notes if note != seen), *notes),
    )


def _combine(
    files: Mapping[str, Features],
    found: Mapping[str, Comparison],
    options: Options,
    groups: npt.NDArray[np.str_] | None,
    tell: Progress,
) -> tuple[list[Combination], list[str]]:
    results = {name: comparison.heads for name, comparison in found.items()}
    heads = [each for each in next(iter(results.values())) if each not in _BESIDE]
    joined, notes = join_files(
        files, heads, options, groups, lambda message: tell(f"side by side: {message}")
    )
    averaged = average_files(files, results, heads, options, groups, tell)
    return [each for each in (joined, averaged) if each], notes


def _rank(
    files: Mapping[str, Features],
    found: Mapping[str, Comparison],
    combinations: list[Combination],
    folds: int,
    served: str,
) -> Ranking:
    described = [describe(name, each) for name, each in files.items()]
    rows = [
        Row(name, head.title, head.evaluations)
        for name, comparison in found.items()
        for each, head in comparison.heads.items()
        if each not in _BESIDE
    ]
    told = "; ".join(dict.fromkeys(one.trained_on for one in described))
    for one in combinations:
        described.append(
            Representation(one.name, " + ".join(files), one.numbers, told, tuple(files))
        )
        rows += [Row(one.name, head.title, head.evaluations) for head in one.heads.values()]
    return rank(described, rows, folds=folds, served=served)


def _area(head: HeadResult) -> float:
    auc = head.evaluations[CROSS_VALIDATION].auc
    return auc.value if auc else 0.0


def _costs(ranking: Ranking, served: str, head: str, count: int) -> list[str]:
    """Say so if a bundle of several networks can't be told apart from one of a single network."""
    one = next(row for row in ranking.rows if (row.representation, row.head) == (served, head))
    members = next(each.members for each in ranking.representations if each.name == served)
    alike = [each for each in members if ranking.verdict(one, each) == ALIKE]
    if not alike:
        return []
    return [
        f"The bundle holds {count} networks, each of which looks at every image; by {head} "
        f"{served} {ALIKE} from {' and from '.join(alike)}, which is one: --representation "
        f"{alike[0]!r} makes a bundle of it."
    ]
