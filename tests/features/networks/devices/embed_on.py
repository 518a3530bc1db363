"""Embeds the same images on the backend that KERAS_BACKEND names, in fp32 and bf16.

It is ``python -m tests.features.networks.devices.embed_on OUT``, which prints how the backend
multiplies in each precision.
"""

from __future__ import annotations

import json
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from features.images.decoding import load_pixels
from features.networks.devices.exactness import arithmetic
from features.networks.devices.keras_engine import KerasEngine
from features.networks.keras import import_keras
from features.networks.registry import NETWORKS
from features.networks.weights import Source, resolve_weights
from tests.pictures import image_bytes

# Each shape is compiled for itself: what is above mixed5 is made of the same parts, and takes long.
SIZES = {"vgg16": (32, ("block3_pool", "block5_pool")), "inception_v3": (75, ("mixed3", "mixed5"))}
WITH_MAPS = ("vgg16",)


def source(name: str) -> Source:
    """The untrained network, and what is read off it."""
    size, layers = SIZES[name]
    network = NETWORKS[name]
    return Source(network, resolve_weights(network, "untrained"), layers, "mean+std", size)


def pictures(name: str) -> np.ndarray:
    return np.stack([load_pixels(image_bytes(seed), SIZES[name][0]) for seed in range(40)])


def multiplies(precision: str) -> str:
    """How the backend multiplies float32, in its own words."""
    backend = import_keras().backend.backend()
    with arithmetic(precision):
        if backend == "jax":
            import jax

            ones = np.ones((2, 2), np.float32)
            return str(jax.make_jaxpr(lambda a, b: a @ b)(ones, ones))
        if backend == "torch":
            import torch

            places = torch.backends.cuda.matmul, torch.backends.cudnn.conv
            return " ".join(place.fp32_precision for place in places)
        import tensorflow

        return str(tensorflow.config.experimental.tensor_float_32_execution_enabled())


def main(out: str) -> None:
    found = {}
    for name in SIZES:
        pixels = pictures(name)
        for precision in ("fp32", "bf16"):
            engine = KerasEngine(source(name), pixels.shape[1], precision)
            with ThreadPoolExecutor(2) as pool:
                halves = pool.map(engine.run, (pixels[:20], pixels[20:]))
                found[f"{name}-{precision}"] = np.concatenate(list(halves))
            np.testing.assert_array_equal(engine.run(pixels), found[f"{name}-{precision}"])
            if name in WITH_MAPS:
                embeddings, maps = engine.run_with_maps(pixels[:9])
                found[f"{name}-{precision}-maps"] = embeddings
                assert [len(each) for each in maps] == [9, 9]
    np.savez(Path(out), **found)
    print(json.dumps({each: multiplies(each) for each in ("fp32", "tf32")}))  # noqa: T201


if __name__ == "__main__":
    main(sys.argv[1])
