"""The frozen networks: adding one is one entry in `NETWORKS`.

This module imports nothing heavy: the command line takes its choices from it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, Literal

__all__ = [
    "DEFAULT_NETWORK",
    "NETWORKS",
    "POOLINGS",
    "RECIPES",
    "KerasApplication",
    "Network",
    "Preprocessing",
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
    """

    function: str
    weights: str
    md5: str
    untrained_sha256: str
    untrained_statistics: str | None = None

    @property
    def url(self) -> str:
        """Where Keras' ImageNet weights are fetched from."""
        return f"{_DOWNLOADS}/{self.weights}"

    @property
    def file(self) -> str:
        """Name of the weights file in the folder where Keras keeps what it fetched."""
        return self.weights.rpartition("/")[2]


@dataclass(frozen=True)
class Network:
    """A frozen network: all that has to be known of it.

    Parameters
    ----------
    name : str
    origin : KerasApplication
        What it is built from.
    input_size, smallest_input : int
        Side of the square it was trained on, and the least it can take, in pixels.
    preprocessing : Preprocessing
        Of the pixels, as it was trained.
    layers : mapping
        Channels of each layer that embeddings can be read from.
    recipes : mapping
        By name, see `RECIPES`.
    """

    name: str
    origin: KerasApplication
    input_size: int
    smallest_input: int
    preprocessing: Preprocessing
    layers: Mapping[str, int]
    recipes: Mapping[str, Recipe]


def _recipes(*, fast: str, accurate: tuple[str, ...]) -> Mapping[str, Recipe]:
    """One layer of the whole image, and several with a closer look at the lesion.

    See docs/accuracy.md for what else was tried.
    """
    several = Recipe(accurate, "mean+std", ("identity", "lesion:identity"), colour="shades-of-grey")
    return MappingProxyType({"fast": Recipe((fast,)), "accurate": several})


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
        ),
        input_size=299,
        smallest_input=75,
        preprocessing=Preprocessing(divisor=127.5, mean=1.0),
        layers=MappingProxyType({f"mixed{at}": c for at, c in enumerate(_INCEPTION_CHANNELS)}),
        recipes=_recipes(
            fast="mixed10",
            accurate=("mixed3", "mixed4", "mixed5", "mixed6", "mixed8", "mixed9"),
        ),
    ),
    Network(
        name="vgg16",
        origin=KerasApplication(
            function="VGG16",
            weights="vgg16/vgg16_weights_tf_dim_ordering_tf_kernels_notop.h5",
            md5="6d6bbae143d832006294945121d1f1fc",
            untrained_sha256="034b3740861fe7aa17f7bad28b744323c7722882dfcc61546a7a6eb2c24aec9e",
        ),
        input_size=224,
        smallest_input=32,
        preprocessing=Preprocessing("BGR", mean=(103.939, 116.779, 123.68)),
        layers=MappingProxyType({f"block{at}_pool": c for at, c in enumerate(_VGG_CHANNELS, 1)}),
        recipes=_recipes(
            fast="block5_pool", accurate=("block3_pool", "block4_pool", "block5_pool")
        ),
    ),
)

NETWORKS: Final = MappingProxyType({network.name: network for network in _ENTRIES})
DEFAULT_NETWORK: Final = "inception_v3"
RECIPES: Final = tuple(dict.fromkeys(name for each in _ENTRIES for name in each.recipes))
