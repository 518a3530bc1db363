"""The frozen networks: input size, preprocessing, layers, and where their weights come from."""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Final, Literal

from features.errors import WeightsError

__all__ = ["NETWORKS", "Network", "Source", "Weights", "file_sha256", "resolve_weights"]

_DOWNLOADS: Final = "https://storage.googleapis.com/tensorflow/keras-applications"


_PATIENCE_SECONDS: Final = 5


_INCEPTION_CHANNELS: Final = (256, 288, 288, 768, 768, 768, 768, 768, 1280, 2048, 2048)


_VGG_CHANNELS: Final = (64, 128, 256, 512, 512)


@dataclass(frozen=True)
class Network:
    """A network of Keras Applications, without its classification top.

    Parameters
    ----------
    name : str
    keras_name : str
        Its name in `keras.applications`.
    input_size, smallest_input : int
        Side of the square it was trained on, and the least it can take, in pixels.
    preprocess : {"scale", "caffe"}
        What it was trained on: pixels scaled to -1 … 1 in RGB order, or BGR less the mean colour
        of ImageNet.
    layers : mapping
        Channels of each layer that embeddings can be read from.
    file, md5 : str
        Keras' own ImageNet weights file.
    untrained_sha256 : str
        Hash of the untrained weights, the same on every machine.
    """

    name: str
    keras_name: str
    input_size: int
    smallest_input: int
    preprocess: Literal["scale", "caffe"]
    layers: Mapping[str, int]
    file: str
    md5: str
    untrained_sha256: str

    @property
    def url(self) -> str:
        """Where Keras' ImageNet weights are fetched from."""
        return f"{_DOWNLOADS}/{self.name}/{self.file}"


NETWORKS: Final = MappingProxyType(
    {
        "inception_v3": Network(
            name="inception_v3",
            keras_name="InceptionV3",
            input_size=299,
            smallest_input=75,
            preprocess="scale",
            layers=MappingProxyType(
                {f"mixed{number}": channels for number, channels in enumerate(_INCEPTION_CHANNELS)}
            ),
            file="inception_v3_weights_tf_dim_ordering_tf_kernels_notop.h5",
            md5="bcbd6486424b2319ff4ef7d526e38f63",
            untrained_sha256="bb583c74b1c6f2fa1044a760cd25174d99a279079f04d3a56c7dd6a72afc0557",
        ),
        "vgg16": Network(
            name="vgg16",
            keras_name="VGG16",
            input_size=224,
            smallest_input=32,
            preprocess="caffe",
            layers=MappingProxyType(
                {f"block{number}_pool": c for number, c in enumerate(_VGG_CHANNELS, start=1)}
            ),
            file="vgg16_weights_tf_dim_ordering_tf_kernels_notop.h5",
            md5="6d6bbae143d832006294945121d1f1fc",
            untrained_sha256="034b3740861fe7aa17f7bad28b744323c7722882dfcc61546a7a6eb2c24aec9e",
        ),
    }
)


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
        return Weights("untrained", network.untrained_sha256, None)
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
    folder = keras_folder()
    if (folder / network.file).is_file():
        return folder / network.file
    import pooch
    import requests

    fetch = pooch.HTTPDownloader(progressbar=sys.stderr.isatty(), timeout=_PATIENCE_SECONDS)
    try:
        return Path(
            pooch.retrieve(
                network.url, f"md5:{network.md5}", network.file, folder, downloader=fetch
            )
        )
    except (requests.RequestException, OSError, ValueError) as error:
        raise WeightsError(
            f"the ImageNet weights of {network.name} can't be fetched from {network.url} "
            f"({type(error).__name__}): put that file into {folder}, or give a weights file with "
            "--weights PATH, or ask for random ones with --weights untrained"
        ) from error
