"""The fast engine on CPUs: the network as OpenVINO compiled it for this machine."""

from __future__ import annotations

import os
import sys
import threading
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from features.errors import ExtractorError

__all__ = ["OpenVinoEngine", "import_openvino"]

_BATCH: Final = 64


class OpenVinoEngine:
    """Runs a converted network, one image per pass.

    May be shared between threads.

    Parameters
    ----------
    path : Path
        The network in OpenVINO's format, from uint8 pixels to embeddings and maps.
    precision : str
        ``"fp32"``, ``"bf16"`` or one that begins with ``"int8"``.
    input_size : int
        Side of the square input in pixels.
    serving : bool, optional
        Spread each image over all cores to answer it soon, rather than one image to each core.

    Raises
    ------
    ExtractorError
        If this CPU can't compute in that precision, or the network can't be read.
    """

    fixed_batch = False
    batch = _BATCH

    def __init__(
        self, path: Path, precision: str, input_size: int, *, serving: bool = False
    ) -> None:
        openvino = import_openvino()
        core = openvino.Core()
        if precision == "bf16" and "BF16" not in core.get_property(
            "CPU", "OPTIMIZATION_CAPABILITIES"
        ):
            raise ExtractorError(
                "this CPU can't compute in bf16, and other numbers would be compared with those "
                "that were: extract with --precision fp32, here or there"
            )
        cores = _cores()
        streams = 1 if serving else cores
        # Pinned threads would stand in the way of those that decode images.
        options = {
            "INFERENCE_PRECISION_HINT": "bf16" if precision == "bf16" else "f32",
            "EXECUTION_MODE_HINT": "PERFORMANCE" if precision == "bf16" else "ACCURACY",
            "NUM_STREAMS": streams,
            "INFERENCE_NUM_THREADS": cores,
            "ENABLE_CPU_PINNING": False,
        }
        try:
            model = core.read_model(path)
            model.reshape([1, input_size, input_size, 3])
            if not serving:
                # Layers that are read off as maps can't be fused with what follows them.
                model = openvino.Model([model.output(0)], model.get_parameters())
            compiled = core.compile_model(model, "CPU", options)
        except RuntimeError as error:
            raise ExtractorError(
                f"the converted network {path} can't be run ({str(error).splitlines()[0]}): "
                "delete it, it is made again"
            ) from error
        self.name = f"OpenVINO {openvino.__version__.split('-')[0]} on the CPU, {cores} cores"
        self._dim = compiled.output(0).partial_shape[1].get_length()
        self._reload = (
            None if serving else lambda: OpenVinoEngine(path, precision, input_size, serving=True)
        )
        self._looking = compiled.create_infer_request()
        self._queue = openvino.AsyncInferQueue(compiled, max(2, streams))
        self._queue.set_callback(_keep)
        self._running = threading.Lock()

    def run(self, pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """Embed a batch: uint8 (n, size, size, 3) to float32 (n, d)."""
        embeddings = np.empty((len(pixels), self._dim), np.float32)
        with self._running:
            for row, image in enumerate(pixels):
                self._queue.start_async(image[np.newaxis], (embeddings, row))
            self._queue.wait_all()
        return embeddings

    def run_with_maps(
        self, pixels: npt.NDArray[np.uint8]
    ) -> tuple[npt.NDArray[np.float32], list[npt.NDArray[np.float32]]]:
        """Embed a batch as `run` does, and give each layer's maps (n, height, width, channels)."""
        if self._reload is not None:
            return self._reload().run_with_maps(pixels)
        found = []
        with self._running:
            for image in pixels:
                self._looking.infer(image[np.newaxis])
                found.append([tensor.data[0].copy() for tensor in self._looking.output_tensors])
        embeddings, *maps = (np.stack(each) for each in zip(*found, strict=True))
        return embeddings, maps


def import_openvino() -> Any:
    """Import OpenVINO without the part of it that reports its use to its makers."""
    # Its tools do without where the package is missing, and send nothing then.
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
    import openvino

    return openvino


def _keep(request: Any, place: tuple[npt.NDArray[np.float32], int]) -> None:
    embeddings, row = place
    embeddings[row] = request.get_output_tensor(0).data[0]


def _cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
