"""The networks of a bundle, made ready by themselves: it takes as long as all the rest."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from features.embedding.extractor import Extractor, converted_extractor, rebuild_extractor
from features.embedding.joined import JoinedExtractor
from features.networks.weights import file_sha256
from models.bundle.manifest import (
    CONVERTED,
    BundledNetwork,
    BundleRefused,
    network_files,
    read_manifest,
    verify_files,
)

__all__ = ["ReadyNetwork", "ready_network"]


@dataclass(frozen=True)
class ReadyNetwork:
    """A bundle's networks that have run.

    Parameters
    ----------
    identity : str
        Of the bundle.
    extractor : JoinedExtractor
    blank : ndarray of float32, shape (1, spec.head_dim)
        What heads are given of a blank image.
    """

    identity: str
    extractor: JoinedExtractor
    blank: npt.NDArray[np.float32]


def ready_network(folder: str | Path, weights: str | Path | None = None) -> ReadyNetwork:
    """Verify the networks' files in a bundle, build them, and run them once.

    Imports nothing of the heads, so that those can be read at the same time.

    Parameters
    ----------
    folder : str or Path
    weights : str or Path, optional
        A weights file to use instead of the bundle's own; its hash must be the same. Of several
        networks it is taken for those that it fits.

    Returns
    -------
    ReadyNetwork

    Raises
    ------
    BundleRefused
        If the bundle is incomplete or altered, or a network of it can't be built here.
    WeightsError
        If the weights file is missing or doesn't fit the network.
    """
    folder = Path(folder)
    try:
        values, networks = read_manifest(folder)
        own = network_files(networks)
        verify_files(folder, {name: values["files"][name] for name in own}, ())
    except OSError as error:
        raise BundleRefused(f"the bundle {folder} can't be read ({error})") from error
    given = _fitting(folder, networks, weights)
    extractor = JoinedExtractor(
        [_build(folder, each, path) for each, path in zip(networks, given, strict=True)]
    )
    blank = [np.zeros((1, each.size, each.size, 3), np.uint8) for each in extractor.spec.frames]
    embedded = extractor.embed(*blank)
    return ReadyNetwork(values["sealed"], extractor, extractor.spec.combine(embedded))


def _fitting(
    folder: Path, networks: Sequence[BundledNetwork], weights: str | Path | None
) -> list[str | Path | None]:
    if weights is None or len(networks) == 1 or not Path(weights).is_file():
        # What is missing, or another one, is found out when it is read.
        return [weights] * len(networks)
    sha256 = file_sha256(Path(weights))
    fits = [each.spec.weights_sha256 == sha256 for each in networks]
    if not any(fits):
        names = ", ".join(each.name for each in networks)
        raise BundleRefused(
            f"{weights} ({sha256[:8]}…) is not the weights file of any network of the bundle "
            f"{folder} ({names}): give that of one, or leave it out"
        )
    return [weights if fit else None for fit in fits]


def _build(folder: Path, network: BundledNetwork, weights: str | Path | None) -> Extractor:
    own = None if network.file is None else folder / network.file
    try:
        if weights is None and own is not None and own.name.endswith(CONVERTED):
            return converted_extractor(network.spec, own, serving=True)
        return rebuild_extractor(network.spec, weights or own or "", serving=True)
    except ValueError as error:
        raise BundleRefused(
            f"the bundle {folder} needs a network that this program can't build ({error}): "
            "update the program, or train the classifier again"
        ) from error
