"""Networks as Keras builds them, from pixels to embeddings; `devices` runs them."""

from __future__ import annotations

import importlib
import os
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np

from features.errors import ExtractorError, WeightsError
from features.networks.registry import KerasApplication, Network, Preprocessing
from features.networks.untrained import set_untrained_weights
from features.networks.weights import Source

__all__ = [
    "build_base",
    "build_network",
    "import_keras",
    "preprocess",
]


def import_keras() -> Any:
    """Import Keras without what its backend's libraries write to the terminal."""
    # TensorFlow's libraries chatter as they are loaded, before any of their log settings takes
    # effect; a failing import still raises.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    if "keras" not in sys.modules:
        terminal = os.dup(2)
        try:
            with open(os.devnull, "wb") as nowhere:
                os.dup2(nowhere.fileno(), 2)
            importlib.import_module("keras")
        except ImportError as error:
            raise ExtractorError(
                f"this network has to be built by Keras, which is not installed here ({error}): "
                "run `pip install tensorflow keras`, or make a bundle where OpenVINO is installed, "
                "which carries the network as it was converted"
            ) from error
        finally:
            os.dup2(terminal, 2)
            os.close(terminal)
    return sys.modules["keras"]


def build_network(source: Source, input_size: int) -> Any:
    """Build the frozen network from uint8 pixels to pooled embeddings, and the maps beneath.

    Parameters
    ----------
    source : Source
    input_size : int
        Side of the square input in pixels.

    Returns
    -------
    keras.Model
        Takes uint8 (n, input_size, input_size, 3). Gives float32 (n, d), for each layer in turn
        the means and then the deviations of its channels; and after that each layer's maps,
        float32 (n, height, width, channels).

    Raises
    ------
    WeightsError
        If the weights file doesn't fit the network.
    """
    keras = import_keras()
    network, weights = source.network, source.weights
    base = build_base(network.origin, input_size)
    if weights.path is None:
        set_untrained_weights(base, network.origin)
    else:
        _load_weights(base, network, weights.path)
    base.trainable = False
    pixels = keras.Input((input_size, input_size, 3), dtype="uint8", name="pixels")
    scaled = preprocess(keras.ops.cast(pixels, "float32"), network.preprocessing)
    wanted = [base.get_layer(name).output for name in source.layers]
    found = keras.Model(base.input, wanted)(scaled, training=False)
    maps = [keras.ops.cast(each, "float32") for each in found]
    pooled = []
    for each in maps:
        pooled.append(keras.layers.GlobalAveragePooling2D(dtype="float32")(each))
        if source.pooling == "mean+std":
            pooled.append(keras.ops.std(each, axis=(1, 2)))
    embeddings = pooled[0] if len(pooled) == 1 else keras.ops.concatenate(pooled, axis=-1)
    return keras.Model(pixels, [embeddings, *maps], name=network.name)


def build_base(origin: KerasApplication, input_size: int) -> Any:
    """Build a network of Keras Applications without its top, with random weights."""
    build = getattr(import_keras().applications, origin.function)
    return build(weights=None, include_top=False, input_shape=(input_size, input_size, 3))


def preprocess(pixels: Any, how: Preprocessing) -> Any:
    """Make pixels, float32 (…, 3) in RGB order of numpy or Keras, the input of a network."""
    if how.channels == "BGR":
        pixels = _reversed(pixels)
    # Steps without effect would stay in the converted network.
    if how.divisor != 1.0:
        pixels = pixels / how.divisor
    if how.mean != 0.0:
        pixels = pixels - np.asarray(how.mean, np.float32)
    if how.deviation != 1.0:
        pixels = pixels / np.asarray(how.deviation, np.float32)
    return pixels


def _reversed(pixels: Any) -> Any:
    keras = import_keras()
    if keras.backend.backend() == "torch" and not isinstance(pixels, np.ndarray):
        # Its slices have no steps backwards.
        return keras.ops.flip(pixels, axis=-1)
    return pixels[..., ::-1]


def _load_weights(base: Any, network: Network, path: Path) -> None:
    import h5py

    if not h5py.is_hdf5(path):
        raise WeightsError(
            f"{path} is not a Keras weights file (HDF5): give one made for {network.name}"
        )
    try:
        with warnings.catch_warnings():
            # Keras only warns where it leaves a layer with random weights.
            warnings.simplefilter("error", UserWarning)
            base.load_weights(path)
    except (ValueError, KeyError, OSError, AttributeError, TypeError, UserWarning) as error:
        raise WeightsError(
            f"the weights in {path} don't fit {network.name} without its top: "
            "give a file saved from "
            f"keras.applications.{network.origin.function}(include_top=False)"
        ) from error
