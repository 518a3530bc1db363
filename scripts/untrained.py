"""Set the batch-norm statistics of a network's untrained weights, and hash these: for its entry.

    python scripts/untrained.py NAME

writes ``features/networks/data/untrained_NAME.npz`` and prints the hash. The entry of NAME in
`features.networks.registry` must be there, its ``untrained_sha256`` may be anything yet.
Statistics computed anew differ in their last digits between machines: run it once.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent))

import numpy as np
import numpy.typing as npt

from features.datasets.drawn import LABELS, sample_lesion
from features.datasets.drawn_lesion import draw_lesion
from features.networks.keras import build_base, preprocess
from features.networks.registry import NETWORKS, Network
from features.networks.untrained import DATA, set_untrained_weights, untrained_sha256

IMAGES = 12


def measure_statistics(network: Network) -> dict[str, npt.NDArray[np.float32]]:
    """Measure batch-norm statistics with untrained kernels, in one pass over drawn lesions.

    Returns
    -------
    dict of str to ndarray
        ``mean`` and ``variance``, of all batch-norm layers one after another; empty if there are
        none.
    """
    base = build_base(network.origin, network.input_size)
    set_untrained_weights(base, replace(network.origin, untrained_statistics=None))
    layers: list[Any] = [each for each in base.layers if hasattr(each, "moving_variance")]
    if not layers:
        return {}
    rng = np.random.default_rng(0)
    drawn = [
        draw_lesion(sample_lesion(rng, LABELS[number % len(LABELS)]), network.input_size)
        for number in range(IMAGES)
    ]
    for layer in layers:
        layer.momentum = 0.0
    base(preprocess(np.stack(drawn).astype(np.float32), network.preprocessing), training=True)
    return {
        "mean": np.concatenate([np.asarray(layer.moving_mean) for layer in layers]),
        "variance": np.concatenate([np.asarray(layer.moving_variance) for layer in layers]),
    }


def main() -> None:
    """Write the statistics of the network that the command names, and print what to enter."""
    if sys.argv[1:] not in [[name] for name in NETWORKS]:
        sys.exit(f"usage: python scripts/untrained.py {'|'.join(NETWORKS)}")
    network = NETWORKS[sys.argv[1]]
    file, statistics = f"untrained_{network.name}.npz", measure_statistics(network)
    if statistics:
        np.savez(DATA / file, **statistics)
        print(f'untrained_statistics="{file}",')
    base = build_base(network.origin, network.input_size)
    origin = replace(network.origin, untrained_statistics=file if statistics else None)
    set_untrained_weights(base, origin)
    print(f'untrained_sha256="{untrained_sha256(base)}",')


if __name__ == "__main__":
    main()
