"""The network of a bundle, made ready by itself: it takes as long as all the rest."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from features.embedding.extractor import Extractor, converted_extractor, rebuild_extractor
from features.embedding.specification import ExtractorSpec
from models.bundle.manifest import (
    NETWORK_FILES,
    BundleRefused,
    network_files,
    read_manifest,
    verify_files,
)

__all__ = ["ReadyNetwork", "ready_network"]


@dataclass(frozen=True)
class ReadyNetwork:
    """A bundle's network that has run.

    Parameters
    ----------
    identity : str
        Of the bundle.
    extractor : Extractor
    blank : ndarray of float32, shape (1, spec.head_dim)
        What heads are given of a blank image.
    """

    identity: str
    extractor: Extractor
    blank: npt.NDArray[np.float32]


def ready_network(folder: str | Path, weights: str | Path | None = None) -> ReadyNetwork:
    """Verify the network's files in a bundle, build it, and run it once.

    Imports nothing of the heads, so that those can be read at the same time.

    Parameters
    ----------
    folder : str or Path
    weights : str or Path, optional
        A weights file to use instead of the bundle's own; its hash must be the same.

    Returns
    -------
    ReadyNetwork

    Raises
    ------
    BundleRefused
        If the bundle is incomplete or altered, or its network can't be built here.
    WeightsError
        If the weights file is missing or doesn't fit the network.
    """
    folder = Path(folder)
    try:
        values, spec = read_manifest(folder)
        own = network_files(values)
        verify_files(folder, {name: values["files"][name] for name in own}, ())
    except OSError as error:
        raise BundleRefused(f"the bundle {folder} can't be read ({error})") from error
    name = values["network_file"]
    extractor = _build(folder, spec, None if name is None else folder / name, weights)
    blank = [np.zeros((1, each.size, each.size, 3), np.uint8) for each in extractor.spec.frames]
    embedded = extractor.embed(*blank)
    return ReadyNetwork(values["sealed"], extractor, extractor.spec.combine(embedded))


def _build(
    folder: Path, spec: ExtractorSpec, own: Path | None, weights: str | Path | None
) -> Extractor:
    try:
        if weights is None and own is not None and own.name == NETWORK_FILES[2]:
            return converted_extractor(spec, own, serving=True)
        return rebuild_extractor(spec, weights or own or "", serving=True)
    except ValueError as error:
        raise BundleRefused(
            f"the bundle {folder} needs a network that this program can't build ({error}): "
            "update the program, or train the classifier again"
        ) from error
