"""Long and wide embeddings: `fit_classifier.py` for each head, with the memory that it took.

The embeddings are drawn: 64 hidden causes, some of which decide the class, mixed into the columns
with noise, and nothing below zero, as a network's are. The figures say what the fit costs, and
nothing of how well lesions are told apart.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt

from benchmarks.scale.shards import mark
from features.cache.contents import Features, Items, write_features
from features.cache.shards.places import file_name
from features.embedding.specification import ExtractorSpec
from models.machine import machine

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "benchmarks.md"
CAUSES, BLOCK_NUMBERS = 64, 10_240_000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--shapes", default="500000x2048,25000x25600,2000x100000", metavar="IMAGESxWIDTH,..."
    )
    parser.add_argument("--heads", default="logistic_regression,svm,xgboost")
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--shards", type=int, default=0, help="in a folder of so many, not a file")
    parser.add_argument("--memory", type=float, help="GiB that the fit may take; what is free")
    parser.add_argument("--work", type=Path, help="folder for the files, instead of a passing one")
    parser.add_argument("--write", action="store_true", help="write docs/benchmarks.md, too")
    options = parser.parse_args()
    if options.work:
        options.work.mkdir(parents=True, exist_ok=True)
        text = measure(options.work, options)
    else:
        with tempfile.TemporaryDirectory() as folder:
            text = measure(Path(folder), options)
    print(text)
    if options.write:
        page = PAGE.read_text(encoding="utf-8")
        marks = r"(<!-- big -->\n).*?(<!-- /big -->)"
        PAGE.write_text(re.sub(marks, lambda m: m[1] + text + "\n" + m[2], page, flags=re.DOTALL))


def draw(path: Path, n: int, d: int, *, shards: int = 0, seed: int = 0) -> None:
    """Write drawn embeddings in half precision, a fifth of them positive.

    Either a feature file, or a folder of so many shards.
    """
    rng = np.random.default_rng(seed)
    causes = rng.normal(size=(n, CAUSES)).astype(np.float32)
    told = causes[:, :8].sum(axis=1) / 3 + causes[:, 8] * causes[:, 9] + rng.normal(size=n)
    positive = told > np.quantile(told, 0.8)
    mixing = (rng.normal(size=(CAUSES, d)) / np.sqrt(np.arange(1, CAUSES + 1))[:, None]).astype(
        np.float32
    )

    def blocks(first: int, end: int) -> Iterator[npt.NDArray[np.float32]]:
        step = max(1, BLOCK_NUMBERS // d)
        for start in range(first, end, step):
            mixed = causes[start : min(start + step, end)] @ mixing
            mixed += rng.standard_normal(mixed.shape, np.float32)
            yield np.maximum(mixed, 0)

    # Two images of each lesion, which stay together; one lesion in 25 is judged by alone.
    lesion = np.arange(n) // 2
    spec = ExtractorSpec(
        network="inception_v3",
        weights="untrained",
        weights_sha256="0" * 64,
        input_size=299,
        dim=d,
        layers=("mixed10",),
    )
    if shards:
        path.mkdir(parents=True, exist_ok=True)
    borders = [n * number // max(1, shards) for number in range(max(1, shards) + 1)]
    for number, (first, end) in enumerate(itertools.pairwise(borders), start=1):
        places = np.arange(first, end)
        items = Items(
            row=np.arange(end - first),
            # Told apart by how they begin, as real hashes are.
            sha256=np.array([f"{place:016x}".ljust(64, "0") for place in places]),
            path=np.array([f"{place}.jpg" for place in places]),
            label=np.where(positive[first:end], "melanoma", "nevus"),
            split=np.where(lesion[first:end] % 25 == 0, "test", "train"),
            group=np.char.add("lesion-", lesion[first:end].astype(str)),
            width=np.full(end - first, 600, np.int32),
            height=np.full(end - first, 450, np.int32),
        )
        features = Features(spec, np.empty((0, d), np.float32), items, synthetic=True)
        file = path / file_name(number, shards) if shards else path
        write_features(
            file, features, blocks=blocks(first, end), rows=end - first, dtype=np.float16
        )
        if shards:
            mark(file, features, number, shards)


def measure(work: Path, options: argparse.Namespace) -> str:
    rows = [
        _row(work, *map(int, shape.split("x")), head, options)
        for shape in options.shapes.split(",")
        for head in options.heads.split(",")
    ]
    return "\n".join(
        [
            "| drawn embeddings | head | candidates | how | whole command, s | processor, s "
            "| memory at its highest, GiB | cross-validated AUC | test AUC |",
            "| --- | --- | ---: | --- | ---: | ---: | ---: | ---: | ---: |",
            *rows,
            "",
            f"{options.folds} folds, `--memory {options.memory or 'what is free'}`, "
            f"{os.cpu_count()} cores ({machine()['processor']}). Each head in a run of its own.",
        ]
    )


def _row(work: Path, n: int, d: int, head: str, options: argparse.Namespace) -> str:
    name = f"big-{n}x{d}" + ("-shards" if options.shards else ".h5")
    path, out = work / name, work / "bundle"
    if not path.exists():
        draw(path, n, d, shards=options.shards)
    words = [
        "fit_classifier.py", path, "--out", out, "--overwrite", "--groups", "none", "--no-reuse",
        "--heads", head, "--folds", options.folds,
        *(["--memory", options.memory] if options.memory else []),
    ]  # fmt: skip
    began = time.perf_counter()
    process = subprocess.Popen([sys.executable, *map(str, words)], cwd=ROOT)
    # Of this run alone: what all children took at most would be that of the largest.
    _, status, used = os.wait4(process.pid, 0)
    if status:
        sys.exit(f"{head} on {n} x {d} failed")
    whole = time.perf_counter() - began
    found = json.loads((out / "comparison.json").read_text(encoding="utf-8"))
    result = found["heads"][head]
    blocks = any("block by block" in note for note in found["notes"])
    areas = [result["evaluations"][split]["auc"]["value"] for split in ("cross-validation", "test")]
    row = (
        f"| {n:,} x {d:,} | {result['title']} | {len(result['candidates'])} "
        f"| {'by blocks' if blocks else 'in memory'} "
        f"| {whole:.0f} | {used.ru_utime + used.ru_stime:.0f} "
        f"| {used.ru_maxrss / 2**20:.2f} | {areas[0]:.4f} | {areas[1]:.4f} |"
    )
    print(row, file=sys.stderr, flush=True)
    return row


if __name__ == "__main__":
    main()
