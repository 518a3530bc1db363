"""How fast each network of Keras Applications is, with untrained weights: trained ones are as fast.

    python benchmarks/networks.py [NAME...]

Embeds noise in memory for a few seconds with the recipe `fast`, at each network's own size, and
prints a row of the table in docs/networks.md. Conversion is not counted; what is converted
stays in the folder that LESION_CACHE names.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

import numpy as np

from features.embedding.extractor import load_extractor
from features.networks.registry import NETWORKS

SECONDS = 2.0
BATCH = 4


def rate(name: str) -> tuple[float, str, int]:
    """Measure images a second; and tell the precision and the embedding's length."""
    extractor = load_extractor(name, "untrained", recipe="fast")
    side = extractor.spec.input_size
    pixels = np.random.default_rng(0).integers(0, 256, (BATCH, side, side, 3), np.uint8)
    extractor.embed(pixels)
    done, start = 0, time.perf_counter()
    while (passed := time.perf_counter() - start) < SECONDS:
        done += len(extractor.embed(pixels))
    return done / passed, extractor.spec.precision, extractor.spec.dim


def main() -> None:
    """Print the table."""
    print("| network | input | length | weights, MB | images/s | precision |")
    print("| --- | --- | --- | --- | --- | --- |")
    for name in sys.argv[1:] or NETWORKS:
        network = NETWORKS[name]
        images, precision, length = rate(name)
        megabytes = 4e-6 * (network.parameters or 0)
        row = (f"`{name}`", network.input_size, f"{length:,}", f"{megabytes:,.0f}")
        print("|", " | ".join(map(str, row)), f"| {images:.1f} | {precision} |", flush=True)


if __name__ == "__main__":
    main()
