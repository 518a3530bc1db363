"""The engine for GPUs, and the reference: Keras on whatever device its backend has."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from features.errors import ExtractorError
from features.networks.devices.backends import accelerator, choose_backend, device_memory
from features.networks.devices.exactness import arithmetic, require_arithmetic
from features.networks.devices.forward import begin, keep_compiled
from features.networks.devices.in_flight import Slots
from features.networks.keras import build_network, import_keras
from features.networks.weights import Source

__all__ = ["KerasEngine", "batch_for"]

Pixels = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]

_CPU_BATCH: Final = 32
# Above it nothing is gained, and the first images wait longer.
_LARGEST_BATCH: Final = 256
# Who doesn't tell its memory gets what fits into eight gigabytes.
_CAUTIOUS_BATCH: Final = 64
# With maps little fits into memory, and few are asked for.
_MAPS_BATCH: Final = 8
# Beside the largest map: those it is made of, and what convolutions need to work.
_COPIES: Final = 8
_IN_FLIGHT: Final = 2


class KerasEngine:
    """Runs the network as Keras built it; may be shared between threads.

    Images go to the device as bytes, two batches at a time: one is on its way while the other is
    computed. Each pass has one of few shapes, filled up with black images, since every shape is
    compiled for itself, and an embedding then doesn't depend on how many were given.

    Parameters
    ----------
    source : Source
    input_size : int
        Side of the square input in pixels.
    precision : {"fp32", "tf32", "bf16"}
        fp32 is float32 on every device, see `features.networks.devices.exactness`; bf16 is Keras'
        mixed precision: bf16 arithmetic with float32 weights and sums.
    serving : bool, optional
        Answer one image soon rather than many fast.

    Raises
    ------
    ExtractorError
        If the device does not compute in that precision, or its memory is too small.
    """

    lanes = 1

    def __init__(
        self,
        source: Source,
        input_size: int,
        precision: str = "fp32",
        *,
        serving: bool = False,
    ) -> None:
        choose_backend()
        keras = import_keras()
        device = accelerator()
        self.name = f"Keras ({keras.backend.backend()}) on {device or 'the CPU'}"
        require_arithmetic(precision, self.name)
        keep_compiled()
        before = keras.config.dtype_policy()
        keras.config.set_dtype_policy("mixed_bfloat16" if precision == "bf16" else "float32")
        try:
            with_maps = build_network(source, input_size)
        finally:
            keras.config.set_dtype_policy(before)
        model = keras.Model(with_maps.input, with_maps.outputs[0])
        self._dim = int(model.output_shape[-1])
        self._size, self._precision, self._serving = input_size, precision, serving
        self._begin = begin(model, compiled=device is not None)
        self._begin_with_maps = begin(with_maps, compiled=False)
        self._starting = threading.Lock()
        self._slots = Slots(range(_IN_FLIGHT))
        self.batch = _CPU_BATCH
        if device is not None and not serving:
            self.batch = self._tried(batch_for(model, device_memory()))

    def run(self, pixels: Pixels) -> Floats:
        """Embed a batch: uint8 (n, size, size, 3) to float32 (n, d)."""
        embeddings = np.empty((len(pixels), self._dim), np.float32)

        def start(_slot: int, part: slice) -> Callable[[], object]:
            finish = self._started(self._begin, pixels[part], self._shape(pixels[part]))

            def keep() -> None:
                embeddings[part] = finish()[0][: len(pixels[part])]

            return keep

        self._slots.run(_parts(len(pixels), self.batch), start)
        return embeddings

    def run_with_maps(self, pixels: Pixels) -> tuple[Floats, list[Floats]]:
        """Embed a batch as `run` does, and give each layer's maps (n, height, width, channels)."""
        found = []
        for part in _parts(max(1, len(pixels)), _MAPS_BATCH):
            given = pixels[part]
            shape = 1 if len(given) == 1 else _MAPS_BATCH
            outputs = self._started(self._begin_with_maps, given, shape)()
            found.append([each[: len(given)] for each in outputs])
        embeddings, *maps = (np.concatenate(each) for each in zip(*found, strict=True))
        return embeddings, maps

    def _started(
        self, begin: Callable[[Pixels], Callable[[], list[Floats]]], pixels: Pixels, shape: int
    ) -> Callable[[], list[Floats]]:
        missing = shape - len(pixels)
        filled = np.pad(pixels, ((0, missing), (0, 0), (0, 0), (0, 0))) if missing else pixels
        # How float32 is multiplied is told to the whole process, one engine after the other.
        with self._starting, arithmetic(self._precision):
            return begin(np.ascontiguousarray(filled))

    def _shape(self, pixels: Pixels) -> int:
        return 1 if self._serving and len(pixels) == 1 else self.batch

    def _tried(self, batch: int) -> int:
        """Halve the batch until the device's memory holds it."""
        too_large = _too_large()
        while True:
            pixels = np.zeros((batch, self._size, self._size, 3), np.uint8)
            try:
                self._started(self._begin, pixels, batch)()
            except too_large as error:
                if "memory" not in str(error).lower() and "exhausted" not in str(error).lower():
                    raise
                if batch == 1:
                    raise ExtractorError(
                        f"{self.name} has too little memory for a single image of {self._size} "
                        "pixels: close what else uses it, or use --engine openvino"
                    ) from error
                batch //= 2
            else:
                return batch


def batch_for(model: Any, memory: int | None) -> int:
    """Say how many images of a network fit into a device's memory at once.

    Parameters
    ----------
    model : keras.Model
    memory : int or None
        Free memory in bytes; None if it isn't known.

    Returns
    -------
    int
        A power of two.
    """
    if memory is None:
        return _CAUTIOUS_BATCH
    fits = memory // (_COPIES * 4 * max(_numbers(model)) * _IN_FLIGHT)
    return min(_LARGEST_BATCH, 1 << max(0, int(fits).bit_length() - 1))


def _numbers(model: Any) -> Iterator[int]:
    """Count the numbers of each layer's map of one image."""
    for layer in model.layers:
        if hasattr(layer, "layers"):
            yield from _numbers(layer)
        else:
            yield int(np.prod(layer.output.shape[1:]))


def _parts(count: int, size: int) -> list[slice]:
    return [slice(start, start + size) for start in range(0, count, size)]


def _too_large() -> tuple[type[Exception], ...]:
    if import_keras().backend.backend() != "tensorflow":
        return MemoryError, RuntimeError
    import tensorflow

    return MemoryError, RuntimeError, tensorflow.errors.ResourceExhaustedError
