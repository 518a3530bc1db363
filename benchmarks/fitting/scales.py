"""Whether a second, larger scale earns its passes where image files are large enough.

The images of isic2017_512 are those of isic2017_256 that exist at 512 pixels, as the middle squares
of the originals. They are embedded as by default and at a larger input, and judged beside the
default of the same images at 256 pixels.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt

from benchmarks.fitting.accuracy import extracted, groups_of, show, weights_files
from benchmarks.fitting.material import (
    FRAMES,
    Columns,
    Key,
    Material,
    Trial,
    averaged,
    by_layer,
    keys,
    side_by_side,
)
from benchmarks.fitting.trials import Study
from features.cache.contents import Features, Items, read_features
from models.training.selection import select

LAYERS = tuple(f"mixed{number}" for number in range(3, 10))
LARGER = tuple(f"{frame}@448" for frame in FRAMES)
SMALL_FILES = tuple(f"256-pixel file, {frame}" for frame in FRAMES)
BOTH = tuple(f"both sizes, {frame}" for frame in FRAMES)
WHOLE, LESION = 0, 1

# A pass at 448 pixels takes as long as 2.3 at 299.
_LARGER = 2.3

TRIALS = (
    Trial.of("the default, 512-pixel files", 2, keys()),
    Trial.of("the default, the same images' 256-pixel files", 2, keys(views=SMALL_FILES)),
    Trial.of("whole image alone", 1, keys(views=FRAMES[:1])),
    Trial.of("lesion alone", 1, keys(views=FRAMES[1:])),
    Trial.of("whole image alone, at 448", _LARGER, keys(views=LARGER[:1])),
    Trial.of("lesion alone, at 448", _LARGER, keys(views=LARGER[1:])),
    Trial.of("both at 448 instead", 2 * _LARGER, keys(views=LARGER)),
    Trial.of(
        "whole image at 448 instead", 1 + _LARGER, keys(views=(LARGER[WHOLE], FRAMES[LESION]))
    ),
    Trial.of("lesion at 448 instead", 1 + _LARGER, keys(views=(FRAMES[WHOLE], LARGER[LESION]))),
    Trial.of("whole image at 448 beside", 2 + _LARGER, keys(views=(*FRAMES, LARGER[WHOLE]))),
    Trial.of("lesion at 448 beside", 2 + _LARGER, keys(views=(*FRAMES, LARGER[LESION]))),
    Trial.of("both at 448 beside", 2 + 2 * _LARGER, keys(views=(*FRAMES, *LARGER))),
    Trial.of("both at 448, averaged", 2 + 2 * _LARGER, keys(views=BOTH)),
    Trial(
        "a head for each scale, averaged",
        2 + 2 * _LARGER,
        lambda m: averaged(m, keys(), keys(views=LARGER)),
    ),
    Trial.of(
        "both at 448 beside, mixed5, 7, 8, 9",
        2 + 2 * _LARGER,
        keys(("mixed5", "mixed7", "mixed8", "mixed9"), (*FRAMES, *LARGER)),
    ),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, help="folder to keep feature files in, to go on from")
    parser.add_argument("--repeats", type=int, default=5, help="seeds of the folds")
    parser.add_argument("--precision", choices=("fp32", "bf16"), default="fp32")
    parser.add_argument("--write", action="store_true", help="write docs/accuracy.md, too")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        work = options.work or Path(folder)
        (work / "512").mkdir(parents=True, exist_ok=True)
        found = {
            weights: [(trial, trial.run(given)) for trial in TRIALS]
            for weights, given in materials(work, options)
        }
    show({"scales": side_by_side(found)}, write=options.write)


def materials(work: Path, options: argparse.Namespace) -> Iterator[tuple[str, Material]]:
    """Embed both files of every image; only training images are judged."""
    for weights, file in weights_files().items():

        def features_of(
            data: str, *views: str, weights: str = weights, file: Path = file
        ) -> tuple[Path, Features]:
            path = extracted(
                work, f"{weights}-{data}", file, "--layers", ",".join(LAYERS),
                "--views", ",".join(views), data=data, precision=options.precision,
            )  # fmt: skip
            return path, read_features(path)

        path, large = features_of("isic2017_512", *FRAMES, *LARGER)
        _, small = features_of("isic2017_256", *FRAMES)
        groups = groups_of(large, path, work / "512")
        train = select(large, positive="melanoma", folds=5, groups=groups).parts["train"]
        columns = by_layer(large, train.items, (*FRAMES, *LARGER))
        columns |= by_layer(small, small.items.take(same(train.items, small.items)), SMALL_FILES)
        columns |= both_sizes(columns)
        yield (
            weights,
            Material(Study.of(train.y, train.groups, options.repeats), columns, train.groups),
        )


def same(wanted: Items, listed: Items) -> npt.NDArray[np.int64]:
    """Find images of one collection in another, by their names."""
    places = {Path(path).stem: place for place, path in enumerate(listed.path.tolist())}
    return np.array([places[Path(path).stem] for path in wanted.path.tolist()])


def both_sizes(columns: dict[Key, Columns]) -> dict[Key, Columns]:
    """Average what a frame gives at its two sizes."""
    return {
        (both, layer, each): (columns[frame, layer, each] + columns[larger, layer, each]) / 2
        for both, frame, larger in zip(BOTH, FRAMES, LARGER, strict=True)
        for layer in LAYERS
        for each in ("mean", "std")
    }


if __name__ == "__main__":
    main()
