"""Where a network's weights come from, and what is read off it with them."""

from __future__ import annotations

import os
import re
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from features.errors import WeightsError
from features.networks.registry import KerasApplication, Network, OnnxFile, OwnModel
from features.storage.addresses import address_of, is_remote
from features.storage.fetching import fetch, file_sha256

__all__ = ["Source", "Weights", "file_sha256", "may_have_seen", "resolve_weights"]

# Collections of pictures of skin that are in the ISIC archive, or may be in part.
_SKIN: Final = re.compile(
    r"isic|ham ?10|bcn|siim|derm|skin|melanom|\bmoles?\b|\bmsk|\bph2|fitzpatrick|sd-?(?:198|260)"
    r"|pad-ufes",
    re.IGNORECASE,
)
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
        None if they are made from a seed.
    trained_on : str
        Which images; empty if that is not known.
    """

    kind: Literal["pretrained", "untrained"]
    sha256: str
    path: Path | None
    trained_on: str = ""


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
        ``"imagenet"`` is Keras' own file, fetched once; a path or an address is a weights file for
        the network without its top.

    Returns
    -------
    Weights

    Raises
    ------
    WeightsError
        If the file is missing or can't be fetched.
    StorageError
        If an address can't be read.
    """
    if is_remote(source):
        # One with a secret in it must not come into any sentence below.
        address_of(source)
    origin = network.origin
    if isinstance(origin, OnnxFile):
        return _weights_in(origin, source, network.trained_on)
    if isinstance(origin, OwnModel):
        return _kept_weights(network, source)
    if source == "untrained":
        return Weights("untrained", origin.untrained_sha256, None)
    path = _fetch_imagenet(network.name, origin) if source == "imagenet" else fetch(source)
    if not path.is_file():
        raise WeightsError(
            f"there is no weights file {path}: "
            "give `imagenet`, `untrained` or the path of a Keras weights file"
        )
    told = network.trained_on if source == "imagenet" else ""
    return Weights("pretrained", file_sha256(path), path.resolve(), told)


def may_have_seen(trained_on: str) -> str | None:
    """Warn if a network was trained on images of skin that may be among a user's.

    Parameters
    ----------
    trained_on : str
        What is said of its training.

    Returns
    -------
    str or None
        A sentence.

    Examples
    --------
    >>> may_have_seen("ImageNet-1k") is None
    True
    >>> may_have_seen("HAM10000").split(":")[0]
    'The network was trained on HAM10000, which is or may be from the ISIC archive'
    """
    if not _SKIN.search(trained_on):
        return None
    return (
        f"The network was trained on {trained_on}, which is or may be from the ISIC archive: on "
        "images of that archive the figures are better than on new ones, and say nothing of these."
    )


def keras_folder() -> Path:
    """Where Keras keeps the weights that it fetched."""
    return Path(os.environ.get("KERAS_HOME") or Path.home() / ".keras") / "models"


def _weights_in(origin: OnnxFile, source: str | Path, trained_on: str) -> Weights:
    if source != "imagenet" and Path(source) != origin.path:
        raise WeightsError(
            f"got weights {source} for {origin.path}, which holds its own: leave --weights out"
        )
    if not origin.path.is_file():
        raise WeightsError(f"there is no network {origin.path}: give the path of an ONNX file")
    kind: Literal["pretrained", "untrained"] = "untrained" if origin.untrained else "pretrained"
    return Weights(kind, file_sha256(origin.path), origin.path.resolve(), trained_on)


def _kept_weights(network: Network, source: str | Path) -> Weights:
    path = Path(source)
    if source in {"imagenet", "untrained"} or not path.is_file():
        raise WeightsError(
            f"got weights {source} for {network.name}, whose model brings its own: "
            "leave --weights out"
        )
    return Weights("pretrained", file_sha256(path), path.resolve(), network.trained_on)


def _fetch_imagenet(name: str, origin: KerasApplication) -> Path:
    folder = keras_folder()
    if (folder / origin.file).is_file():
        return folder / origin.file
    import pooch
    import requests

    fetch = pooch.HTTPDownloader(progressbar=sys.stderr.isatty(), timeout=_PATIENCE_SECONDS)
    try:
        return Path(
            pooch.retrieve(
                origin.url,
                # Keras knows no hash of the files of MobileNet; what came is in the fingerprint.
                f"md5:{origin.md5}" if origin.md5 else None,
                origin.file,
                folder,
                downloader=fetch,
            )
        )
    except (requests.RequestException, OSError, ValueError) as error:
        raise WeightsError(
            f"the ImageNet weights of {name} can't be fetched from {origin.url} "
            f"({type(error).__name__}): put that file into {folder}, or give a weights file with "
            "--weights PATH, or ask for random ones with --weights untrained"
        ) from error
