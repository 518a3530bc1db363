"""How a network is run: one small interface, one module for each engine."""

from __future__ import annotations

from typing import Protocol

import numpy as np
import numpy.typing as npt

from features.networks import Network, Weights

__all__ = ["Engine", "load_engine"]


class Engine(Protocol):
    """Runs a frozen network."""

    def run(self, pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """Embed a batch: uint8 (n, size, size, 3) to float32 (n, d)."""
        ...


def load_engine(network: Network, weights: Weights, input_size: int) -> Engine:
    """Build the network and make it ready to run."""
    from features.engines.keras import KerasEngine

    return KerasEngine(network, weights, input_size)
