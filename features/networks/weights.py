"""Where a network's weights come from, and what is read off it with them."""

from __future__ import annotations

import hashlib
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from features.errors import WeightsError
from features.networks.registry import Network

__all__ = ["Source", "Weights", "file_sha256", "resolve_weights"]

_PATIENCE_SECONDS: Final = 5


@dataclass(frozen=True)
class Weights:
    """Where a network's weights come from.

    Parameters
    ----------
    kind : {"pretrained", "untrained"}
    sha256 : str
        Of the file, or of the untrained values.
    path : Path or None
        None if untrained.
    """

    kind: Literal["pretrained", "untrained"]
    sha256: str
    path: Path | None


@dataclass(frozen=True)
class Source:
    """A network with its weights, and what is read off it.

    Parameters
    ----------
    network : Network
    weights : Weights
    layers : tuple of str
        Keys of ``network.layers``.
    pooling : {"mean", "mean+std"}
        Of the positions of each layer: their mean, or their mean and standard deviation.
    input_size : int
        Side of the square input in pixels that it is converted for; it can be given others, too.
    """

    network: Network
    weights: Weights
    layers: tuple[str, ...]
    pooling: str
    input_size: int

    @property
    def dim(self) -> int:
        """Length of the embedding of one view."""
        channels = sum(self.network.layers[layer] for layer in self.layers)
        return channels * len(self.pooling.split("+"))


def resolve_weights(network: Network, source: str | Path) -> Weights:
    """Find the weights that a user asked for; no network is built yet.

    Parameters
    ----------
    network : Network
    source : {"imagenet", "untrained"} or path
        ``"imagenet"`` is Keras' own file, fetched once; a path is a weights file for the network
        without its top.

    Returns
    -------
    Weights

    Raises
    ------
    WeightsError
        If the file is missing or can't be fetched.
    """
    if source == "untrained":
        return Weights("untrained", network.origin.untrained_sha256, None)
    path = _fetch_imagenet(network) if source == "imagenet" else Path(source)
    if not path.is_file():
        raise WeightsError(
            f"there is no weights file {path}: "
            "give `imagenet`, `untrained` or the path of a Keras weights file"
        )
    return Weights("pretrained", file_sha256(path), path.resolve())


def file_sha256(path: Path) -> str:
    """Hash a file's bytes."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def keras_folder() -> Path:
    """Where Keras keeps the weights that it fetched."""
    return Path(os.environ.get("KERAS_HOME") or Path.home() / ".keras") / "models"


def _fetch_imagenet(network: Network) -> Path:
    folder, origin = keras_folder(), network.origin
    if (folder / origin.file).is_file():
        return folder / origin.file
    import pooch
    import requests

    fetch = pooch.HTTPDownloader(progressbar=sys.stderr.isatty(), timeout=_PATIENCE_SECONDS)
    try:
        return Path(
            pooch.retrieve(origin.url, f"md5:{origin.md5}", origin.file, folder, downloader=fetch)
        )
    except (requests.RequestException, OSError, ValueError) as error:
        raise WeightsError(
            f"the ImageNet weights of {network.name} can't be fetched from {origin.url} "
            f"({type(error).__name__}): put that file into {folder}, or give a weights file with "
            "--weights PATH, or ask for random ones with --weights untrained"
        ) from error
