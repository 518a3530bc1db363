"""A bundle on images of any feature file, alone or against somebody else's scores."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt
from scipy.stats import rankdata

from features.cache.contents import Features, Items
from features.cache.rows import Rows, require_finite
from features.datasets.splits import CROSS_VALIDATION
from features.datasets.vocabulary import canonical_class, may_be
from features.errors import CacheMismatch, LesionError
from features.numbers import count
from features.presenting import as_bytes, csv_text
from models.bundle.loading import Bundle
from models.evaluation.binary import evaluate
from models.evaluation.classes import ClassEvaluation, evaluate_classes
from models.evaluation.paired import PairedTest, compare_all, sentence
from models.evaluation.values import Evaluation
from models.inference.drift import calibration_drift
from models.inference.rivals import read_scores
from models.patients.encoding import usable
from models.patients.tables import Metadata
from models.training.classes import class_codes
from models.training.relabelling import Relabelling
from models.training.representations.joining import JoinedFeatures, join_features
from models.training.representations.matching import match_images
from models.training.selection import distinct, is_positive

__all__ = ["Assessment", "against", "evaluate_bundle", "match_features", "write_scores"]

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Assessment:
    """A bundle on one split.

    Parameters
    ----------
    evaluation : Evaluation
    items : Items
        The images that were judged, in the order of its scores.
    notes : tuple of str
    classes : ClassEvaluation or None
        Which class, where bundle and labels have more than two.
    """

    evaluation: Evaluation
    items: Items
    notes: tuple[str, ...]
    classes: ClassEvaluation | None = None


def evaluate_bundle(
    bundle: Bundle,
    features: Features,
    split: str,
    *,
    metadata: Metadata | None = None,
    seed: int = 0,
    positives: Sequence[str] = (),
) -> Assessment:
    """Judge labelled images with a bundle.

    Parameters
    ----------
    bundle : Bundle
    features : Features
        With the bundle's fingerprint; for several networks as `match_features` gives them.
    split : {"train", "valid", "test", "all"}
    metadata : Metadata, optional
        Judges by the bundle's fusion: every image, also those of which nothing is known.
    seed : int
        Of the bootstrap.
    positives : sequence of str, optional
        Classes of `features` that are the bundle's positive one by another name.

    Returns
    -------
    Assessment

    Raises
    ------
    CacheMismatch
        If the embeddings were made in another way; names the difference.
    LesionError
        If the split has no labelled image, or none of the bundle's positive class can be told.
    BundleRefused
        If there is metadata, and the bundle takes none.
    """
    judged = bundle if metadata is None else bundle.fused()
    _require_same(bundle, join_features(features))
    relabelled = Relabelling(dict.fromkeys(positives, bundle.labels[1])).apply(features)
    features, changed = bundle.relabelling.apply(relabelled[0])
    items, notes = _chosen(features, split, bundle.labels, _known_labels(bundle))
    notes += [*relabelled[1], *changed]
    labels = is_positive(items, bundle.labels[1]).astype(np.int8)
    rows = features.rows(items)
    require_finite(rows, items.path)
    scores = np.concatenate([bundle.score(block) for block in rows.blocks()])
    if metadata is not None and bundle.fusion is not None:
        kinds = bundle.fusion.fusion.kinds
        known = [usable(row, kinds) for row in metadata.of(items)]
        notes.append(
            f"{', '.join(kinds).capitalize()}: at least one is known, in words that the bundle "
            f"knows, of {sum(map(bool, known))} of {len(known)} images."
        )
        notes += metadata.notes
        scores = bundle.fusion.fusion.score(scores, known)
    probabilities = judged.decision.calibration.apply(scores)
    found = evaluate(split, labels, scores, probabilities, judged.decision.threshold, seed=seed)
    if found.auc is None:
        notes.append("All images are of one class: no ROC AUC, no average precision.")
    fitted = judged.metrics[CROSS_VALIDATION]
    drift = calibration_drift(found, bundle.labels[1], fitted["n"], fitted["positives"])
    notes += [drift] if drift else []
    classes, told = _assess_classes(bundle, split, items, rows, probabilities)
    return Assessment(found, items, (*notes, *told), classes)


def _assess_classes(
    bundle: Bundle, split: str, items: Items, rows: Rows, positive: Floats
) -> tuple[ClassEvaluation | None, list[str]]:
    if not bundle.classes.several:
        return None, []
    labels = bundle.classes.labels
    truth = class_codes(items, labels)
    if not (truth > 0).any():
        return None, [
            f"No image has a label of the bundle's other classes ({', '.join(labels[1:])}): "
            "no figures of the classes."
        ]
    known = truth >= 0
    notes = []
    if not known.all():
        others = ", ".join(sorted(set(items.label[~known].tolist())))
        notes.append(
            f"{(~known).sum()} images are of classes that the bundle doesn't tell ({others}) and "
            "not in the figures of the classes."
        )
    blocks, start, given = [], 0, positive[known]
    for block in rows.take(known).blocks():
        blocks.append(bundle.classes.probabilities(block, given[start : start + len(block)]))
        start += len(block)
    probabilities = np.concatenate(blocks)
    shares = bundle.classes.shares
    return evaluate_classes(split, labels, truth[known], probabilities, shares), notes


def match_features(
    bundle: Bundle, files: Mapping[str, Features]
) -> tuple[JoinedFeatures, tuple[str, ...]]:
    """Find the feature file of each network of a bundle, and the images that are in all of them.

    Parameters
    ----------
    bundle : Bundle
    files : mapping of str to Features
        By a name for messages, in any order.

    Returns
    -------
    features : JoinedFeatures
        In the order of the bundle's networks.
    notes : tuple of str
        What was left out, and what was completed.

    Raises
    ------
    CacheMismatch
        If a network has no file, or a file no network; names them.
    TrainingError
        If the files have no image in common, or contradict each other.
    """
    if len(files) == len(bundle.networks) == 1:
        return join_features(next(iter(files.values()))), ()
    by_spec = {found.spec: name for name, found in files.items()}
    needed = {each.spec: each.name for each in bundle.networks}
    odd = [f"{name} ({files[name].spec})" for spec, name in by_spec.items() if spec not in needed]
    missing = [f"{name} ({spec})" for spec, name in needed.items() if spec not in by_spec]
    if odd or missing:
        told = [f"none of those given is of {', '.join(missing)}"] if missing else []
        told += [f"{', '.join(odd)} is of none of them"] if odd else []
        raise CacheMismatch(
            f"the bundle {bundle.folder} holds {count(len(needed), 'network')} and needs a feature "
            f"file of the images by each; {', and '.join(told)}: extract the images with each of "
            "the bundle's networks, and give those files"
        )
    if len(files) > len(by_spec):
        raise CacheMismatch(
            f"{', '.join(files)} are {len(files)} feature files of {len(by_spec)} networks: give "
            "one for each network, joined with `python -m features merge` where there are more"
        )
    matched, notes = match_images(
        {each.name: files[by_spec[each.spec]] for each in bundle.networks}
    )
    return join_features(matched), notes


def _require_same(bundle: Bundle, features: JoinedFeatures) -> None:
    pairs = [
        (mine.spec.as_dict(), theirs.spec.as_dict())
        for mine, theirs in zip(bundle.networks, features.members.values(), strict=False)
    ]
    told = [
        f"{key.replace('_', ' ')} {needed[key]} against {found.get(key)}"
        for needed, found in pairs
        for key in needed
        if needed[key] != found.get(key)
    ]
    if len(features.members) != len(bundle.networks):
        told.append(f"{len(bundle.networks)} networks against {len(features.members)}")
    if told:
        raise CacheMismatch(
            f"the bundle {bundle.folder} needs embeddings of {bundle.spec}, the features hold "
            f"those of {features.spec} ({'; '.join(told)}): extract the images with the bundle's "
            "network and options"
        )


def _known_labels(bundle: Bundle) -> set[str]:
    """Name the classes that the bundle was fitted on, as they are compared."""
    trained = {label for counts in bundle.counts.values() for label in counts}
    several = bundle.classes.labels if bundle.classes else ()
    opposite = f"not {canonical_class(bundle.labels[1])}"
    return {opposite, *map(canonical_class, (*trained, *several, *bundle.labels))}


def _chosen(
    features: Features, split: str, names: tuple[str, str], trained: Collection[str]
) -> tuple[Items, list[str]]:
    present = features.items.take((features.items.path != "") & (features.items.label != ""))
    part = np.where(present.split == "", "train", present.split)
    held = present if split == "all" else present.take(part == split)
    if len(held) == 0:
        known = ", ".join(sorted(set(part.tolist()))) or "none"
        raise LesionError(
            f"there is no labelled image in the {split} split: labelled are those of {known}"
        )
    notes = []
    positive = is_positive(held, names[1])
    others = Counter(held.label[~positive].tolist())
    new = {name: n for name, n in sorted(others.items()) if canonical_class(name) not in trained}
    doubtful = [name for name in new if may_be(name, names[1])]
    if doubtful or (new and not positive.any()):
        raise LesionError(
            f"the bundle tells {names[1]} from {names[0]}, and some of these images are labelled "
            f"{', '.join(new)}, of which the bundle doesn't know whether they are {names[1]}: "
            f"say --positive {(doubtful or list(new))[0]} if they are, or label them with the "
            "bundle's names"
        )
    if new:
        told = ", ".join(f"{name} ({count})" for name, count in new.items())
        notes.append(f"Classes that the bundle was not fitted on count as not {names[1]}: {told}.")
    if split in ("train", "all"):
        notes.append(
            "The bundle may have been fitted on some of these images; then all figures are too "
            "good. Its report has the cross-validated ones."
        )
    found = distinct(held, positive)
    kept = held.take(found.kept)
    if len(kept) == 0:
        raise LesionError(f"every image of the {split} split has contradicting labels")
    if found.repeats:
        notes.append(f"Repeated images used only once: {found.repeats}.")
    if (bad := int((~found.agreed).sum())) > 0:
        notes.append(f"Images left out because of contradicting labels: {bad}.")
    return kept, notes


_SCORES: Final = ("image", "label", "score", "probability", "suspicious", "uncertain")


def write_scores(path: Path, bundle: Bundle, assessment: Assessment) -> None:
    """Write a CSV table of the images with label, score, probability and decision.

    Raises
    ------
    LesionError
        If it can't be written.
    """
    found = assessment.evaluation
    uncertain = bundle.decision.doubts(found.probabilities)
    rows = zip(
        assessment.items.path.tolist(),
        found.labels.tolist(),
        map(repr, found.scores.tolist()),
        map(repr, found.probabilities.tolist()),
        found.suspicious.astype(int).tolist(),
        uncertain.astype(int).tolist(),
        strict=True,
    )
    try:
        path.write_bytes(as_bytes(csv_text([_SCORES, *rows])))
    except OSError as error:
        raise LesionError(f"{path} can't be written ({error.strerror or error})") from error


def against(
    assessment: Assessment,
    title: str,
    path: Path,
    *,
    seed: int = 0,
    column: str | None = None,
) -> tuple[Evaluation, Evaluation, PairedTest, tuple[str, ...]]:
    """Compare a bundle with somebody else's scores of the same images.

    Parameters
    ----------
    assessment : Assessment
    title : str
        Of the bundle's head.
    path : Path
        Table with the images' names, their scores, and labels if it has any.
    seed : int
    column : str, optional
        Of the scores; by default the one that is called so, or the only one of numbers.

    Returns
    -------
    mine, theirs : Evaluation
        On the images that both have. Theirs is judged by its ranks alone, and its decisions are
        those of the threshold that calls as many images suspicious as mine does.
    test : PairedTest
    notes : tuple of str

    Raises
    ------
    LesionError
        If the table can't be understood, fits too few images, or contradicts the labels.
    """
    scores, notes = read_scores(path, assessment.items, assessment.evaluation.labels, column)
    both = np.isfinite(scores)
    labels = assessment.evaluation.labels[both]
    if min(int(labels.sum()), int((1 - labels).sum())) < 2:
        raise LesionError(
            f"{path} has scores of {both.sum()} of the images, expected at least two of each class"
        )
    if not both.all():
        notes.append(
            f"{path.name} has scores of {both.sum()} of the {len(both)} images; "
            "only these are compared."
        )
    whole = assessment.evaluation
    mine = evaluate(
        whole.split,
        labels,
        whole.scores[both],
        whole.probabilities[both],
        whole.operating_point.threshold,
        seed=seed,
    )
    theirs = _theirs(mine, scores[both], seed)
    test = compare_all(whole.split, [(title, mine), (path.name, theirs)])[0]
    return mine, theirs, test, (*notes, sentence(test))


def _theirs(mine: Evaluation, scores: Floats, seed: int) -> Evaluation:
    called = int(mine.suspicious.sum())
    threshold = float(np.sort(scores)[::-1][max(called, 1) - 1])
    # Scores need not be probabilities; ranks stand in, so that nothing is read into their size.
    ranks = rankdata(scores) / (len(scores) + 1)
    suspicious = scores >= threshold
    return evaluate(
        mine.split, mine.labels, scores, ranks, threshold, suspicious=suspicious, seed=seed
    )
