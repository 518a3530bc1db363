"""Whether second-order pooling tells more: how a layer's components vary together over an image.

Of each of a few layers the largest principal components are kept, found on some of the images
without their labels. An image is summed up by their covariance over its positions, beside the means
and deviations of all channels.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt

from benchmarks.fitting.accuracy import extracted, groups_of, show, weights_files
from benchmarks.fitting.material import (
    FRAMES,
    Columns,
    Material,
    Trial,
    by_layer,
    keys,
    side_by_side,
)
from benchmarks.fitting.trials import Judged, Study, judge
from features.cache.contents import read_features
from features.embedding.extractor import Extractor, load_extractor
from features.images.decoding import decode
from features.networks.registry import Recipe
from models.training.selection import select

LAYERS = ("mixed4", "mixed5", "mixed6", "mixed8")
COMPONENTS = 24
_TO_LEARN_FROM = 100
# Of a matrix' largest eigenvalue: what is smaller is noise of the arithmetic.
_LEAST = 1e-4

Maps = npt.NDArray[np.float32]
Found = npt.NDArray[np.float32]


def maps_of(extractor: Extractor, path: Path) -> Iterator[tuple[int, str, Maps]]:
    """Give an image's maps by frame and layer, (positions, channels)."""
    decoded = decode(path.read_bytes(), *extractor.spec.frames)
    looks = extractor.look(*(frame[np.newaxis] for frame in decoded.frames))
    for place, look in enumerate(looks):
        for layer, found in look.maps.items():
            yield place, layer, found.reshape(-1, found.shape[-1])


def axes_of(extractor: Extractor, paths: list[Path]) -> dict[str, Maps]:
    """Find each layer's principal components, (channels, COMPONENTS), each of deviation 1."""
    sums: dict[str, npt.NDArray[np.float64]] = {}
    means: dict[str, npt.NDArray[np.float64]] = {}
    count = len(paths) * len(extractor.spec.frames)
    for path in paths:
        for _, layer, rows in maps_of(extractor, path):
            means[layer] = means.get(layer, 0) + rows.mean(axis=0, dtype=np.float64) / count
            sums[layer] = sums.get(layer, 0) + (rows.T @ rows).astype(float) / len(rows) / count
    axes = {}
    for layer, total in sums.items():
        values, vectors = np.linalg.eigh(total - np.outer(means[layer], means[layer]))
        largest = slice(-COMPONENTS, None)
        axes[layer] = (vectors[:, largest] / np.sqrt(values[largest])).astype(np.float32)
    return axes


def covariances(work: Path, weights: str, file: Path, paths: list[Path], precision: str) -> Found:
    """Give (images, frames, layers, COMPONENTS, COMPONENTS); computed now if they aren't there."""
    kept = work / f"{weights}-second-order.npy"
    if not kept.exists():
        recipe = Recipe(LAYERS, "mean+std", FRAMES, 299, "shades-of-grey")
        extractor = load_extractor(
            weights=file, recipe=recipe, precision=precision, engine="openvino", serving=True
        )
        axes = axes_of(extractor, paths[:: max(len(paths) // _TO_LEARN_FROM, 1)])
        shape = (len(paths), len(FRAMES), len(LAYERS), COMPONENTS, COMPONENTS)
        found = np.zeros(shape, np.float32)
        for at, path in enumerate(paths):
            for place, layer, rows in maps_of(extractor, path):
                found[at, place, LAYERS.index(layer)] = np.cov(rows @ axes[layer], rowvar=False)
        np.save(kept, found)
    return np.asarray(np.load(kept), np.float32)


def flattened(
    matrices: Found, change: Callable[[npt.NDArray[np.floating]], npt.NDArray[np.floating]]
) -> Columns:
    """Change the eigenvalues of covariances (…, k, k) and keep each pair once, (…, k (k + 1) / 2).

    By their roots as Li and others do (Is second-order information helpful for large-scale visual
    recognition?, 2017), or by their logarithms (Arsigny and others, Log-Euclidean metrics, 2006).
    """
    values, vectors = np.linalg.eigh(matrices.astype(float))
    values = np.maximum(values, _LEAST * values.max(axis=-1, keepdims=True))
    changed = np.einsum("...ij,...j,...kj->...ik", vectors, change(values), vectors)
    above, across = np.triu_indices(matrices.shape[-1])
    return np.asarray(changed[..., above, across], np.float32)


def weighed(kind: str, share: float, given: Material) -> Judged:
    """Weigh second-order inner products against the default's."""
    first, second = given.matrix(keys()), given.matrix(keys(LAYERS, statistics=(kind,)))
    return judge(given.study, np.asarray((1 - share) * first + share * second, np.float32))


CHANGES: dict[str, Callable[[npt.NDArray[np.floating]], npt.NDArray[np.floating]]] = {
    "covariance": np.asarray,
    "root": np.sqrt,
    "logarithm": np.log,
}

TRIALS = (
    Trial.of("the default: mean and deviation", 2, keys()),
    Trial.of("mean and deviation of mixed4, 5, 6, 8", 2, keys(LAYERS)),
    *(
        Trial.of(f"{kind} alone, mixed4, 5, 6, 8", 2, keys(LAYERS, statistics=(kind,)))
        for kind in CHANGES
    ),
    *(
        Trial(f"{kind} beside, {share:.0%} of the weight", 2, partial(weighed, kind, share))
        for kind in ("root", "logarithm")
        for share in (0.25, 0.5)
    ),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, help="folder to keep files in, to go on from")
    parser.add_argument("--repeats", type=int, default=5, help="seeds of the folds")
    parser.add_argument("--precision", choices=("fp32", "bf16"), default="fp32")
    parser.add_argument("--write", action="store_true", help="write docs/accuracy.md, too")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        work = options.work or Path(folder)
        work.mkdir(parents=True, exist_ok=True)
        found = {
            weights: [(trial, trial.run(given)) for trial in TRIALS]
            for weights, given in materials(work, options)
        }
    show({"second-order": side_by_side(found)}, write=options.write)


def materials(work: Path, options: argparse.Namespace) -> Iterator[tuple[str, Material]]:
    """Sum the training images up in both ways."""
    for weights, file in weights_files().items():
        path = extracted(work, f"{weights}-isic2017_256", file, precision=options.precision)
        features = read_features(path)
        groups = groups_of(features, path, work)
        train = select(features, positive="melanoma", folds=5, groups=groups).parts["train"]
        columns = by_layer(features, train.items, FRAMES)
        paths = [Path(features.images, name) for name in train.items.path.tolist()]
        second = covariances(work, weights, file, paths, options.precision)
        for kind, change in CHANGES.items():
            flat = flattened(second, change)
            columns |= {
                (frame, layer, kind): flat[:, place, at]
                for place, frame in enumerate(FRAMES)
                for at, layer in enumerate(LAYERS)
            }
        yield (
            weights,
            Material(Study.of(train.y, train.groups, options.repeats), columns, train.groups),
        )


if __name__ == "__main__":
    main()
