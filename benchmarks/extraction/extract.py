"""Extraction side by side: the plain Keras way, this project, and what the machine allows.

Reads real images and weights from the folder that LESION_TEST_DATA names. Whole commands are
timed, in one run, on the same images; ratios are what counts, since machines differ.
"""

from __future__ import annotations

import argparse
import functools
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.extraction.decode import (
    constant_extractor,
    decode_table,
    loop_rate,
    of_three_megapixels,
)
from benchmarks.machine import describe, matrix_gflops
from features.cache.contents import Features, read_features
from features.datasets.folders import find_images
from features.embedding.extractor import Extractor, load_extractor
from features.images.decoding import decode, load_pixels
from features.networks.engines import has_matrix_units
from models.evaluation.roc import compare_auc
from models.training.comparison import compare_heads
from models.training.options import Options

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "benchmarks.md"
GFLOP_PER_IMAGE = 11.4
RECIPES = ("accurate", "fast")


@dataclass(frozen=True)
class Run:
    """What a command took: seconds on the clock, and MB at its peak."""

    seconds: float
    megabytes: float


def run(*words: object, cache: Path) -> Run:
    """Run a command that keeps what can be made again in a folder of this measurement."""
    watch = (
        "import resource, subprocess, sys, time\n"
        "start = time.perf_counter()\n"
        "subprocess.run(sys.argv[1:], check=True, stdout=subprocess.DEVNULL)\n"
        "seconds = time.perf_counter() - start\n"
        "print(seconds, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024)"
    )
    command = [sys.executable, *map(str, words)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "TF_CPP_MIN_LOG_LEVEL": "3"}
    environment["LESION_CACHE"] = str(cache)
    done = subprocess.run(
        [sys.executable, "-c", watch, *command],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        sys.exit(f"{' '.join(command)} failed:\n{done.stderr[-2000:]}")
    seconds, megabytes = map(float, done.stdout.split())
    return Run(seconds, megabytes)


def engine_rate(weights: Path, pixels: np.ndarray, engine: str, precision: str) -> float:
    """Measure images per second of an engine alone, pixels in memory."""
    ready = load_extractor("inception_v3", weights, engine=engine, precision=precision).prepare()
    batch = pixels[: ready.batch]
    ready.run(batch)
    count, start = 0, time.perf_counter()
    while time.perf_counter() - start < 10:
        ready.run(batch)
        count += len(batch)
    return count / (time.perf_counter() - start)


def embedding_rate(extractor: Extractor, paths: Sequence[Path]) -> float:
    """Measure images per second of a recipe's network alone, in all views, pixels in memory."""
    engine = extractor.prepare()
    read = [decode(path, *extractor.spec.frames).frames for path in paths[: engine.batch]]
    pixels = [np.stack(frame) for frame in zip(*read, strict=True)]
    extractor.embed(*pixels)
    count, start = 0, time.perf_counter()
    while time.perf_counter() - start < 15:
        extractor.embed(*pixels)
        count += len(read)
    return count / (time.perf_counter() - start)


def recipe_table(
    weights: Path, images: Path, chosen: Sequence[Path], whole: dict[str, Run], one: dict[str, Run]
) -> list[str]:
    """Measure what the recipes cost: network and loop, beside the commands run before."""
    lines = [
        "| recipe, fp32 | network alone, a batch at a time, images/s | the loop around it | "
        "of the network | the loop around a network of constant 60 passes/s | of that | "
        "whole command, images/s | start to end for one image |",
        "| --- |" + " --- |" * 7,
    ]
    for recipe in RECIPES:
        extractor = load_extractor("inception_v3", weights, recipe=recipe, precision="fp32")
        alone = embedding_rate(extractor, chosen)
        loop = loop_rate(images, extractor)
        constant = loop_rate(images, constant_extractor(60, extractor.spec))
        most = 60 / len(extractor.spec.views)
        lines.append(
            f"| `{recipe}` | {alone:.1f} | {loop:.1f} | {loop / alone:.0%} | {constant:.1f} | "
            f"{constant / most:.0%} | {len(chosen) / whole[recipe].seconds:.1f} | "
            f"{one[recipe].seconds:.1f} s |"
        )
    return lines


def by_hash(features: Features) -> dict[str, int]:
    return dict(zip(features.items.sha256.tolist(), features.items.row.tolist(), strict=True))


def cosine(one: Features, other: Features) -> tuple[float, float]:
    """Give the mean and the least cosine between the embeddings of the same images."""
    rows, others = by_hash(one), by_hash(other)
    a = one.embeddings[[rows[key] for key in rows]]
    b = other.embeddings[[others[key] for key in rows]]
    found = (a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)
    return float(found.mean()), float(found.min())


def repeated(originals: Path, target: Path, times: int) -> None:
    """Copy images so that each copy is another file: bytes after its end change no pixel."""
    for source in sorted(originals.rglob("*.jpg")):
        for number in range(times):
            copy = target / source.parent.name / f"{source.stem}_{number}.jpg"
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_bytes(source.read_bytes() + bytes([number]))


def linked(images: Sequence[Path], root: Path, target: Path) -> None:
    for path in images:
        place = target / path.relative_to(root)
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, place)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=300, help="how many images, at most")
    parser.add_argument("--write", action="store_true", help="write docs/benchmarks.md, too")
    options = parser.parse_args()
    given = os.environ.get("LESION_TEST_DATA")
    if not given:
        sys.exit("LESION_TEST_DATA names no folder of real images: nothing was measured")
    shared = Path(given).resolve()
    weights = next((shared / "weights").glob("inception_v3_keras*.h5"))
    with tempfile.TemporaryDirectory() as folder:
        text = measure(shared, weights, Path(folder), options.images)
    print(text)
    if options.write:
        page = PAGE.read_text(encoding="utf-8")
        marks = r"(<!-- extraction -->\n).*?(<!-- /extraction -->)"
        PAGE.write_text(re.sub(marks, lambda m: m[1] + text + "\n" + m[2], page, flags=re.DOTALL))


def measure(shared: Path, weights: Path, work: Path, limit: int) -> str:
    root = shared / "data" / "isic2017_256"
    paths = [root / item.path for item in find_images(root).items]
    chosen = paths[:: max(1, len(paths) // limit)][:limit]
    images = work / "images"
    linked(chosen, root, images)
    frames = {
        name: load_extractor("inception_v3", "untrained", recipe=name).spec.frames
        for name in RECIPES
    }
    decoding = decode_table(chosen, frames, of_three_megapixels(shared / "data" / "originals"))
    n, few = len(chosen), sum(path.relative_to(root).parts[0] == "valid" for path in chosen)
    precisions = ["fp32", *(["bf16"] if has_matrix_units() else []), "int8"]
    timed = functools.partial(run, cache=work / "cache")

    first = work / "first"
    linked(chosen[:1], root, first)
    # The very first commands convert the network, and quantise it: kept for all that follow.
    cold = timed(*command(first, weights, work / "cold.h5", "fp32"))
    quantised = timed(*command(first, weights, work / "int8.one.h5", "int8"))
    timed(*command(first, weights, work / "accurate.first.h5", "fp32", "accurate"))
    plain = timed("benchmarks/extraction/plain_keras.py", images, weights, work / "plain.npy")
    whole = {p: timed(*command(images, weights, work / f"{p}.h5", p)) for p in precisions}
    again = timed(*command(images, weights, work / "fp32.h5", "fp32"))
    default = timed(*command(images, weights, work / "default.h5", "fp32", "accurate"))
    one = {
        recipe: timed(*command(first, weights, work / f"{recipe}.one.h5", "fp32", recipe))
        for recipe in RECIPES
    }
    recipes = recipe_table(
        weights, images, chosen, {"accurate": default, "fast": whole["fp32"]}, one
    )
    plain_few = timed(
        "benchmarks/extraction/plain_keras.py", images / "valid", weights, work / "a.npy"
    )
    whole_few = timed(*command(images / "valid", weights, work / "a.h5", "fp32"))
    help_ = min(timed("extract_features.py", "--help").seconds for _ in range(3))
    originals = work / "originals"
    repeated(shared / "data" / "originals", originals, 8)
    large = timed(*command(originals, weights, work / "large.h5", "fp32")).seconds
    count = len(read_features(work / "large.h5").embeddings)

    keras_rate = n / plain.seconds
    rows = [
        f"| Keras: `image_dataset_from_directory` + `predict` | {keras_rate:.1f} | 1 | - | - | - |"
    ]
    reference = read_features(work / "fp32.h5")
    auc = {p: cross_validated(read_features(work / f"{p}.h5")) for p in precisions}
    for p in precisions:
        rate = n / whole[p].seconds
        mean, least = cosine(reference, read_features(work / f"{p}.h5"))
        difference = compare_auc(auc["fp32"][0], auc[p][1], auc["fp32"][1])
        against = told(difference.difference) if p != "fp32" else "-"
        rows.append(
            f"| this project, {p} | {rate:.1f} | {rate / keras_rate:.2f} | "
            f"{mean:.5f} / {least:.5f} | {auc[p][2]:.4f} | {against} |"
        )
    pixels = np.stack([load_pixels(path, 299) for path in chosen[:64]])
    alone = {p: engine_rate(weights, pixels, "openvino", p) for p in precisions}
    alone_keras = engine_rate(weights, pixels, "keras", "fp32")
    peak = {p: matrix_gflops(p) for p in precisions if p != "int8"}
    keras_embeddings = np.load(work / "plain.npy")
    return "\n".join(
        [
            f"Machine: {describe()}. {n} images of 256 x 256 pixels, InceptionV3 at 299².",
            "",
            *recipes,
            "",
            *decoding,
            "",
            "What follows is of `--recipe fast`, which computes what the plain Keras way does.",
            "",
            "| whole command | images/s | ratio | cosine to fp32, mean / least | "
            "cross-validated AUC of logistic regression | difference to fp32 (95 %) |",
            "| --- | --- | --- | --- | --- | --- |",
            *rows,
            "",
            "| engine alone | images/s | GFLOP/s | of the machine's matrix product |",
            "| --- | --- | --- | --- |",
            f"| Keras fp32 | {alone_keras:.1f} | {alone_keras * GFLOP_PER_IMAGE:.0f} | - |",
            *(
                f"| OpenVINO {p} | {alone[p]:.1f} | {alone[p] * GFLOP_PER_IMAGE:.0f} | "
                + (
                    f"{alone[p] * GFLOP_PER_IMAGE / peak[p]:.0%} of {peak[p]:.0f} |"
                    if p in peak
                    else "- |"
                )
                for p in precisions
            ),
            "",
            "| what | figure |",
            "| --- | --- |",
            f"| second run on unchanged images, per image | "
            f"{again.seconds / n * 1e3:.2f} ms, "
            f"{again.seconds / whole['fp32'].seconds:.2%} of the first run |",
            f"| `--help` | {help_:.2f} s |",
            f"| start to end for one image, network converted before | "
            f"{one['fast'].seconds:.1f} s |",
            f"| the same for the very first time | {cold.seconds:.1f} s |",
            f"| int8: converting and quantising, once for each network | "
            f"{quantised.seconds:.0f} s |",
            f"| full-size originals (0.4 to 10 megapixels), {count} images | "
            f"{count / large:.1f} images/s, {count / large / (n / whole['fp32'].seconds):.2f} "
            "of the rate on small ones |",
            f"| peak memory: Keras, {few} images / {n} images | "
            f"{plain_few.megabytes:.0f} MB / {plain.megabytes:.0f} MB |",
            f"| peak memory: this project, fp32, {few} images / {n} images | "
            f"{whole_few.megabytes:.0f} MB / {whole['fp32'].megabytes:.0f} MB |",
            "| fp32 against the plain Keras way, which resizes without antialiasing | "
            f"cosine at least {against_plain(keras_embeddings, reference):.4f} |",
        ]
    )


def command(
    images: Path, weights: Path, out: Path, precision: str, recipe: str = "fast"
) -> list[object]:
    return [
        "extract_features.py",
        images,
        "--weights",
        weights,
        "--out",
        out,
        "--precision",
        precision,
        "--recipe",
        recipe,
    ]


def cross_validated(features: Features) -> tuple[np.ndarray, np.ndarray, float]:
    result = compare_heads(features, Options(heads=["logistic_regression"])).best.evaluations[
        "cross-validation"
    ]
    if result.auc is None:
        sys.exit("the images chosen hold one class only")
    return result.labels, result.scores, result.auc.value


def told(difference: object) -> str:
    value, low, high = (getattr(difference, name) for name in ("value", "low", "high"))
    return f"{value:+.4f} ({low:+.4f} to {high:+.4f})"


def against_plain(plain: np.ndarray, features: Features) -> float:
    """Compare with the rows of Keras' loader, which sorts files by class folder and name."""
    order = np.argsort(features.items.path.tolist(), kind="stable")
    ours = features.embeddings[features.items.row[order]]
    found = (ours * plain).sum(1) / np.linalg.norm(ours, axis=1) / np.linalg.norm(plain, axis=1)
    return float(found.min())


if __name__ == "__main__":
    main()
