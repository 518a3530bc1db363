"""How the heads of several classes are kept in a bundle."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from features.embedding.specification import ExtractorSpec
from models.bundle.manifest import MANIFEST, altered
from models.decisions.calibrators import Calibration
from models.heads.classes import ClassHead, ClassHeads
from models.heads.files import HeadFileError, dump_head, load_head

if TYPE_CHECKING:
    from models.training.results import Comparison

__all__ = ["dump_classes", "load_classes"]


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
        The files that `models.bundle.manifest.class_files` names.
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
