"""The reference engine: Keras on whatever device its backend has."""

from __future__ import annotations

import os
import sys
import threading
import time
import warnings
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from features.errors import ExtractorError, WeightsError
from features.networks.registry import KerasApplication, Network, Preprocessing
from features.networks.untrained import set_untrained_weights
from features.networks.weights import Source

__all__ = [
    "KerasEngine",
    "accelerator",
    "build_base",
    "build_network",
    "import_keras",
    "preprocess",
]

_CPU_BATCH: Final = 32


_LARGEST_BATCH: Final = 1024


_WORTH: Final = 1.05


class KerasEngine:
    """Runs the network as Keras built it.

    Parameters
    ----------
    source : Source
    input_size : int
        Side of the square input in pixels.
    precision : {"fp32", "bf16"}
        bf16 is Keras' mixed precision: bf16 arithmetic with float32 weights and sums.
    """

    fixed_batch = True
    lanes = 1

    def __init__(self, source: Source, input_size: int, precision: str = "fp32") -> None:
        keras = import_keras()
        before = keras.config.dtype_policy()
        keras.config.set_dtype_policy("mixed_bfloat16" if precision == "bf16" else "float32")
        try:
            self._with_maps = build_network(source, input_size)
        finally:
            keras.config.set_dtype_policy(before)
        self._running = threading.Lock()
        self._model = keras.Model(self._with_maps.input, self._with_maps.outputs[0])
        device = accelerator()
        self.name = f"Keras ({keras.backend.backend()}) on {device or 'the CPU'}"
        self.batch = _CPU_BATCH if device is None else self._fastest_batch(input_size)

    def run(self, pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """Embed a batch: uint8 (n, size, size, 3) to float32 (n, d)."""
        if not len(pixels):
            return np.empty((0, self._model.output_shape[-1]), np.float32)
        with self._running:
            return np.asarray(self._model.predict_on_batch(pixels), dtype=np.float32)

    def run_with_maps(
        self, pixels: npt.NDArray[np.uint8]
    ) -> tuple[npt.NDArray[np.float32], list[npt.NDArray[np.float32]]]:
        """Embed a batch as `run` does, and give each layer's maps (n, height, width, channels)."""
        with self._running:
            embeddings, *maps = self._with_maps.predict_on_batch(pixels)
        return np.asarray(embeddings, np.float32), [np.asarray(each, np.float32) for each in maps]

    def _fastest_batch(self, size: int) -> int:
        """Double the batch for as long as that is faster and fits into memory."""
        batch, best, fastest = _CPU_BATCH, _CPU_BATCH, 0.0
        too_large = _too_large()
        while batch <= _LARGEST_BATCH:
            pixels = np.zeros((batch, size, size, 3), np.uint8)
            try:
                self.run(pixels)
                start = time.perf_counter()
                self.run(pixels)
            except too_large:
                break
            rate = batch / (time.perf_counter() - start)
            if rate < fastest * _WORTH:
                break
            best, fastest = batch, rate
            batch *= 2
        return best


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
            import keras
        except ImportError as error:
            raise ExtractorError(
                f"this network has to be built by Keras, which is not installed here ({error}): "
                "run `pip install tensorflow keras`, or make a bundle where OpenVINO is installed, "
                "which carries the network as it was converted"
            ) from error
        finally:
            os.dup2(terminal, 2)
            os.close(terminal)
        _full_float32(keras.backend.backend())
    return sys.modules["keras"]


def accelerator() -> str | None:
    """Name the GPU that Keras' backend would use; None if there is none."""
    backend = import_keras().backend.backend()
    if backend == "tensorflow":
        import tensorflow

        devices = tensorflow.config.list_physical_devices("GPU")
        if not devices:
            return None
        details = tensorflow.config.experimental.get_device_details(devices[0])
        return str(details.get("device_name", "a GPU"))
    if backend == "torch":
        import torch

        return torch.cuda.get_device_name() if torch.cuda.is_available() else None
    if backend == "jax":
        import jax

        device = jax.devices()[0]
        return str(device.device_kind) if device.platform != "cpu" else None
    return None


def _full_float32(backend: str) -> None:
    # Recent GPUs round float32 factors to TF32 unless told not to, and would be called fp32 still.
    if backend == "tensorflow":
        import tensorflow

        tensorflow.config.experimental.enable_tensor_float_32_execution(False)


def _too_large() -> tuple[type[Exception], ...]:
    if import_keras().backend.backend() != "tensorflow":
        return MemoryError, RuntimeError
    import tensorflow

    return MemoryError, RuntimeError, tensorflow.errors.ResourceExhaustedError


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
        pixels = pixels[..., ::-1]
    # Steps without effect would stay in the converted network.
    if how.divisor != 1.0:
        pixels = pixels / how.divisor
    if how.mean != 0.0:
        pixels = pixels - np.asarray(how.mean, np.float32)
    if how.deviation != 1.0:
        pixels = pixels / np.asarray(how.deviation, np.float32)
    return pixels


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
