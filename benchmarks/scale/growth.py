"""How extraction on a cluster grows: what the coordinator and a shard cost, and what follows.

The network is replaced by one that takes no time, or by a pause of constant length, so that what
is left is the program's own. `python -m benchmarks.scale.growth --write` writes the tables of
docs/scaling.md.
"""

from __future__ import annotations

import argparse
import gc
import pickle
import re
import resource
import tempfile
import time
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from benchmarks.extraction.decode import constant_extractor
from benchmarks.machine import describe
from benchmarks.scale.machines import ROOT, Machines
from features.datasets.folders import Dataset, Item, find_images
from features.embedding.extractor import load_extractor
from features.extraction.cluster.connection import connected
from features.extraction.cluster.run import deal_out
from features.extraction.cluster.sizing import Share
from features.extraction.cluster.worker import as_row, told_of
from features.extraction.shards.planning import Shard, into_shards, state_of_file
from features.extraction.shards.running import run_shard
from tests.pictures import image_bytes

PAGE = ROOT / "docs" / "scaling.md"
MANY = 1_000_000
PAUSE = 0.02
BIG = 100_000_000
# From docs/benchmarks.md: core seconds of one pass of InceptionV3 at 299 pixels in fp32, and
# images of 256 pixels and of 3 megapixels that a core decodes a second for each recipe.
PASS_SECONDS = 0.101
DECODED = {"accurate": (520, 35), "fast": (1_700, 70)}
PASSES = {"accurate": 2, "fast": 1}
NUMBERS = {"accurate": 25_600, "fast": 2_048}
# Assumptions, said as such on the page.
CORE_HOUR = 0.04
GPU_HOUR = 3.00
GPU_PASSES = 2_000


class Pause:
    """Stands for a process of the cluster whose shards all take the same time."""

    def __init__(self, seconds: float, _tally: Any) -> None:
        self._seconds = seconds

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        """Do nothing, slowly."""
        shard: Shard = pickle.loads(zlib.decompress(row["shard"]))  # noqa: S301 - our own
        time.sleep(self._seconds)
        return told_of(shard, rows=len(shard.items))


@dataclass(frozen=True)
class Planned:
    """What planning costs, an image: seconds, bytes in memory, bytes sent."""

    listed_seconds: float
    items_bytes: float
    dealt_seconds: float
    row_seconds: float
    row_bytes: float
    state_seconds: float


@dataclass(frozen=True)
class Dealt:
    """What the coordinator costs: seconds a shard, and bytes in all."""

    shards: int
    seconds: float
    processor_seconds: float
    bytes: int


def named(count: int) -> tuple[Item, ...]:
    """Make images that exist by name only, called as those of the ISIC archive are."""
    return tuple(
        Item(f"train/benign/ISIC_{number:09d}.jpg", "benign", "train", f"IP_{number // 3:07d}")
        for number in range(count)
    )


def resident() -> int:
    gc.collect()
    return int(psutil.Process().memory_info().rss)


def plan(folder: Path, listed: int, many: int) -> Planned:
    """Measure what planning costs, on images that exist and on ones that only have names."""
    content = image_bytes(0, (16, 16))
    for number in range(listed):
        place = folder / str(number % 2) / f"{number // 1000}"
        place.mkdir(parents=True, exist_ok=True)
        (place / f"ISIC_{number:07d}.jpg").write_bytes(content)
    start = time.process_time()
    found = find_images([folder], settled=False)
    listed_seconds = (time.process_time() - start) / listed
    start = time.process_time()
    for item in found.items[:10_000]:
        state_of_file(f"{found.root}/{item.path}")
    state_seconds = (time.process_time() - start) / min(listed, 10_000)
    before = resident()
    items = named(many)
    start = time.process_time()
    shards = into_shards(items, "f" * 64, root=folder, of=2_000)
    dealt_seconds = (time.process_time() - start) / many
    items_bytes = (resident() - before) / many
    start = time.process_time()
    sent = sum(len(as_row(shard)["shard"]) for shard in shards)
    row_seconds = (time.process_time() - start) / many
    return Planned(
        listed_seconds, items_bytes, dealt_seconds, row_seconds, sent / many, state_seconds
    )


def deal(machines: Machines, many: int, shards: int) -> Dealt:
    """Measure the coordinator on shards that take a constant time."""
    with connected(machines.address) as ray:
        parts = into_shards(named(many), "f" * 64, root="/nowhere", of=shards)
        share = Share(1, 0, 10**8)
        before, begun = resident(), time.process_time()
        first, last, done, peak = 0.0, 0.0, 0, before
        for _ in deal_out(ray, parts, share, 2, (PAUSE,), Pause):
            last = time.perf_counter()
            first = first or last
            done += 1
            if not done % 10:
                peak = max(peak, psutil.Process().memory_info().rss)
        spent = time.process_time() - begun
    return Dealt(shards, (last - first) / (done - 1), spent / shards, peak - before)


def make(folder: Path, images: int, sizes: Sequence[int]) -> dict[int, float]:
    """Measure, in processor seconds a shard, what is not the network's, by images in it."""
    content = [image_bytes(seed, (16, 16)) for seed in range(20)]
    spec = load_extractor("inception_v3", "untrained", input_size=75).spec
    for number in range(images):
        # Every image is another, so that none is embedded once for several.
        (folder / f"{number:06d}.jpg").write_bytes(content[number % 20] + b"%d" % number)
    found = find_images([folder], settled=False)
    taken = {}
    for size in sizes:
        with tempfile.TemporaryDirectory() as out:
            dataset = Dataset(found.root, found.items[:size])
            (shard,) = into_shards(dataset.items, spec.fingerprint, root=found.root, of=1)
            extractor = constant_extractor(1e9, spec)
            start = _processor_seconds()
            run_shard(shard, Path(out) / "shards", extractor, dataset)
            taken[size] = _processor_seconds() - start
    return taken


def _processor_seconds() -> float:
    own, children = (
        resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    )
    return own.ru_utime + own.ru_stime + children.ru_utime + children.ru_stime


def measured(planned: Planned, dealt: Sequence[Dealt], made: dict[int, float], many: int) -> str:
    """Say what was measured, as tables."""
    small, large = min(made), max(made)
    image = (made[large] - made[small]) / (large - small)
    lines = [
        f"Machine: {describe()}; two nodes with a core each, and a head.",
        "",
        f"| the coordinator, an image (of {many:,}) | figure |",
        "| --- | ---: |",
        f"| listing a folder | {1e6 * planned.listed_seconds:.0f} µs of a processor |",
        f"| dealing names out into shards | {1e6 * planned.dealt_seconds:.1f} µs |",
        f"| making rows of them | {1e6 * planned.row_seconds:.1f} µs |",
        f"| names, labels and groups in memory | {planned.items_bytes:.0f} bytes |",
        f"| what is sent | {planned.row_bytes:.0f} bytes |",
        f"| its state, asked for by the node that does it | {1e6 * planned.state_seconds:.0f} µs |",
        "",
        f"| shards of {PAUSE:g} s on two processes | shards/s, of {2 / PAUSE:.0f} at most "
        "| the coordinator: processor, a shard | memory, in all |",
        "| ---: | ---: | ---: | ---: |",
        *(
            f"| {each.shards:,} | {1 / each.seconds:.0f} | {1e3 * each.processor_seconds:.1f} ms "
            f"| {each.bytes / 1e6:.0f} MB |"
            for each in dealt
        ),
        "",
        "| a shard without its network, processor seconds | figure |",
        "| --- | ---: |",
        f"| {small:,} images | {made[small]:.2f} s |",
        f"| {large:,} images | {made[large]:.2f} s |",
        f"| an image, from the difference | {1e3 * image:.2f} ms |",
        f"| a shard, the rest | {made[small] - small * image:.2f} s |",
    ]
    return "\n".join(lines)


def computed(planned: Planned, dealt: Sequence[Dealt]) -> str:
    """Say what follows for 10^8 images, as a table."""
    lines = [
        "| 10⁸ images | `accurate`, 256 pixels | `accurate`, 3 megapixels | `fast`, 256 pixels "
        "| `fast`, 3 megapixels |",
        "| --- | ---: | ---: | ---: | ---: |",
    ]
    cases = [(recipe, large) for recipe in ("accurate", "fast") for large in (0, 1)]
    passes = [PASSES[recipe] * PASS_SECONDS * BIG / 3600 for recipe, _ in cases]
    decoding = [BIG / DECODED[recipe][large] / 3600 for recipe, large in cases]
    total = [a + b for a, b in zip(passes, decoding, strict=True)]
    gpu = [PASSES[recipe] * BIG / GPU_PASSES / 3600 for recipe, _ in cases]
    size = [4 * NUMBERS[recipe] * BIG / 1e12 for recipe, _ in cases]
    rows = {
        "network, core-hours": [f"{each:,.0f}" for each in passes],
        "decoding, core-hours": [f"{each:,.0f}" for each in decoding],
        f"both at {CORE_HOUR:.2f} $ a core-hour": [f"{CORE_HOUR * each:,.0f} $" for each in total],
        "days on 1,000 cores": [f"{each / 1000 / 24:.1f}" for each in total],
        f"GPU-hours, if a GPU does {GPU_PASSES:,} passes/s": [f"{each:,.0f}" for each in gpu],
        "cores a GPU needs for decoding": [
            f"{cores / hours:.0f}" for cores, hours in zip(decoding, gpu, strict=True)
        ],
        f"GPUs at {GPU_HOUR:.2f} $ and their cores": [
            f"{GPU_HOUR * hours + CORE_HOUR * cores:,.0f} $"
            for hours, cores in zip(gpu, decoding, strict=True)
        ],
        "embeddings, float32": [f"{each:.1f} TB" for each in size],
        "embeddings, float16": [f"{each / 2:.1f} TB" for each in size],
    }
    lines += [f"| {name} | {' | '.join(values)} |" for name, values in rows.items()]
    largest = max(dealt, key=lambda each: each.shards)
    seconds = planned.listed_seconds + planned.dealt_seconds + planned.row_seconds
    shards = 65_536
    lines += [
        "",
        f"| the coordinator for 10⁸ images in {shards:,} shards | figure |",
        "| --- | ---: |",
        f"| planning | {BIG * seconds / 3600:.1f} h of a core |",
        f"| names in its memory | {BIG * planned.items_bytes / 1e9:.0f} GB |",
        f"| rows in Ray's object store | {BIG * planned.row_bytes / 1e9:.1f} GB |",
        f"| dealing out | {shards * largest.processor_seconds / 60:.0f} min of a core |",
        f"| shards/s needed by 1,000 cores, `accurate` | {shards / (total[0] * 3.6):.2f} |",
    ]
    return "\n".join(lines)


def main() -> None:
    """Measure, compute and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true", help="write the tables into the page")
    parser.add_argument("--quick", action="store_true", help="a tenth of it, to see that it works")
    options = parser.parse_args()
    part = 10 if options.quick else 1
    with tempfile.TemporaryDirectory() as work:
        for name in ("listed", "made"):
            (Path(work) / name).mkdir()
        made = make(Path(work) / "made", 2_000 // part, (200 // part, 2_000 // part))
        planned = plan(Path(work) / "listed", 50_000 // part, MANY // part)
    machines = Machines()
    try:
        for _ in range(2):
            machines.add()
        dealt = [deal(machines, MANY // part, shards) for shards in (250 // part, 1_000 // part)]
    finally:
        machines.close()
    tables = {
        "growth": measured(planned, dealt, made, MANY // part),
        "hundred million": computed(planned, dealt),
    }
    print("\n\n".join(tables.values()))
    if options.write:
        page = PAGE.read_text(encoding="utf-8")
        for name, text in tables.items():
            marks = rf"(<!-- {name} -->\n).*?(<!-- /{name} -->)"
            page = re.sub(
                marks, lambda m, text=text: m[1] + text + "\n" + m[2], page, flags=re.DOTALL
            )
        PAGE.write_text(page, encoding="utf-8")


if __name__ == "__main__":
    main()
