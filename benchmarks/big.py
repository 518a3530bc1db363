"""More embeddings than memory holds as float32: `fit_classifier.py`, with the memory that it took.

The embeddings are drawn: 64 hidden causes, some of which decide the class, mixed into 2,048 columns
with noise, and nothing below zero, as a network's are. The figures say what the fit costs, and
nothing of how well lesions are told apart.
"""

from __future__ import annotations

import argparse
import json
import re
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt

from features.cache.contents import Features, Items, write_features
from features.embedding.specification import ExtractorSpec

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "benchmarks.md"
CAUSES, BLOCK = 64, 5000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=500_000)
    parser.add_argument("--width", type=int, default=2048)
    parser.add_argument("--heads", default="logistic_regression,svm,xgboost")
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--memory", type=float, default=6.0, help="GiB that the fit may take")
    parser.add_argument("--work", type=Path, help="folder for the files, instead of a passing one")
    parser.add_argument("--write", action="store_true", help="write docs/benchmarks.md, too")
    options = parser.parse_args()
    if options.work:
        text = measure(options.work, options)
    else:
        with tempfile.TemporaryDirectory() as folder:
            text = measure(Path(folder), options)
    print(text)
    if options.write:
        page = PAGE.read_text(encoding="utf-8")
        marks = r"(<!-- big -->\n).*?(<!-- /big -->)"
        PAGE.write_text(re.sub(marks, lambda m: m[1] + text + "\n" + m[2], page, flags=re.DOTALL))


def draw(path: Path, n: int, d: int, *, seed: int = 0) -> None:
    """Write a feature file of drawn embeddings in half precision; a fifth of them is positive."""
    rng = np.random.default_rng(seed)
    causes = rng.normal(size=(n, CAUSES)).astype(np.float32)
    told = causes[:, :8].sum(axis=1) / 3 + causes[:, 8] * causes[:, 9] + rng.normal(size=n)
    positive = told > np.quantile(told, 0.8)
    mixing = (rng.normal(size=(CAUSES, d)) / np.sqrt(np.arange(1, CAUSES + 1))[:, None]).astype(
        np.float32
    )

    def blocks() -> Iterator[npt.NDArray[np.float32]]:
        for start in range(0, n, BLOCK):
            mixed = causes[start : start + BLOCK] @ mixing
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
    items = Items(
        row=np.arange(n),
        sha256=np.array([f"{place:064x}" for place in range(n)]),
        path=np.array([f"{place}.jpg" for place in range(n)]),
        label=np.where(positive, "melanoma", "nevus"),
        split=np.where(lesion % 25 == 0, "test", "train"),
        group=np.char.add("lesion-", lesion.astype(str)),
        width=np.full(n, 600, np.int32),
        height=np.full(n, 450, np.int32),
    )
    features = Features(spec, np.empty((0, d), np.float32), items, synthetic=True)
    write_features(path, features, blocks=blocks(), rows=n, dtype=np.float16)


def measure(work: Path, options: argparse.Namespace) -> str:
    path, out = work / f"big-{options.images}.h5", work / "bundle"
    if not path.exists():
        draw(path, options.images, options.width)
    words = [
        "fit_classifier.py", path, "--out", out, "--overwrite", "--groups", "none",
        "--heads", options.heads, "--folds", options.folds, "--memory", options.memory,
    ]  # fmt: skip
    began = time.perf_counter()
    subprocess.run([sys.executable, *map(str, words)], cwd=ROOT, check=True)
    whole = time.perf_counter() - began
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024
    found = json.loads((out / "comparison.json").read_text(encoding="utf-8"))
    rows = [
        f"| {head['title']} | {len(head['candidates'])} | {head['seconds']:.0f} "
        f"| {head['evaluations']['cross-validation']['auc']['value']:.4f} "
        f"| {head['evaluations']['test']['auc']['value']:.4f} |"
        for head in found["heads"].values()
    ]
    return "\n".join(
        [
            "| head | candidates | search, calibration, figures and final fit, s "
            "| cross-validated AUC | test AUC |",
            "| --- | ---: | ---: | ---: | ---: |",
            *rows,
            "",
            f"{options.images:,} x {options.width:,} drawn embeddings, "
            f"{path.stat().st_size / 2**30:.2f} GiB in half precision; {options.folds} folds, "
            f"`--memory {options.memory:g}`. The whole command: {whole:.0f} s, and "
            f"{peak / 2**30:.2f} GiB of memory at its highest.",
        ]
    )


if __name__ == "__main__":
    main()
