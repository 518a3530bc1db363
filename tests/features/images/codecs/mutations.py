"""Decodes mutated images: ``python -m tests.features.images.codecs.mutations SEED COUNT``.

A process of its own, limited in memory and in the time that one image may take, so that a crash
or a hang shows as the process's death; the last line it printed says on what.
"""

from __future__ import annotations

import io
import os
import random
import resource
import signal
import sys
from collections import Counter
from pathlib import Path

import numpy as np
from PIL import Image

from features.errors import UnreadableImage
from features.images.decoding import load_pixels
from features.images.formats import require_heif
from tests.features.images.codecs.dicoms import dicom
from tests.pictures import image_bytes

SECONDS = 20
MEMORY = 3 << 30
VARIANTS: tuple[tuple[str, str, dict[str, object]], ...] = (
    ("JPEG", "RGB", {}),
    ("JPEG", "RGB", {"progressive": True}),
    ("JPEG", "RGB", {"restart_marker_rows": 1, "subsampling": 0}),
    ("JPEG", "L", {}),
    ("JPEG", "CMYK", {}),
    ("PNG", "RGB", {}),
    ("PNG", "RGBA", {}),
    ("PNG", "P", {}),
    ("PNG", "I;16", {}),
    ("TIFF", "RGB", {"compression": "tiff_lzw"}),
    ("TIFF", "RGB", {"compression": "tiff_adobe_deflate"}),
    ("TIFF", "RGB", {"compression": "jpeg"}),
    ("TIFF", "I;16", {}),
    ("WEBP", "RGB", {}),
    ("WEBP", "RGBA", {"lossless": True}),
    ("GIF", "P", {}),
    ("BMP", "RGB", {}),
    ("AVIF", "RGB", {}),
    ("JPEG2000", "RGB", {}),
    ("PPM", "RGB", {}),
    ("HEIF", "RGB", {}),
)
require_heif()


def originals() -> list[bytes]:
    """One small file of each kind, and the real ones if there are any."""
    picture = Image.open(io.BytesIO(image_bytes(11, (90, 70), "PNG")))
    made = []
    for form, mode, options in VARIANTS:
        if mode == "I;16":
            converted = Image.fromarray(np.asarray(picture.convert("L")).astype(np.uint16) * 257)
        else:
            converted = picture.convert(mode)
        file = io.BytesIO()
        converted.save(file, form, **options)
        made.append(file.getvalue())
    folder = Path(os.environ.get("LESION_TEST_DATA", "/nowhere"), "data", "robustness")
    real = (path for path in sorted(folder.rglob("*.*")) if path.stat().st_size < 100_000)
    made += [dicom(np.asarray(picture)), dicom(np.asarray(picture.convert("L")), "MONOCHROME2")]
    return made + [path.read_bytes() for path in real]


def mutated(data: bytes, rng: random.Random) -> bytes:
    """Damage a file in one of the ways in which files are damaged."""
    content = bytearray(data)
    kind = rng.randrange(6)
    place = rng.randrange(len(content))
    length = rng.randrange(1, max(2, len(content) // 4))
    if kind == 0:
        for _ in range(rng.randrange(1, 9)):
            content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
    elif kind == 1:
        # Headers decide sizes, counts and offsets.
        for _ in range(rng.randrange(1, 5)):
            content[rng.randrange(min(len(content), 200))] = rng.choice((0, 1, 127, 128, 254, 255))
    elif kind == 2:
        del content[place:]
    elif kind == 3:
        content[place : place + length] = bytes(min(length, len(content) - place))
    elif kind == 4:
        content[place:place] = rng.randbytes(length)
    else:
        del content[place : place + length]
    return bytes(content)


def main(seed: int, count: int) -> None:
    """Decode `count` mutated files, and print how many were read and why others were not."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    files = originals()
    rng = random.Random(seed)  # noqa: S311
    found: Counter[str] = Counter()
    for number in range(count):
        data = mutated(rng.choice(files), rng)
        signal.alarm(SECONDS)
        try:
            pixels = load_pixels(data, 32)
        except UnreadableImage as error:
            message = str(error)
            if "\n" in message or len(message) > 300:
                sys.exit(f"case {number} of seed {seed} is told in more than a sentence: {message}")
            found[error.code] += 1
        else:
            if pixels.shape != (32, 32, 3) or pixels.dtype != np.uint8:
                sys.exit(f"case {number} of seed {seed} gave {pixels.shape} {pixels.dtype}")
            found["read"] += 1
        signal.alarm(0)
    print(sum(found.values()), dict(found))  # noqa: T201


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
