"""Heads that tell which class: one for each class against all the others.

The head of the positive class is the one that decides; these are the rest. The positive class keeps
the probability that the decision is made on, and what is left of 1 is shared out among the others
in proportion to their own calibrated probabilities (Zadrozny and Elkan, Transforming classifier
scores into accurate multiclass probability estimates, KDD 2002, normalise in the same way).
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from features.extractor import ExtractorSpec
from models.calibrators import Calibration
from models.headfile import HeadFileError, dump_head, load_head
from models.heads import score
from models.manifest import MANIFEST, altered

if TYPE_CHECKING:
    from models.bundle import Bundle
    from models.results import Comparison

__all__ = [
    "ClassHead",
    "ClassHeads",
    "dump_classes",
    "load_classes",
    "same_classes",
    "share_out",
]

Floats = npt.NDArray[np.float64]

# Keeps the shares defined where every other class is all but impossible.
_LEAST = 1e-12


def share_out(positive: npt.ArrayLike, others: npt.ArrayLike) -> Floats:
    """Make the probabilities of all classes sum to 1.

    Parameters
    ----------
    positive : array-like, shape (n,)
        Probability of the positive class, which it keeps.
    others : array-like, shape (n, k - 1)
        Of each other class against all that are not of it.

    Returns
    -------
    ndarray, shape (n, k)
        The positive class first.

    Examples
    --------
    >>> share_out([0.2], [[0.3, 0.1]]).round(2)
    array([[0.2, 0.6, 0.2]])
    """
    kept = np.asarray(positive, np.float64)[:, None]
    claimed = np.maximum(np.asarray(others, np.float64), _LEAST)
    shares = claimed / claimed.sum(axis=1, keepdims=True)
    return np.hstack([kept, (1 - kept) * shares])


@dataclass(frozen=True)
class ClassHead:
    """One class against all the others.

    Parameters
    ----------
    label : str
    estimator : object
        Fitted; use `models.heads.score` on it.
    calibration : Calibration
    """

    label: str
    estimator: Any
    calibration: Calibration


@dataclass(frozen=True)
class ClassHeads:
    """What turns embeddings and the probability of the positive class into those of all classes.

    Parameters
    ----------
    labels : tuple of str
        The positive class first.
    shares : tuple of float
        Of the classes among the training images; they sum to 1.
    others : tuple of ClassHead
        Of all classes but the positive one, in the same order.
    """

    labels: tuple[str, ...]
    shares: tuple[float, ...]
    others: tuple[ClassHead, ...]

    def probabilities(self, X: npt.ArrayLike, positive: npt.ArrayLike) -> Floats:
        """Give the probabilities of all classes.

        Parameters
        ----------
        X : array-like, shape (n, d)
            Embeddings.
        positive : array-like, shape (n,)
            Probability of the positive class.

        Returns
        -------
        ndarray, shape (n, k)
            In the order of `labels`; every row sums to 1.
        """
        embeddings = np.asarray(X, np.float32)
        columns = [
            head.calibration.apply(score(head.estimator, embeddings)) for head in self.others
        ]
        return share_out(positive, np.stack(columns, axis=1))

    def ranked(self, X: npt.ArrayLike, positive: npt.ArrayLike) -> list[dict[str, float]]:
        """Give the same by name, the most likely class of each image first."""
        return [
            {self.labels[place]: float(row[place]) for place in np.argsort(-row, kind="stable")}
            for row in self.probabilities(X, positive)
        ]


def dump_classes(comparison: Comparison, folder: Path) -> dict[str, Any]:
    """Write the heads of the classes into a bundle's folder.

    Returns
    -------
    dict
        What the manifest says of them as ``"classes"``; empty with two classes.

    Raises
    ------
    HeadFileError
        If a head is made of parts that `load_head` wouldn't take.
    """
    if comparison.classes is None:
        return {}
    classes, heads = comparison.classes.served, []
    for number, head in enumerate(classes.others, start=1):
        with tempfile.TemporaryDirectory(dir=folder) as aside:
            written = Path(aside) / dump_head(head.estimator, Path(aside))
            file = folder / f"class-{number}{written.suffix}"
            written.replace(file)
        heads.append(
            {"label": head.label, "file": file.name, "calibration": head.calibration.as_dict()}
        )
    metrics = comparison.classes.evaluations[comparison.chosen]
    return {
        "classes": {
            "labels": list(classes.labels),
            "shares": list(classes.shares),
            "heads": heads,
            "metrics": {split: found.as_dict() for split, found in metrics.items()},
        }
    }


def load_classes(
    folder: Path, values: Mapping[str, Any], contents: Mapping[str, bytes], spec: ExtractorSpec
) -> ClassHeads | None:
    """Read what `dump_classes` wrote.

    Parameters
    ----------
    folder : Path
        Of the bundle, to be named in errors.
    values : mapping
        The manifest.
    contents : mapping of str to bytes
        The files that `models.manifest.class_files` names.
    spec : ExtractorSpec
        What the heads' embeddings are made with.

    Returns
    -------
    ClassHeads or None
        None for a bundle of two classes.

    Raises
    ------
    BundleRefused
        If a file is not a head, or the heads don't belong together.
    """
    if values["classes"] is None:
        return None
    try:
        return _read(values["classes"], contents, values["positive"], spec.head_dim)
    except (HeadFileError, TypeError, ValueError, LookupError) as error:
        raise altered(folder, f"{MANIFEST} has classes without sense ({error})") from error


def same_classes(comparison: Comparison, bundle: Bundle, probes: npt.NDArray[Any]) -> bool:
    """Say whether a bundle gives the classes of embeddings as the comparison does."""
    if comparison.classes is None or bundle.classes is None:
        return comparison.classes is None and bundle.classes is None
    positive = bundle.probability(probes)
    before = comparison.classes.served.probabilities(probes, positive)
    after = bundle.classes.probabilities(probes, positive)
    return np.allclose(before, after, rtol=1e-5, atol=1e-6)


def _read(
    values: Mapping[str, Any], contents: Mapping[str, bytes], positive: str, inputs: int
) -> ClassHeads:
    labels, shares = tuple(values["labels"]), tuple(map(float, values["shares"]))
    heads = tuple(
        ClassHead(
            known["label"],
            load_head(f"head{Path(known['file']).suffix}", contents[known["file"]]),
            Calibration.from_dict(known["calibration"]),
        )
        for known in values["heads"]
    )
    if not all(type(label) is str and label for label in labels) or len(set(labels)) < 3:
        raise ValueError(f"got classes {labels!r}, expected three names or more")
    if (positive, *(head.label for head in heads)) != labels or len(shares) != len(labels):
        raise ValueError("its classes, shares and heads don't belong together")
    if not all(0 < share < 1 for share in shares) or abs(sum(shares) - 1) > 1e-6:
        raise ValueError("its shares of the classes don't sum to 1")
    for head in heads:
        classes = len(getattr(head.estimator, "classes_", ()))
        if (getattr(head.estimator, "n_features_in_", None), classes) != (inputs, 2):
            raise ValueError(f"the head of {head.label!r} was not fitted for these embeddings")
    return ClassHeads(labels, shares, heads)
