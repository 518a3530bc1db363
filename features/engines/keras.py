"""The reference engine: Keras on whatever device its backend has."""

from __future__ import annotations

import os
import sys

import numpy as np
import numpy.typing as npt

from features.networks import Network, Weights, build_network

__all__ = ["KerasEngine"]


class KerasEngine:
    """Runs the network as Keras built it, in float32."""

    def __init__(self, network: Network, weights: Weights, input_size: int) -> None:
        _import_quietly()
        self._model = build_network(network, weights, input_size)
        self._dim = network.dim

    def run(self, pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """Embed a batch: uint8 (n, size, size, 3) to float32 (n, d)."""
        if not len(pixels):
            return np.empty((0, self._dim), np.float32)
        return np.asarray(self._model.predict_on_batch(pixels), dtype=np.float32)


def _import_quietly() -> None:
    # TensorFlow's libraries write to the terminal as they are loaded, before any of their log
    # settings takes effect; a failing import still raises.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    if "keras" in sys.modules:
        return
    terminal = os.dup(2)
    try:
        with open(os.devnull, "wb") as nowhere:
            os.dup2(nowhere.fileno(), 2)
        import keras  # noqa: F401
    finally:
        os.dup2(terminal, 2)
        os.close(terminal)
