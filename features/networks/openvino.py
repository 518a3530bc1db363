"""The fast engine on CPUs: the network as OpenVINO compiled it for this machine.

`features.networks.openvino_serving` is the same for images that come one by one.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from features.errors import ExtractorError
from features.networks.devices.in_flight import Slots
from features.networks.libraries import import_openvino

__all__ = ["OpenVinoEngine", "OpenVinoNetwork", "look"]

_BATCH: Final = 64
# Images at hand for each core: when one is done the next begins without waiting for Python.
_AHEAD: Final = 2
# What TensorFlow calls the outputs of a network that Keras exports.
_NUMBERED: Final = re.compile(r"Identity(?:_(\d+))?:0")


class OpenVinoNetwork:
    """A converted network, to be compiled in one way or several.

    Parameters
    ----------
    path : Path
        The network in OpenVINO's format, from uint8 pixels to embeddings and maps.
    precision : str
        ``"fp32"``, ``"bf16"`` or one that begins with ``"int8"``.
    input_size : int
        Side of the square input in pixels.

    Raises
    ------
    ExtractorError
        If this CPU can't compute in that precision, or the network can't be read.
    """

    def __init__(self, path: Path, precision: str, input_size: int) -> None:
        self._openvino = import_openvino()
        self._core = self._openvino.Core()
        self._path, self._bf16 = path, precision == "bf16"
        self.cores = _cores()
        self.name = (
            f"OpenVINO {self._openvino.__version__.split('-')[0]} on the CPU, {self.cores} cores"
        )
        if self._bf16 and "BF16" not in self._core.get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
            raise ExtractorError(
                "this CPU can't compute in bf16, and other numbers would be compared with those "
                "that were: extract with --precision fp32, here or there"
            )
        with self._explained():
            self._model = self._in_order(self._core.read_model(path))
            self._model.reshape([1, input_size, input_size, 3])

    def compile(self, streams: int, *, maps: bool) -> Any:
        """Make it ready to run one image in each of so many streams at the same time.

        Parameters
        ----------
        streams : int
            They share the cores out among themselves.
        maps : bool
            Whether the layers' maps come out beside the embeddings; layers that are read off so
            can't be fused with what follows them.
        """
        # Pinned threads would stand in the way of those that decode images.
        options = {
            "INFERENCE_PRECISION_HINT": "bf16" if self._bf16 else "f32",
            "EXECUTION_MODE_HINT": "PERFORMANCE" if self._bf16 else "ACCURACY",
            "NUM_STREAMS": streams,
            "INFERENCE_NUM_THREADS": self.cores,
            "ENABLE_CPU_PINNING": False,
        }
        model = self._model
        with self._explained():
            if not maps:
                model = self._openvino.Model([model.output(0)], model.get_parameters())
            return self._core.compile_model(model, "CPU", options)

    def _in_order(self, model: Any) -> Any:
        """Give the outputs as the network had them: embeddings, then maps layer by layer.

        From ten outputs on, TensorFlow's converter sorts them by the text of their names, which
        end in their numbers: 0, 1, 10, 11, 2.
        """
        found = [
            [match for name in output.get_names() if (match := _NUMBERED.fullmatch(name))]
            for output in model.outputs
        ]
        numbers = [int(matches[0][1] or 0) for matches in found if len(matches) == 1]
        count = len(model.outputs)
        if sorted(numbers) != list(range(count)) or numbers == list(range(count)):
            return model
        results = [model.get_results()[numbers.index(number)] for number in range(count)]
        return self._openvino.Model(results, model.get_parameters(), model.get_friendly_name())

    @contextlib.contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except RuntimeError as error:
            raise ExtractorError(
                f"the converted network {self._path} can't be run "
                f"({str(error).splitlines()[0]}): delete it, it is made again"
            ) from error


class OpenVinoEngine:
    """Runs a converted network on many images, one image to each core.

    May be shared between threads: the images of one follow on those of another without a gap.

    Parameters
    ----------
    path, precision, input_size
        As for `OpenVinoNetwork`.

    Raises
    ------
    ExtractorError
        If this CPU can't compute in that precision, or the network can't be read.
    """

    batch = _BATCH
    lanes = 1

    def __init__(self, path: Path, precision: str, input_size: int) -> None:
        self._network = OpenVinoNetwork(path, precision, input_size)
        self.name = self._network.name
        compiled = self._network.compile(self._network.cores, maps=False)
        self._dim = compiled.output(0).partial_shape[1].get_length()
        count = _AHEAD * self._network.cores
        self._slots = Slots([compiled.create_infer_request() for _ in range(count)])

    def run(self, pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """Embed a batch: uint8 (n, size, size, 3) to float32 (n, d)."""
        embeddings = np.empty((len(pixels), self._dim), np.float32)

        def start(request: Any, row: int) -> Callable[[], object]:
            request.start_async(pixels[row : row + 1])

            def keep() -> None:
                request.wait()
                embeddings[row] = request.get_output_tensor(0).data[0]

            return keep

        self._slots.run(range(len(pixels)), start)
        return embeddings

    def run_with_maps(
        self, pixels: npt.NDArray[np.uint8]
    ) -> tuple[npt.NDArray[np.float32], list[npt.NDArray[np.float32]]]:
        """Embed a batch as `run` does, and give each layer's maps (n, height, width, channels)."""
        request = self._network.compile(1, maps=True).create_infer_request()
        return look(request, pixels)


def look(
    request: Any, pixels: npt.NDArray[np.uint8]
) -> tuple[npt.NDArray[np.float32], list[npt.NDArray[np.float32]]]:
    """Run images one after the other, and give embeddings and maps."""
    found = []
    for image in pixels:
        request.infer(image[np.newaxis])
        found.append([tensor.data[0].copy() for tensor in request.output_tensors])
    embeddings, *maps = (np.stack(each) for each in zip(*found, strict=True))
    return embeddings, maps


def _cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
