"""How often a bundle calls pictures unlike its training images: lesions, and everything else.

Pictures come from the folder that LESION_TEST_DATA names and from scikit-learn. The bundles must be
of its ISIC-2017 training images. False alarms are those on the validation split, which decided
nothing; what is found among other pictures says what such pictures are, not how rare a miss is.
"""

from __future__ import annotations

import argparse
import io
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps
from sklearn.datasets import load_sample_images

from features.errors import UnreadableImage
from features.images.decoding import decode
from models.inference.classifier import Classifier
from models.inference.verdict import Verdict

Change = Callable[[Image.Image], Image.Image]

PHOTOGRAPHS = (
    "exif_orientation/Landscape_0.jpg",
    "exif_orientation/Portrait_0.jpg",
    "libvips/rotation_2.jpg",
    "pillow/rot1mir0.avif",
)
SOME = 60


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("bundles", type=Path, nargs="+", help="with a gallery, of ISIC-2017")
    options = parser.parse_args()
    given = os.environ.get("LESION_TEST_DATA")
    if not given:
        sys.exit("give the folder of real images in LESION_TEST_DATA")
    data = Path(given) / "data"
    classifiers = [Classifier.load(bundle) for bundle in options.bundles]
    names = [
        ", ".join(layer for one in each.bundle.networks for layer in one.spec.layers)
        for each in classifiers
    ]
    print("| images | n |", *(f"unlike, {name} |" for name in names))
    print("| --- | ---: |", *("---: |" for _ in names))
    for title, pictures in collections(data):
        contents = [(title, picture) for picture in pictures]
        found = [[unlike(one) for one in judged(each, contents)] for each in classifiers]
        counted = [[one for one in each if one is not None] for each in found]
        shares = (f"{np.mean(each):.1%} ({sum(each)}) |" for each in counted)
        print(f"| {title} | {len(counted[0])} |", *shares, flush=True)


def judged(classifier: Classifier, contents: list[tuple[str, bytes]]) -> Iterator[object]:
    """Classify, without what can't be read at all."""
    for start in range(0, len(contents), 16):
        yield from classifier.classify(contents[start : start + 16])


def unlike(one: object) -> bool | None:
    """Whether a verdict says so; None if there is no verdict."""
    if not isinstance(one, Verdict):
        return None
    return any(reason.kind == "unlike" for reason in one.reasons)


def collections(data: Path) -> Iterator[tuple[str, list[bytes]]]:
    """Give what is judged, by name."""
    rng = np.random.default_rng(0)
    valid = files(data / "isic2017_256" / "valid")
    some = [valid[at] for at in np.sort(rng.permutation(len(valid))[:SOME])]
    yield "validation split, held out", [path.read_bytes() for path in valid]
    yield (
        "the same at 512 pixels, cropped",
        [path.read_bytes() for path in files(data / "isic2017_512" / "valid")],
    )
    yield (
        "full-size originals of training images",
        [path.read_bytes() for path in files(data / "originals")],
    )
    yield "lesions turned by 90°", changed(some, lambda image: image.rotate(90, expand=True))
    yield "lesions without colour", changed(some, lambda image: image.convert("L"))
    yield "lesions at a tenth of their resolution", changed(some, tenth)
    yield "corners of lesion images", changed(some, corner)
    photographs = [Image.fromarray(image) for image in load_sample_images().images]
    photographs += [opened(data / "robustness" / name) for name in PHOTOGRAPHS]
    yield (
        "photographs of something else, and nine tiles of each",
        [encoded(part) for image in photographs for part in (image, *tiles(image))],
    )
    yield (
        "test files of image libraries",
        [
            path.read_bytes()
            for path in files(data / "robustness")
            if str(path.relative_to(data / "robustness")) not in PHOTOGRAPHS and readable(path)
        ],
    )
    yield "noise, uniform, gradient", [encoded(Image.fromarray(each)) for each in drawn(rng)]


def files(folder: Path) -> list[Path]:
    endings = {".jpg", ".jpeg", ".png", ".gif", ".tif", ".tiff", ".webp", ".avif", ".ppm", ".jp2"}
    return sorted(path for path in folder.rglob("*") if path.suffix.lower() in endings)


def readable(path: Path) -> bool:
    """Whether it is a picture of more than a few pixels."""
    try:
        decoded = decode(path, 75)
    except UnreadableImage:
        return False
    return min(decoded.width, decoded.height) >= 64


def opened(path: Path) -> Image.Image:
    return ImageOps.exif_transpose(Image.open(path)).convert("RGB")


def changed(paths: Iterable[Path], change: Change) -> list[bytes]:
    return [encoded(change(opened(path))) for path in paths]


def tenth(image: Image.Image) -> Image.Image:
    width, height = image.size
    return image.resize((width // 10, height // 10)).resize((width, height))


def corner(image: Image.Image) -> Image.Image:
    width, height = image.size
    return image.crop((0, 0, width // 4, height // 4)).resize((width, height))


def tiles(image: Image.Image) -> Iterator[Image.Image]:
    width, height = image.size
    for row in range(3):
        for column in range(3):
            yield image.crop(
                (
                    column * width // 3,
                    row * height // 3,
                    (column + 1) * width // 3,
                    (row + 1) * height // 3,
                )
            )


def drawn(rng: np.random.Generator) -> Iterator[npt.NDArray[np.uint8]]:
    for _ in range(5):
        yield rng.integers(0, 256, (300, 300, 3), dtype=np.uint8)
    for level in (0, 128, 255):
        yield np.full((300, 300, 3), level, np.uint8)
    yield np.repeat(np.linspace(0, 255, 300, dtype=np.uint8)[None, :, None], 300, 0).repeat(3, 2)


def encoded(image: Image.Image) -> bytes:
    file = io.BytesIO()
    image.convert("RGB").save(file, "PNG")
    return file.getvalue()


if __name__ == "__main__":
    main()
