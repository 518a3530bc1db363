"""A real extraction run that starts quickly.

It is ``python -m tests.features.embedding.pooling_run IMAGES OUT``.

Its extractor averages patches instead of running a network; reading, hashing, decoding, blocks,
locks and joining are the project's own. Each embedded batch is noted in OUT.log.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import numpy as np
import numpy.typing as npt

from features.datasets.folders import find_images
from features.embedding.extractor import Extractor
from features.embedding.specification import ExtractorSpec
from features.errors import LesionError
from features.extraction import extract

DIM = 768
SPEC = ExtractorSpec(
    network="pooling",
    weights="untrained",
    weights_sha256="0" * 64,
    input_size=64,
    dim=DIM,
    layers=("patches",),
)


class PoolingEngine:
    """Averages of 4 x 4 pixels, one channel after the other."""

    name = "pooling"
    batch = 32

    def __init__(self, log: Path | None = None, pause: float = 0.0) -> None:
        self._log = log
        self._pause = pause

    def run(self, pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """Average the patches."""
        time.sleep(self._pause)
        if self._log is not None:
            with self._log.open("ab") as log:
                log.write(b".")
        patches = pixels.reshape(len(pixels), 16, 4, 16, 4, 3).astype(np.float32)
        return patches.mean(axis=(2, 4)).reshape(len(pixels), DIM)


def pooling_extractor(log: Path | None = None, pause: float = 0.0) -> Extractor:
    """An extractor that is ready at once."""
    return Extractor(SPEC, lambda size: PoolingEngine(log, pause))


def main(images: str, out: str) -> None:
    """Extract, and print what was done."""
    pause = float(os.environ.get("POOLING_PAUSE", "0"))
    try:
        extractor = pooling_extractor(Path(f"{out}.log"), pause)
        outcome = extract(find_images(Path(images)), extractor, Path(out))
    except LesionError as error:
        sys.exit(f"error: {error}")
    print(outcome.embedded, outcome.known, len(outcome.failures))  # noqa: T201


if __name__ == "__main__":
    main(*sys.argv[1:])
