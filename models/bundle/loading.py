"""What is served: a folder with the head, the network and all that explains them.

Whatever a bundle holds, loading it runs no code of its.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from features.embedding.joined import JoinedSpec
from models.bundle.classes import load_heads
from models.bundle.fusion import load_fusion
from models.bundle.gallery import GALLERY, Gallery, GalleryError, read_gallery
from models.bundle.manifest import (
    MANIFEST,
    BundledNetwork,
    BundleRefused,
    altered,
    head_files,
    network_files,
    read_manifest,
    verify_files,
)
from models.decisions.decision import Decision
from models.heads.classes import ClassHeads
from models.heads.files import HEAD_FILES
from models.patients.fusion import FUSION, FusedHead
from models.training.relabelling import Relabelling

__all__ = [
    "Bundle",
    "BundleRefused",
    "load_bundle",
]


@dataclass(frozen=True)
class Bundle:
    """A verified bundle.

    Parameters
    ----------
    folder : Path
    created : str
        ISO 8601 time in UTC.
    networks : tuple of BundledNetwork
        At least one, in the order of the columns that heads are given.
    labels : tuple of str
        (negative, positive).
    head_name, head_title : str
        Key in `models.heads.HEADS`, and the name that a person reads.
    classes : ClassHeads
        Fitted: of every class that is told from the rest, the positive one first.
    settings : dict
        Of the head.
    decision : Decision
        Of the head's scores.
    metrics : dict
        By split, as `models.evaluation.values.Evaluation.as_dict` gives them, without the curves.
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
    identity : str
        Hash of the manifest, which names the hash of every other file.
    class_metrics : dict
        By split, as `models.evaluation.classes.ClassEvaluation.as_dict` gives them, where the data
        had more than two.
    fusion : FusedHead or None
        What takes age, sex and site besides, where they were given at fitting.
    gallery : Gallery or None
        The training images, where they were kept.
    relabelling : Relabelling
        What classes of the training images were taken for.
    """

    folder: Path
    created: str
    networks: tuple[BundledNetwork, ...]
    labels: tuple[str, str]
    head_name: str
    head_title: str
    classes: ClassHeads
    settings: dict[str, Any]
    decision: Decision
    metrics: dict[str, Any]
    counts: dict[str, dict[str, int]]
    folds: int
    seed: int
    notes: tuple[str, ...]
    marks: tuple[str, ...]
    versions: dict[str, dict[str, str]]
    identity: str
    class_metrics: dict[str, Any] = field(default_factory=dict)
    fusion: FusedHead | None = None
    gallery: Gallery | None = None
    relabelling: Relabelling = field(default_factory=Relabelling)

    @property
    def spec(self) -> JoinedSpec:
        """What the embeddings must be made with."""
        return JoinedSpec(tuple(each.spec for each in self.networks))

    @property
    def network_paths(self) -> tuple[Path | None, ...]:
        """Of each network as it was converted (.xml), or else its weights; None if untrained."""
        files = [each.file for each in self.networks]
        return tuple(None if file is None else self.folder / file for file in files)

    @property
    def fingerprint(self) -> str:
        """Fingerprint of the extractor."""
        return self.spec.fingerprint

    def score(self, X: npt.ArrayLike) -> npt.NDArray[np.float64]:
        """Give the head's scores of embeddings (n, d), shape (n,); higher is more positive."""
        return self.classes.heads[0].score(X)

    def probability(self, X: npt.ArrayLike) -> npt.NDArray[np.float64]:
        """Give calibrated probabilities of the positive class of embeddings (n, d), shape (n,)."""
        return self.decision.calibration.apply(self.score(X))

    def probability_with(
        self, X: npt.ArrayLike, rows: Sequence[Mapping[str, Any]]
    ) -> npt.NDArray[np.float64]:
        """Give the probabilities of embeddings (n, d) with what is known of each patient.

        Parameters
        ----------
        X : array-like, shape (n, d)
        rows : sequence of mapping, length n
            As `models.patients.encoding.read_patient` gives them; the image alone judges where one
            is empty.

        Returns
        -------
        ndarray, shape (n,)
        """
        scores = self.score(X)
        found = self.decision.calibration.apply(scores)
        given = [place for place, row in enumerate(rows) if row]
        if given and self.fusion is not None:
            known = [rows[place] for place in given]
            found[given] = self.fusion.probability(scores[given], known)
        return found

    def fused(self) -> Bundle:
        """Give the same bundle with title, calibration, decisions and metrics of its fusion.

        Raises
        ------
        BundleRefused
            If it has none.
        """
        fused = self.fusion
        if fused is None:
            raise BundleRefused(
                f"the bundle {self.folder} judges by the image alone: leave metadata away, "
                "or fit it with `fit_classifier.py --metadata CSV`"
            )
        return replace(
            self,
            head_name=FUSION,
            head_title=fused.title,
            decision=fused.decision,
            metrics=fused.metrics,
        )

    def decision_with(self, inputs: Mapping[str, Any] | None) -> Decision:
        """Give the decision of a verdict that used `inputs`."""
        return self.fusion.decision if inputs and self.fusion is not None else self.decision


def load_bundle(folder: str | Path, *, network: bool = True) -> Bundle:
    """Read a bundle after verifying every file in it.

    Parameters
    ----------
    folder : str or Path
    network : bool, optional
        Whether to verify the networks' files, too; else `models.bundle.network.ready_network` does.

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
        values, networks = read_manifest(folder)
        _require_known_head(folder, values)
        wanted = head_files(values) | ({GALLERY} & set(values["files"]))
        apart = set() if network else network_files(networks)
        files = {name: known for name, known in values["files"].items() if name not in apart}
        contents = verify_files(folder, files, wanted)
    except OSError as error:
        raise BundleRefused(f"the bundle {folder} can't be read ({error})") from error
    try:
        decision = Decision.from_dict(values)
    except ValueError as error:
        raise altered(folder, f"{MANIFEST} has {error}") from error
    dim = JoinedSpec(tuple(each.spec for each in networks)).head_dim
    return Bundle(
        folder=folder,
        created=values["created"],
        networks=networks,
        labels=(values["labels"][0], values["labels"][1]),
        head_name=values["head"],
        head_title=values["head_title"],
        classes=load_heads(folder, values, contents, dim, decision),
        settings=values["settings"],
        decision=decision,
        metrics=values["metrics"],
        counts=values["counts"],
        folds=values["folds"],
        seed=values["seed"],
        notes=tuple(values["notes"]),
        marks=tuple(values["marks"]),
        versions=values["versions"],
        identity=values["sealed"],
        gallery=_read_gallery(folder, contents.get(GALLERY), dim),
        class_metrics=(values["classes"] or {}).get("metrics", {}),
        fusion=load_fusion(folder, values),
        relabelling=_read_relabelling(folder, values),
    )


def _require_known_head(folder: Path, values: dict[str, Any]) -> None:
    if values["head_file"] not in HEAD_FILES:
        raise altered(folder, f"{MANIFEST} has values that make no sense: head_file")


def _read_relabelling(folder: Path, values: dict[str, Any]) -> Relabelling:
    try:
        return (
            Relabelling.from_dict(values["relabelled"]) if values["relabelled"] else Relabelling()
        )
    except (TypeError, ValueError, LookupError, AttributeError) as error:
        raise altered(folder, f"{MANIFEST} renames classes without sense ({error})") from error


def _read_gallery(folder: Path, data: bytes | None, dim: int) -> Gallery | None:
    try:
        return None if data is None else read_gallery(data, dim)
    except GalleryError as error:
        raise altered(folder, f"{GALLERY} is not a gallery: {error}") from error
