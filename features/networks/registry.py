"""The frozen networks that are known by name: `NETWORKS`.

Those of Keras Applications are in ``data/keras_applications.json``, as Keras itself describes them
(scripts/keras_networks.py); the two with recipes of their own are entries here. This module imports
nothing heavy: the command line takes its choices from it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, Literal

__all__ = [
    "DEFAULT_NETWORK",
    "NETWORKS",
    "POOLINGS",
    "RECIPES",
    "KerasApplication",
    "Network",
    "OnnxFile",
    "OwnModel",
    "Preprocessing",
    "Reading",
    "Recipe",
]

_DOWNLOADS: Final = "https://storage.googleapis.com/tensorflow/keras-applications"

POOLINGS: Final = ("mean", "mean+std")


@dataclass(frozen=True)
class Preprocessing:
    """How pixels of 0 to 255 become a network's input: (pixels / divisor - mean) / deviation.

    Parameters
    ----------
    channels : {"RGB", "BGR"}
        Their order, also that of the numbers below.
    divisor : float
    mean, deviation : float or three of them
        Of all channels, or of each.
    """

    channels: Literal["RGB", "BGR"] = "RGB"
    divisor: float = 1.0
    mean: float | tuple[float, float, float] = 0.0
    deviation: float | tuple[float, float, float] = 1.0


@dataclass(frozen=True)
class Recipe:
    """What an embedding is made of.

    Parameters
    ----------
    layers : tuple of str
        Layers of the network, each summed up over its positions.
    pooling : {"mean", "mean+std"}
        By their mean, or by their mean and standard deviation.
    views : tuple of str
        As `features.embedding.views.parse_views` reads them.
    input_size : int, optional
        Side of the square input in pixels, where a view names none; by default the network's.
    colour : {"as-is", "shades-of-grey"}
        Whether the colour of the light is taken out.
    """

    layers: tuple[str, ...]
    pooling: str = "mean"
    views: tuple[str, ...] = ("identity",)
    input_size: int | None = None
    colour: str = "as-is"


@dataclass(frozen=True)
class KerasApplication:
    """Where a network of Keras Applications comes from; it is built without its top.

    Parameters
    ----------
    function : str
        What builds it in `keras.applications`.
    weights, md5 : str
        Keras' own ImageNet weights file without the top, and its hash.
    untrained_sha256 : str
        Hash of the untrained weights, the same on every machine.
    untrained_statistics : str, optional
        File in ``data/`` with the batch-norm statistics of the untrained weights.
    module : str
        Module of `keras.applications` that the network's preprocessing is in.
    kept_as : str, optional
        Name under which Keras keeps the weights file, where it is not the last part of its address.
    rescaled : tuple of float, optional
        What Keras multiplies each channel by after the network's own normalisation, if it is to
        have Keras' ImageNet weights: it does so for weights that it loads itself, and no others.
    """

    function: str
    weights: str
    md5: str | None
    untrained_sha256: str
    untrained_statistics: str | None = None
    module: str = ""
    kept_as: str | None = None
    rescaled: tuple[float, ...] | None = None

    @property
    def url(self) -> str:
        """Where Keras' ImageNet weights are fetched from."""
        return self.weights if "://" in self.weights else f"{_DOWNLOADS}/{self.weights}"

    @property
    def file(self) -> str:
        """Name of the weights file in the folder where Keras keeps what it fetched."""
        return self.kept_as or self.weights.rpartition("/")[2]


@dataclass(frozen=True)
class Reading:
    """What is read off an output of a network that is no part of this program.

    Parameters
    ----------
    output : str
        Name of an ONNX file's output, or of a Keras model's layer.
    what : {"map", "vector", "class", "patches"}
        The output is a map over the image; a vector of it; or a row of tokens, of which the class's
        or those of the patches are read.
    """

    output: str
    what: Literal["map", "vector", "class", "patches"]


@dataclass(frozen=True)
class OnnxFile:
    """Where a network in an ONNX file comes from.

    Parameters
    ----------
    path : Path
    input_name, layout : str
        The input that takes the pixels, ``"NCHW"`` or ``"NHWC"``.
    readings : mapping
        What each layer of the network is, by the layer's name.
    prefix : int
        How many tokens come before those of the patches.
    files : tuple of (str, str)
        Files beside it that belong to it, and their hashes.
    untrained : bool
        Whether its weights are known to be random.
    """

    path: Path
    input_name: str
    layout: str
    readings: Mapping[str, Reading]
    prefix: int
    files: tuple[tuple[str, str], ...] = ()
    untrained: bool = False


@dataclass(frozen=True)
class OwnModel:
    """Where a Keras model of the user's own comes from.

    Parameters
    ----------
    function : str
        ``package.module:function``, which gives the model.
    layout : str
        ``"NCHW"`` or ``"NHWC"``.
    readings, prefix
        As of `OnnxFile`.
    """

    function: str
    layout: str
    readings: Mapping[str, Reading]
    prefix: int


Origin = KerasApplication | OnnxFile | OwnModel


@dataclass(frozen=True)
class Network:
    """A frozen network: all that has to be known of it.

    Parameters
    ----------
    name : str
    origin : KerasApplication, OnnxFile or OwnModel
        What it is built from.
    input_size, smallest_input : int
        Side of the square it was trained on, and the least it can take, in pixels.
    preprocessing : Preprocessing
        Of the pixels, as it was trained.
    layers : mapping
        Channels of each layer that embeddings can be read from.
    recipes : mapping
        By name, see `RECIPES`.
    largest_input : int, optional
        The most it can take, in pixels.
    preparation : tuple of str
        What of all this changes a number and is in no other part of an extractor's specification;
        nothing for the networks that are known by name.
    licence, trained_on : str
        Of its weights.
    parameters : int, optional
        How many numbers its weights are.
    """

    name: str
    origin: Origin
    input_size: int
    smallest_input: int
    preprocessing: Preprocessing
    layers: Mapping[str, int]
    recipes: Mapping[str, Recipe]
    largest_input: int | None = None
    preparation: tuple[str, ...] = ()
    licence: str = ""
    trained_on: str = ""
    parameters: int | None = None

    def spread(self, layer: str) -> bool:
        """Whether a layer is spread over the image, rather than one vector of it."""
        if isinstance(self.origin, KerasApplication):
            return True
        return self.origin.readings[layer].what in {"map", "patches"}


def _recipes(*, fast: str, accurate: tuple[str, ...]) -> Mapping[str, Recipe]:
    """One layer of the whole image, and several with a closer look at the lesion.

    See docs/accuracy.md for what else was tried.
    """
    several = Recipe(accurate, "mean+std", ("identity", "lesion:identity"), colour="shades-of-grey")
    return MappingProxyType({"fast": Recipe((fast,)), "accurate": several})


# Of the weights, by Keras' module; docs/networks.md says where each was looked up.
_LICENCES: Final = {
    "convnext": "MIT",
    "densenet": "BSD-3-Clause",
    "resnet": "MIT",
    "resnet_v2": "not looked up",
    "vgg16": "CC-BY-4.0",
    "vgg19": "CC-BY-4.0",
    "xception": "MIT",
}
_KERAS_LICENCE: Final = "Apache-2.0"
_IMAGENET: Final = "ImageNet-1k"
# Keras says of these that they learnt from more images first.
_MORE: Final = ("convnext_base", "convnext_large", "convnext_xlarge")
_INCEPTION_CHANNELS: Final = (256, 288, 288, 768, 768, 768, 768, 768, 1280, 2048, 2048)
_VGG_CHANNELS: Final = (64, 128, 256, 512, 512)

_ENTRIES: Final = (
    Network(
        name="inception_v3",
        origin=KerasApplication(
            function="InceptionV3",
            weights="inception_v3/inception_v3_weights_tf_dim_ordering_tf_kernels_notop.h5",
            md5="bcbd6486424b2319ff4ef7d526e38f63",
            untrained_sha256="bb583c74b1c6f2fa1044a760cd25174d99a279079f04d3a56c7dd6a72afc0557",
            untrained_statistics="untrained_inception_v3.npz",
            module="inception_v3",
        ),
        input_size=299,
        smallest_input=75,
        preprocessing=Preprocessing(divisor=127.5, mean=1.0),
        layers=MappingProxyType({f"mixed{at}": c for at, c in enumerate(_INCEPTION_CHANNELS)}),
        recipes=_recipes(
            fast="mixed10",
            accurate=("mixed3", "mixed4", "mixed5", "mixed6", "mixed8", "mixed9"),
        ),
        licence=_KERAS_LICENCE,
        trained_on=_IMAGENET,
        parameters=21_802_784,
    ),
    Network(
        name="vgg16",
        origin=KerasApplication(
            function="VGG16",
            weights="vgg16/vgg16_weights_tf_dim_ordering_tf_kernels_notop.h5",
            md5="6d6bbae143d832006294945121d1f1fc",
            untrained_sha256="034b3740861fe7aa17f7bad28b744323c7722882dfcc61546a7a6eb2c24aec9e",
            module="vgg16",
        ),
        input_size=224,
        smallest_input=32,
        preprocessing=Preprocessing("BGR", mean=(103.939, 116.779, 123.68)),
        layers=MappingProxyType({f"block{at}_pool": c for at, c in enumerate(_VGG_CHANNELS, 1)}),
        recipes=_recipes(
            fast="block5_pool", accurate=("block3_pool", "block4_pool", "block5_pool")
        ),
        licence=_LICENCES["vgg16"],
        trained_on=_IMAGENET,
        parameters=14_714_688,
    ),
)


def _from_keras(name: str, told: dict[str, Any]) -> Network:
    """Make an entry of what Keras says of a network."""
    how: dict[str, Any] = {
        key: tuple(value) if isinstance(value, list) else value
        for key, value in told["preprocessing"].items()
    }
    layers = list(told["layers"])
    rescaled = told.get("rescaled")
    return Network(
        name=name,
        origin=KerasApplication(
            function=told["function"],
            weights=told["weights"],
            md5=told["md5"],
            untrained_sha256=told["untrained_sha256"],
            module=told["module"],
            kept_as=told["file"],
            rescaled=tuple(rescaled) if rescaled else None,
        ),
        input_size=told["input_size"],
        smallest_input=told["smallest_input"],
        preprocessing=Preprocessing(**how),
        layers=MappingProxyType(told["layers"]),
        # No trial chose these; see docs/networks.md.
        recipes=_recipes(fast=layers[-1], accurate=tuple(layers[-3:])),
        licence=_LICENCES.get(told["module"], _KERAS_LICENCE),
        trained_on=f"ImageNet-21k, {_IMAGENET}" if name in _MORE else _IMAGENET,
        parameters=told["parameters"],
    )


def _known() -> Mapping[str, Network]:
    found = {network.name: network for network in _ENTRIES}
    table = Path(__file__).parent / "data" / "keras_applications.json"
    for name, told in json.loads(table.read_text(encoding="utf-8")).items():
        if name not in found:
            found[name] = _from_keras(name, told)
    return MappingProxyType(found)


NETWORKS: Final = _known()
DEFAULT_NETWORK: Final = "inception_v3"
RECIPES: Final = tuple(dict.fromkeys(name for each in _ENTRIES for name in each.recipes))
