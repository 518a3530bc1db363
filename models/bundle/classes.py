"""How the heads of all classes are kept in a bundle: with two classes, that of the positive one."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from models.bundle.manifest import MANIFEST, altered
from models.decisions.calibrators import Calibration
from models.decisions.decision import Decision
from models.heads.classes import ClassHead, ClassHeads
from models.heads.files import HeadFileError, dump_head, load_head

if TYPE_CHECKING:
    from models.training.results import Comparison

__all__ = ["dump_heads", "load_heads"]


def dump_heads(comparison: Comparison, folder: Path) -> dict[str, Any]:
    """Write the heads of the classes into a bundle's folder.

    Returns
    -------
    dict
        What the manifest says of them: ``"head_file"`` and, with more than two classes,
        ``"classes"``.

    Raises
    ------
    HeadFileError
        If a head is made of parts that `load_head` wouldn't take.
    """
    heads, files = comparison.served.heads, []
    for number, head in enumerate(heads):
        with tempfile.TemporaryDirectory(dir=folder) as aside:
            written = Path(aside) / dump_head(head.estimator, Path(aside))
            name = f"class-{number}{_kind(written.name)}" if number else written.name
            files.append(written.replace(folder / name).name)
    values: dict[str, Any] = {"head_file": files[0]}
    if (classes := comparison.classes) is not None:
        metrics = classes.evaluations[comparison.chosen]
        values["classes"] = {
            "labels": list(classes.labels),
            "shares": list(classes.shares),
            "heads": [
                {"label": head.label, "file": file, "calibration": head.calibration.as_dict()}
                for head, file in zip(heads[1:], files[1:], strict=True)
            ],
            "metrics": {split: found.as_dict() for split, found in metrics.items()},
        }
    return values


def load_heads(
    folder: Path,
    values: Mapping[str, Any],
    contents: Mapping[str, bytes],
    dim: int,
    decision: Decision,
) -> ClassHeads:
    """Read what `dump_heads` wrote.

    Parameters
    ----------
    folder : Path
        Of the bundle, to be named in errors.
    values : mapping
        The manifest.
    contents : mapping of str to bytes
        The files that `models.bundle.manifest.head_files` names.
    dim : int
        Numbers that the heads are given of an image.
    decision : Decision
        Of the positive class.

    Returns
    -------
    ClassHeads

    Raises
    ------
    BundleRefused
        If a file is not a head, or the heads don't belong together.
    """
    classes = values["classes"] or {"labels": [values["positive"]], "shares": [], "heads": []}
    try:
        heads = ClassHeads(
            tuple(
                ClassHead(label, _load(folder, file, contents[file], dim), calibration)
                for label, file, calibration in _entries(values, classes, decision)
            ),
            tuple(map(float, classes["shares"])),
        )
        if heads.labels != tuple(classes["labels"]):
            raise ValueError("its classes and heads don't belong together")
    except (TypeError, ValueError, LookupError) as error:
        raise altered(folder, f"{MANIFEST} has classes without sense ({error})") from error
    return heads


def _entries(
    values: Mapping[str, Any], classes: Mapping[str, Any], decision: Decision
) -> Iterator[tuple[str, str, Calibration]]:
    yield values["positive"], values["head_file"], decision.calibration
    for known in classes["heads"]:
        yield known["label"], known["file"], Calibration.from_dict(known["calibration"])


def _kind(file: str) -> str:
    """Give all that follows a head file's name of its own: ``.linear.safetensors``."""
    return "".join(Path(file).suffixes)


def _load(folder: Path, file: str, data: bytes, inputs: int) -> Any:
    try:
        head = load_head(f"head{_kind(file)}", data)
    except HeadFileError as error:
        raise altered(folder, f"{file} is not a head: {error}") from error
    found, classes = getattr(head, "n_features_in_", None), len(getattr(head, "classes_", ()))
    if (found, classes) != (inputs, 2):
        raise altered(
            folder,
            f"the head in {file} takes embeddings of {found} numbers and knows {classes} classes, "
            f"expected {inputs} and 2",
        )
    return head
