"""How a bundle is made: written aside, loaded as the service would, and renamed into place."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

from features.cache.contents import Features
from features.embedding.extractor import converted_files
from features.embedding.specification import ExtractorSpec, software_versions
from features.networks.weights import file_sha256
from features.presenting import as_bytes, json_text
from models.bundle.classes import dump_heads
from models.bundle.fusion import dump_fusion
from models.bundle.gallery import GALLERY, pictures_of, write_gallery
from models.bundle.loading import Bundle, load_bundle
from models.bundle.manifest import (
    BUNDLE_FORMAT,
    BUNDLE_VERSION,
    CONVERTED,
    MANIFEST,
    BundledNetwork,
    BundleRefused,
    network_file,
    seal,
)
from models.bundle.staging import require_free, swap
from models.machine import give_back
from models.results_cache import Kept
from models.training.representations.joining import JoinedFeatures, join_features
from models.training.results import Comparison

__all__ = [
    "BundleOptions",
    "Render",
    "find_each_weights",
    "find_weights",
    "require_free",
    "save_bundle",
]

Render = Callable[[str, Mapping[str, Mapping[str, str]]], Mapping[str, str]]

_PROBES = 64


@dataclass(frozen=True, kw_only=True)
class BundleOptions:
    """What goes into a bundle, and where what it needs is found.

    Parameters
    ----------
    weights : str, Path or mapping of str to (Path or None), optional
        As for `find_weights`; of several networks as `find_each_weights` gives them.
    overwrite : bool
        Whether a bundle in the folder may be replaced.
    thumbnails : bool
        Whether the gallery keeps small pictures of the training images, and the report shows those
        of misjudged images.
    gallery : bool
        Whether to keep the training images' embeddings, by which similar cases are found and unlike
        images are known.
    reuse : bool
        Whether what depends on the embeddings alone (what is like what, and the report's map) is
        taken from the user's cache folder, and kept there; and small pictures from the bundle that
        is replaced.
    """

    weights: str | Path | Mapping[str, Path | None] | None = None
    overwrite: bool = False
    thumbnails: bool = True
    gallery: bool = True
    reuse: bool = False

    def kept(self) -> Kept | None:
        """Give the user's cache folder, if it may be used."""
        return Kept() if self.reuse else None


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
        None for a network whose weights are made from a seed.

    Raises
    ------
    BundleRefused
        If the file isn't there or is another one.
    """
    spec = features.spec
    if spec.seeded:
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
            "or extract the features again"
        )
    return path


def find_each_weights(
    files: Mapping[str, Features], weights: Sequence[Path] = (), only: str | None = None
) -> dict[str, Path | None]:
    """Do the same for several feature files, any of which the bundle may be of.

    Parameters
    ----------
    files : mapping of str to Features
        By name.
    weights : sequence of Path
        Where to look; each file is taken for the networks that it fits.
    only : str, optional
        Name of the one that the bundle is to be of; of all together if it is none of theirs.

    Returns
    -------
    dict of str to Path or None
        By the same names, or by `only`.

    Raises
    ------
    BundleRefused
        If a file isn't there, or fits no network.
    """
    wanted = {name: each for name, each in files.items() if only == name} or dict(files)
    if len(files) == 1 and len(weights) < 2:
        return {name: find_weights(each, *weights) for name, each in wanted.items()}
    hashes: dict[str, Path] = {}
    for path in weights:
        if not path.is_file():
            raise BundleRefused(f"there is no weights file {path}: give the path of one")
        hashes[file_sha256(path)] = path
    known = {each.spec.weights_sha256 for each in files.values()}
    for sha256, path in hashes.items():
        if sha256 not in known:
            raise BundleRefused(
                f"{path} ({sha256[:8]}…) is not the weights file of any network in "
                f"{', '.join(files)}: give theirs, or leave it out"
            )
    return {
        name: find_weights(each, hashes.get(each.spec.weights_sha256))
        for name, each in wanted.items()
    }


def save_bundle(
    folder: str | Path,
    comparison: Comparison,
    features: Features,
    render: Render,
    options: BundleOptions | None = None,
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
        `models.training.representations.joining.JoinedFeatures` if they are of several networks.
    render : callable
        Writes what a person reads: takes the time of making and the versions of the software, gives
        the text of ``"report.html"`` and of ``"MODEL_CARD.md"``.
    options : BundleOptions, optional
        Those with their defaults, if not given.

    Returns
    -------
    Bundle
        As it was loaded, and then renamed into its place.

    Raises
    ------
    BundleRefused
        If the folder is taken, the weights can't be found, the disk is full, or the head that is
        read back gives other scores.
    """
    options = options or BundleOptions()
    require_free(folder, overwrite=options.overwrite)
    features = join_features(features)
    weights = _weights_of(features, options)
    # A link is followed, so that what it points to is replaced rather than the link.
    target = Path(folder).resolve()
    # What the heads took and freed is for the gallery and the report.
    give_back()
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(
            prefix=f".{target.name}.", suffix=".partial", dir=target.parent
        ) as aside:
            staged = Path(aside) / target.name
            staged.mkdir()
            # The report's map of the images keeps one core busy, and the gallery another.
            with threadpool_limits(1):
                with ThreadPoolExecutor(1) as beside:
                    known = pictures_of(target) if options.reuse and options.thumbnails else {}
                    gallery = beside.submit(
                        _write_gallery, staged, comparison, features, options, known
                    )
                    _write(staged, comparison, features, weights, render, gallery)
                bundle = load_bundle(staged)
                _require_same_scores(bundle, comparison, features)
            require_free(folder, overwrite=options.overwrite)
            swap(staged, target, Path(aside) / "replaced")
    except OSError as error:
        raise BundleRefused(
            f"the bundle {folder} can't be written ({error.strerror or error}): "
            "make room or give another folder with --out"
        ) from error
    # What was verified was renamed, and not written again.
    return replace(bundle, folder=Path(folder))


def _weights_of(features: JoinedFeatures, options: BundleOptions) -> list[Path | None]:
    given = options.weights
    if isinstance(given, Mapping):
        return [find_weights(each, given[name]) for name, each in features.members.items()]
    return [find_weights(each, given) for each in features.members.values()]


def _write_gallery(
    folder: Path,
    comparison: Comparison,
    features: Features,
    options: BundleOptions,
    known: Mapping[str, bytes],
) -> None:
    if options.gallery and (train := comparison.images.get("train")) is not None:
        write_gallery(
            folder / GALLERY,
            features,
            train,
            thumbnails=options.thumbnails,
            seed=comparison.seed,
            kept=options.kept(),
            known=known,
        )


def _write(
    folder: Path,
    comparison: Comparison,
    features: JoinedFeatures,
    weights: Sequence[Path | None],
    render: Render,
    gallery: Future[None],
) -> None:
    created = datetime.now(timezone.utc).isoformat(timespec="seconds")
    versions = {"features": features.software, "heads": software_versions()}
    heads = dump_heads(comparison, folder)
    networks = [
        BundledNetwork(
            name,
            each.spec,
            None if path is None else _copy_network(path, each.spec, folder, place),
            each.trained_on,
        )
        for place, ((name, each), path) in enumerate(
            zip(features.members.items(), weights, strict=True)
        )
    ]
    figures = comparison.as_dict()
    (folder / "comparison.json").write_text(_json(figures), encoding="utf-8")
    for name, text in render(created, versions).items():
        (folder / name).write_bytes(as_bytes(text))
    gallery.result()
    values = {
        "format": BUNDLE_FORMAT,
        "version": BUNDLE_VERSION,
        "created": created,
        "fingerprint": features.fingerprint,
        "networks": [each.as_dict() for each in networks],
        "labels": list(comparison.labels),
        "positive": comparison.labels[1],
        "head": comparison.chosen,
        "head_title": comparison.best.title,
        "head_file": heads.pop("head_file"),
        "settings": comparison.best.settings,
        **comparison.best.decision.terms(),
        "calibration": comparison.best.decision.calibration.as_dict(),
        **heads,
        **dump_fusion(comparison),
        **({"relabelled": comparison.relabelling.as_dict()} if comparison.relabelling else {}),
        "metrics": comparison.best.metrics(),
        "counts": comparison.counts,
        "folds": comparison.folds,
        "seed": comparison.seed,
        "notes": list(comparison.notes),
        "marks": list(comparison.marks),
        "versions": versions,
        "files": _listed(sorted(folder.iterdir())),
    }
    (folder / MANIFEST).write_bytes(seal(values))


def _listed(paths: Sequence[Path]) -> dict[str, dict[str, Any]]:
    with ThreadPoolExecutor(4) as pool:
        hashes = pool.map(file_sha256, paths)
        return {
            path.name: {"sha256": sha256, "bytes": path.stat().st_size}
            for path, sha256 in zip(paths, hashes, strict=True)
        }


def _copy_network(weights: Path, spec: ExtractorSpec, folder: Path, place: int) -> str:
    """Put a network into the bundle: as it was converted for CPUs, or else its weights."""
    converted = converted_files(spec, weights)
    if converted is None:
        kind = ".weights.h5" if weights.name.endswith(".weights.h5") else ".h5"
        name = network_file(place, kind)
        shutil.copyfile(weights, folder / name)
        return name
    for source in converted:
        shutil.copyfile(source, folder / network_file(place, source.suffix))
    return network_file(place, CONVERTED)


def _json(values: Any) -> str:
    return json_text(values, indent=1) + "\n"


def _require_same_scores(bundle: Bundle, comparison: Comparison, features: Features) -> None:
    probes = features.embedded(features.items.take(np.arange(len(features.items))[:_PROBES]))
    pairs = zip(comparison.served.heads, bundle.classes.heads, strict=True)
    if not all(
        np.allclose(before.score(probes), again.score(probes), rtol=1e-5, atol=1e-6)
        for before, again in pairs
    ):
        raise BundleRefused(
            f"the {comparison.best.title} head gives other scores after it was written and read "
            "back: report this with the versions of scikit-learn, skops and xgboost"
        )
