"""A folder of shards of many millions of rows: how long it takes to open, and the memory.

The rows are made up: narrow random numbers, names and labels as of a data set. What is measured is
what a folder of shards costs beside its embeddings; these are as fast as the disk and SHA-256 are.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from features.cache.contents import Features, Items, read_features, write_features
from features.cache.shards.marks import Mark
from features.cache.shards.places import file_name, mark_name
from features.embedding.specification import ExtractorSpec
from models.machine import machine

ROOT = Path(__file__).parent.parent.parent
PAGE = ROOT / "docs" / "scaling.md"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--shards", type=int, default=10)
    parser.add_argument("--rows", type=int, default=1_000_000, help="in each shard")
    parser.add_argument("--width", type=int, default=16)
    parser.add_argument("--work", type=Path, help="folder for the files, instead of a passing one")
    parser.add_argument("--write", action="store_true", help="write docs/scaling.md, too")
    parser.add_argument("--measure", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        measure(options.measure)
        return
    if options.work:
        text = table(options.work, options)
    else:
        with tempfile.TemporaryDirectory() as folder:
            text = table(Path(folder), options)
    print(text)
    if options.write:
        page = PAGE.read_text(encoding="utf-8")
        marks = r"(<!-- shards -->\n).*?(<!-- /shards -->)"
        PAGE.write_text(re.sub(marks, lambda m: m[1] + text + "\n" + m[2], page, flags=re.DOTALL))


def make(folder: Path, number: int, of: int, rows: int, width: int) -> None:
    """Write a shard of made-up rows with its mark, unless it is there."""
    path = folder / file_name(number, of)
    if (folder / mark_name(number, of)).exists():
        return
    rng = np.random.default_rng(number)
    spec = ExtractorSpec(
        network="inception_v3",
        weights="untrained",
        weights_sha256="0" * 64,
        input_size=299,
        dim=width,
        layers=("mixed10",),
    )
    joined = rng.bytes(32 * rows).hex()
    items = Items(
        row=np.arange(rows),
        sha256=np.array([joined[64 * at : 64 * at + 64] for at in range(rows)]),
        path=np.char.add(f"part-{number:03d}/ISIC_", np.arange(rows).astype(str)),
        label=np.where(rng.random(rows) < 0.2, "melanoma", "nevus"),
        split=np.where(rng.random(rows) < 0.1, "test", "train"),
        group=np.char.add(f"{number}-", (np.arange(rows) // 2).astype(str)),
        width=np.full(rows, 600, np.int32),
        height=np.full(rows, 450, np.int32),
    )
    embeddings = rng.standard_normal((rows, width), np.float32)
    features = Features(spec, embeddings, items, synthetic=True, created="2026-01-01T00:00:00")
    write_features(path, features, dtype=np.float16)
    mark(path, features, number, of)


def mark(path: Path, features: Features, number: int, of: int) -> None:
    """Write the mark of a shard whose file lies there."""
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    rows = len(features.items)
    made = Mark(
        number=number,
        of=of,
        key="0" * 64,
        sha256=digest,
        bytes=path.stat().st_size,
        extractor=features.spec.as_dict(),
        dtype="float16",
        rows=rows,
        items=rows,
        gone=0,
        failures=0,
        images_sha256="0" * 64,
        synthetic=True,
        created="2026-01-01T00:00:00",
    )
    (path.parent / mark_name(number, of)).write_text(made.as_text())


def measure(folder: Path) -> None:
    """Print a line of JSON for each step: what it is, seconds, and MB at most until then."""
    told("the program itself, loaded", None)
    began = time.perf_counter()
    features = read_features(folder, small=0, held=0)
    told("opened", began)
    for name, step in steps(features):
        began = time.perf_counter()
        step()
        told(name, began)


def steps(features: Features) -> Iterator[tuple[str, Callable[[], object]]]:
    rows = features.embeddings
    some = np.random.default_rng(0).integers(0, len(rows), 256)
    yield "256 rows of one shard, which is compared with its mark", lambda: rows[:256]
    yield "256 rows of all shards", lambda: rows[some]
    yield "labels and splits of all images", lambda: (features.items.label, features.items.split)
    yield "rows of all images, copies found", lambda: features.items.row
    yield "all embeddings, block by block", lambda: sum(len(block) for block in rows.blocks())


def told(name: str, began: float | None) -> None:
    seconds = f"{time.perf_counter() - began:.2f}" if began is not None else "-"
    print(json.dumps({"step": name, "seconds": seconds, "peak": peak_mb()}), flush=True)


def peak_mb() -> float:
    """Tell how much memory this process took at most, in MB, and count anew."""
    status = Path("/proc/self/status").read_text()
    found = int(re.search(r"VmHWM:\s+(\d+)", status)[1]) / 1e3
    Path("/proc/self/clear_refs").write_text("5")
    return found


def table(work: Path, options: argparse.Namespace) -> str:
    began = time.perf_counter()
    for number in range(1, options.shards + 1):
        # In a process of its own, so that memory is given back.
        code = "from benchmarks.scale.shards import make; from pathlib import Path; import sys; "
        code += "make(Path(sys.argv[1]), *map(int, sys.argv[2:]))"
        words = [work, number, options.shards, options.rows, options.width]
        subprocess.run([sys.executable, "-c", code, *map(str, words)], cwd=ROOT, check=True)
    making = time.perf_counter() - began
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.scale.shards", "--measure", str(work)],
        cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    print(f"made in {making:.0f} s", file=sys.stderr)
    size = sum(path.stat().st_size for path in work.glob("*.h5"))
    lines = ["| step | seconds | memory at most during it, MB |", "| --- | ---: | ---: |"]
    for line in done.stdout.splitlines():
        found = json.loads(line)
        lines.append(f"| {found['step']} | {found['seconds']} | {found['peak']:,.0f} |")
    lines += [
        "",
        f"{options.shards} shards of {options.rows:,} made-up rows of {options.width} numbers, "
        f"{size / 1e9:.1f} GB in all; "
        f"{os.cpu_count()} cores ({machine()['processor']}).",
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
