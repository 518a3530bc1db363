"""How fast each network of Keras Applications is, with untrained weights: trained ones are as fast.

    python benchmarks/extraction/networks.py --convert [NAME...]
    python benchmarks/extraction/networks.py [--skip NAME] [--seconds 3] [--write] [NAME...]

The first converts the networks and stops: 39 of them take some ten minutes and 5 GB in the folder
that LESION_CACHE names. The second embeds noise in memory with the recipe `fast`, eight images at
a time, at each network's own size: a batch, and further ones until the seconds are over. It prints
the table in docs/networks.md, and writes it there if asked to. Conversion is not counted.
"""

from __future__ import annotations

import argparse
import re
import sys
import time
from datetime import date
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

import numpy as np

from benchmarks.machine import describe
from features.embedding.extractor import load_extractor
from features.networks.registry import NETWORKS

PAGE = Path(__file__).parents[2] / "docs" / "networks.md"
BATCH = 8


def rate(name: str, seconds: float) -> tuple[float, str, int]:
    """Measure images a second; and tell the precision and the embedding's length."""
    extractor = load_extractor(name, "untrained", recipe="fast")
    side = extractor.spec.input_size
    pixels = np.random.default_rng(0).integers(0, 256, (BATCH, side, side, 3), np.uint8)
    extractor.embed(pixels[:2])
    done, start = 0, time.perf_counter()
    while not done or time.perf_counter() - start < seconds:
        done += len(extractor.embed(pixels))
    return done / (time.perf_counter() - start), extractor.spec.precision, extractor.spec.dim


def row(name: str, seconds: float) -> str:
    """Measure a network, and give its row of the table."""
    network = NETWORKS[name]
    images, precision, length = rate(name, seconds)
    megabytes = 4e-6 * (network.parameters or 0)
    cells = (f"`{name}`", network.input_size, f"{length:,}", f"{megabytes:,.0f}")
    return f"| {' | '.join(map(str, cells))} | {images:.1f} | {precision} |"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help="all, if none is given")
    parser.add_argument("--skip", action="append", default=[], metavar="NAME")
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--convert", action="store_true", help="convert only, and stop")
    parser.add_argument("--write", action="store_true", help="write docs/networks.md, too")
    options = parser.parse_args()
    if unknown := {*options.names, *options.skip} - set(NETWORKS):
        sys.exit(f"error: there is no network {', '.join(sorted(unknown))}")
    names = [name for name in options.names or NETWORKS if name not in options.skip]
    if options.convert:
        for name in names:
            load_extractor(name, "untrained", recipe="fast").prepare()
            print(name, flush=True)
        return
    lines = [
        "| network | input | length | weights, MB | images/s | precision |",
        "| --- | ---: | ---: | ---: | ---: | --- |",
    ]
    print("\n".join(lines))
    for name in names:
        lines.append(row(name, options.seconds))
        print(lines[-1], flush=True)
    skipped = [name for name in NETWORKS if name not in names]
    lines += ["", f"{describe()}; {date.today():%B %Y}; batches of {BATCH}, one trial each."]
    if skipped:
        lines.append(f"Not measured: {', '.join(skipped)}.")
    print("\n".join(lines[-2:]))
    if options.write:
        page = PAGE.read_text(encoding="utf-8")
        text = "\n".join(lines)
        marks = r"(<!-- speed -->\n).*(\n<!-- /speed -->)"
        PAGE.write_text(
            re.sub(marks, lambda m: m[1] + text + m[2], page, flags=re.DOTALL), encoding="utf-8"
        )


if __name__ == "__main__":
    main()
