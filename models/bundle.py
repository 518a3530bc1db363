"""What is served: a folder with the head, the network and all that explains them.

Whatever a bundle holds, loading it runs no code of its.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from features.cache import Features, software_versions
from features.extractor import ExtractorSpec
from features.networks import file_sha256
from models import heads
from models.headfile import HeadFileError, dump_head, load_head
from models.manifest import (
    BUNDLE_FORMAT,
    BUNDLE_VERSION,
    MANIFEST,
    NETWORK_FILES,
    BundleRefused,
    altered,
    read_manifest,
    seal,
    verify_files,
)
from models.results import Calibration, Comparison, Evaluation, Zone
from models.staging import require_free, swap

__all__ = [
    "Bundle",
    "BundleRefused",
    "find_weights",
    "load_bundle",
    "require_free",
    "save_bundle",
]

_PROBES = 64


@dataclass(frozen=True)
class Bundle:
    """A verified bundle.

    Parameters
    ----------
    folder : Path
    created : str
        ISO 8601 time in UTC.
    spec : ExtractorSpec
        What the embeddings must be made with.
    network_path : Path or None
        The network's weights; None if untrained.
    labels : tuple of str
        (negative, positive).
    head_name, head_title : str
        Key in `models.heads.HEADS`, and the name that a person reads.
    head : object
        The fitted head.
    settings : dict
        Of the head.
    calibration : Calibration
    threshold : float
        On the probability; at or above it an image is suspicious.
    threshold_rule : str
        How it was chosen, for a person.
    zone : Zone or None
        Probabilities that don't tell; the threshold is among them. None in bundles of version 1.
    metrics : dict
        By split, as `models.results.Evaluation.as_dict` gives them, without the curves.
    counts : dict
        Images by split and label.
    folds, seed : int
        Of the cross-validation.
    notes : tuple of str
        What a reader of the metrics must know.
    marks : tuple of str
        ``"untrained"``, ``"synthetic"``.
    versions : dict
        Of the software, under ``"features"`` and ``"heads"``.
    """

    folder: Path
    created: str
    spec: ExtractorSpec
    network_path: Path | None
    labels: tuple[str, str]
    head_name: str
    head_title: str
    head: Any
    settings: dict[str, Any]
    calibration: Calibration
    threshold: float
    threshold_rule: str
    zone: Zone | None
    metrics: dict[str, Any]
    counts: dict[str, dict[str, int]]
    folds: int
    seed: int
    notes: tuple[str, ...]
    marks: tuple[str, ...]
    versions: dict[str, dict[str, str]]

    @property
    def fingerprint(self) -> str:
        """Fingerprint of the extractor."""
        return self.spec.fingerprint

    def score(self, X: npt.ArrayLike) -> npt.NDArray[np.float64]:
        """Give the head's scores of embeddings (n, d), shape (n,); higher is more positive."""
        return heads.score(self.head, np.asarray(X, np.float32))

    def probability(self, X: npt.ArrayLike) -> npt.NDArray[np.float64]:
        """Give calibrated probabilities of the positive class of embeddings (n, d), shape (n,)."""
        return self.calibration.apply(self.score(X))


def load_bundle(folder: str | Path) -> Bundle:
    """Read a bundle after verifying every file in it.

    Parameters
    ----------
    folder : str or Path

    Returns
    -------
    Bundle

    Raises
    ------
    BundleRefused
        If it is incomplete, altered, of another format version, or contradicts itself. Nothing
        but ``bundle.json`` is parsed before all hashes were found right.
    """
    folder = Path(folder)
    try:
        values, spec = read_manifest(folder)
        head_bytes = verify_files(folder, values["files"], values["head_file"])
    except OSError as error:
        raise BundleRefused(f"the bundle {folder} can't be read ({error})") from error
    try:
        calibration = Calibration.from_dict(values["calibration"])
    except (TypeError, ValueError, LookupError) as error:
        raise altered(folder, f"{MANIFEST} has a calibration without sense ({error})") from error
    zone = _read_zone(folder, values)
    network_file = values["network_file"]
    return Bundle(
        folder=folder,
        created=values["created"],
        spec=spec,
        network_path=None if network_file is None else folder / network_file,
        labels=(values["labels"][0], values["labels"][1]),
        head_name=values["head"],
        head_title=values["head_title"],
        head=_read_head(folder, values["head_file"], head_bytes, spec),
        settings=values["settings"],
        calibration=calibration,
        threshold=float(values["threshold"]),
        threshold_rule=values["threshold_rule"],
        zone=zone,
        metrics=values["metrics"],
        counts=values["counts"],
        folds=values["folds"],
        seed=values["seed"],
        notes=tuple(values["notes"]),
        marks=tuple(values["marks"]),
        versions=values["versions"],
    )


def _read_zone(folder: Path, values: dict[str, Any]) -> Zone | None:
    if values["zone"] is None:
        return None
    try:
        zone = Zone.from_dict(values["zone"])
    except (TypeError, ValueError, LookupError) as error:
        raise altered(folder, f"{MANIFEST} has a zone without sense ({error})") from error
    if not zone.holds(values["threshold"]):
        raise altered(folder, f"{MANIFEST} has a zone that the threshold is not in")
    return zone


def _read_head(folder: Path, name: str, data: bytes, spec: ExtractorSpec) -> Any:
    try:
        head = load_head(name, data)
    except HeadFileError as error:
        raise altered(folder, f"{name} is not a head: {error}") from error
    inputs, classes = getattr(head, "n_features_in_", None), len(getattr(head, "classes_", ()))
    if inputs != spec.dim or classes != 2:
        raise altered(
            folder,
            f"its head takes embeddings of {inputs} numbers and knows {classes} classes, "
            f"expected {spec.dim} and 2",
        )
    return head


def find_weights(features: Features, weights: str | Path | None = None) -> Path | None:
    """Find the network's weights file that made the embeddings, to be put into the bundle.

    Parameters
    ----------
    features : Features
    weights : str or Path, optional
        Where to look instead of where the file lay at extraction.

    Returns
    -------
    Path or None
        None for an untrained network, whose weights are made from a seed.

    Raises
    ------
    BundleRefused
        If the file isn't there or is another one.
    """
    spec = features.spec
    if spec.untrained:
        return None
    path = Path(weights or features.weights_path)
    if not path.is_file():
        where = f"at {path}" if weights or features.weights_path else "in a place that is known"
        raise BundleRefused(
            f"the weights of {spec} are not {where}, and without them nothing can be served: "
            "give their file with --weights PATH"
        )
    if (found := file_sha256(path)) != spec.weights_sha256:
        raise BundleRefused(
            f"{path} ({found[:8]}…) is not the weights file that made these embeddings "
            f"({spec.weights_sha256[:8]}…): give that one with --weights PATH, "
            "or extract the features anew"
        )
    return path


def save_bundle(
    folder: str | Path,
    comparison: Comparison,
    features: Features,
    *,
    weights: str | Path | None = None,
    overwrite: bool = False,
) -> Bundle:
    """Write the chosen head with all that is needed to serve and to judge it.

    The bundle is written aside, loaded as the service would, and renamed into place; a failure
    leaves `folder` as it was.

    Parameters
    ----------
    folder : str or Path
    comparison : Comparison
        Of heads that were fitted on `features`.
    features : Features
    weights : str or Path, optional
        As for `find_weights`.
    overwrite : bool
        Whether a bundle in `folder` may be replaced.

    Returns
    -------
    Bundle
        As it was loaded from its place.

    Raises
    ------
    BundleRefused
        If the folder is taken, the weights can't be found, the disk is full, or the head that is
        read back gives other scores.
    """
    require_free(folder, overwrite=overwrite)
    network = find_weights(features, weights)
    # A link is followed, so that what it points to is replaced rather than the link.
    target = Path(folder).resolve()
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(
            prefix=f".{target.name}.", suffix=".partial", dir=target.parent
        ) as aside:
            staged = Path(aside) / target.name
            staged.mkdir()
            _write(staged, comparison, features, network)
            _require_same_scores(staged, comparison, features)
            require_free(folder, overwrite=overwrite)
            swap(staged, target, Path(aside) / "replaced")
    except OSError as error:
        raise BundleRefused(
            f"the bundle {folder} can't be written ({error.strerror or error}): "
            "make room or give another folder with --out"
        ) from error
    return load_bundle(folder)


def _write(folder: Path, comparison: Comparison, features: Features, network: Path | None) -> None:
    # Serving a bundle needs neither Matplotlib nor Jinja.
    from models.card import render_card
    from models.report import render_report

    created = datetime.now(timezone.utc).isoformat(timespec="seconds")
    versions = {"features": features.software, "heads": software_versions()}
    head_file = dump_head(comparison.best.estimator, folder)
    network_file = None
    if network is not None:
        weights_only = network.name.endswith(".weights.h5")
        network_file = NETWORK_FILES[0] if weights_only else NETWORK_FILES[1]
        shutil.copyfile(network, folder / network_file)
    figures = comparison.as_dict()
    (folder / "comparison.json").write_text(_json(figures), encoding="utf-8")
    (folder / "report.html").write_text(
        render_report(comparison, features, created=created, versions=versions), encoding="utf-8"
    )
    (folder / "MODEL_CARD.md").write_text(
        render_card(comparison, features, created=created), encoding="utf-8"
    )
    values = {
        "format": BUNDLE_FORMAT,
        "version": BUNDLE_VERSION,
        "created": created,
        "fingerprint": features.fingerprint,
        "extractor": features.spec.as_dict(),
        "network_file": network_file,
        "labels": list(comparison.labels),
        "positive": comparison.labels[1],
        "head": comparison.chosen,
        "head_title": comparison.best.title,
        "head_file": head_file,
        "settings": comparison.best.settings,
        "threshold": comparison.best.threshold,
        "threshold_rule": comparison.best.threshold_rule,
        "zone": comparison.best.zone.as_dict(),
        "calibration": comparison.best.calibration.as_dict(),
        "metrics": {split: _metrics(found) for split, found in comparison.best.evaluations.items()},
        "counts": comparison.counts,
        "folds": comparison.folds,
        "seed": comparison.seed,
        "notes": list(comparison.notes),
        "marks": list(comparison.marks),
        "versions": versions,
        "files": {
            path.name: {"sha256": file_sha256(path), "bytes": path.stat().st_size}
            for path in sorted(folder.iterdir())
        },
    }
    (folder / MANIFEST).write_bytes(seal(values))


def _json(values: Any) -> str:
    return json.dumps(values, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def _metrics(evaluation: Evaluation) -> dict[str, Any]:
    return {name: value for name, value in evaluation.as_dict().items() if name != "roc"}


def _require_same_scores(folder: Path, comparison: Comparison, features: Features) -> None:
    probes = features.embeddings[:_PROBES]
    before = heads.score(comparison.best.estimator, probes)
    after = load_bundle(folder).score(probes)
    if not np.allclose(before, after, rtol=1e-5, atol=1e-6):
        raise BundleRefused(
            f"the {comparison.best.title} head gives other scores after it was written and read "
            "back: report this with the versions of scikit-learn, skops and xgboost"
        )
