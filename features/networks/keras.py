"""Networks as Keras builds them, from pixels to embeddings; `devices` runs them."""

from __future__ import annotations

import importlib
import os
import re
import sys
import warnings
from pathlib import Path
from typing import Any, Final

import numpy as np

from features.errors import ExtractorError, WeightsError
from features.networks.imported.own_model import load_model, read_maps
from features.networks.registry import KerasApplication, OwnModel, Preprocessing
from features.networks.untrained import set_untrained_weights
from features.networks.weights import Source
from features.storage.user_cache import user_cache

__all__ = [
    "LAST",
    "build_base",
    "build_network",
    "import_keras",
    "layer_output",
    "preprocess",
]

# The last layer, where Keras names it by how many of its kind were made before.
LAST: Final = "last"


def import_keras() -> Any:
    """Import Keras without what its backend's libraries write to the terminal."""
    # TensorFlow's libraries chatter as they are loaded, before any of their log settings takes
    # effect; a failing import still raises.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    # torch settles as it is imported where it keeps what it compiles; a temporary folder, if free.
    os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(user_cache("compiled") / "torch"))
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
    pixels = keras.Input((input_size, input_size, 3), dtype="uint8", name="pixels")
    scaled = preprocess(keras.ops.cast(pixels, "float32"), source.network.preprocessing)
    maps = [keras.ops.cast(each, "float32") for each in _maps(source, scaled, input_size)]
    pooled = []
    for each in maps:
        pooled.append(keras.layers.GlobalAveragePooling2D(dtype="float32")(each))
        if source.pooling == "mean+std":
            pooled.append(keras.ops.std(each, axis=(1, 2)))
    embeddings = pooled[0] if len(pooled) == 1 else keras.ops.concatenate(pooled, axis=-1)
    name = re.sub(r"\W+", "_", source.network.name)
    return keras.Model(pixels, [embeddings, *maps], name=name)


def _maps(source: Source, scaled: Any, input_size: int) -> list[Any]:
    keras = import_keras()
    network, weights = source.network, source.weights
    origin = network.origin
    if isinstance(origin, OwnModel):
        model = load_model(origin, weights.path, weights.sha256)
        return read_maps(keras, model, origin, source.layers, scaled)
    if not isinstance(origin, KerasApplication):
        raise ExtractorError(
            f"{network.name} is an ONNX file, which OpenVINO runs: run `pip install openvino`, and "
            "leave --engine out"
        )
    base = build_base(origin, input_size)
    if weights.path is None:
        set_untrained_weights(base, origin)
    else:
        _load_weights(base, network.name, origin, weights.path)
    base.trainable = False
    begin = base.input
    if origin.rescaled:
        begin = next(each for each in base.layers if hasattr(each, "finalize_state")).output
        normalised = keras.Model(base.input, begin)(scaled, training=False)
        scaled = normalised * np.asarray(origin.rescaled, np.float32)
    wanted = [layer_output(base, name) for name in source.layers]
    found = keras.Model(begin, wanted)(scaled, training=False)
    return list(found) if isinstance(found, list | tuple) else [found]


def layer_output(base: Any, name: str) -> Any:
    """Give the output of a network's layer by name, or of its last one by `LAST`."""
    return base.output if name == LAST else base.get_layer(name).output


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


def _load_weights(base: Any, name: str, origin: KerasApplication, path: Path) -> None:
    import h5py

    if not h5py.is_hdf5(path):
        raise WeightsError(f"{path} is not a Keras weights file (HDF5): give one made for {name}")
    try:
        with warnings.catch_warnings():
            # Keras only warns where it leaves a layer with random weights.
            warnings.simplefilter("error", UserWarning)
            base.load_weights(path)
    except (ValueError, KeyError, OSError, AttributeError, TypeError, UserWarning) as error:
        raise WeightsError(
            f"the weights in {path} don't fit {name} without its top: "
            "give a file saved from "
            f"keras.applications.{origin.function}(include_top=False)"
        ) from error
