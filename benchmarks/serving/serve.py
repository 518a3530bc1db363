"""Serving side by side: a plain Flask and Keras app, this project, and the engine by itself.

Reads real images and weights from the folder that LESION_TEST_DATA names. Servers are asked over
sockets, one after the other on the same machine; ratios are what counts, since machines differ.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import joblib
import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from benchmarks.machine import describe
from benchmarks.serving.clients import ROOT, Load, Server, load, looks, serving, soak
from features.cache.contents import read_features
from features.embedding.extractor import Extractor, rebuild_extractor
from features.images.decoding import decode
from models.bundle.loading import load_bundle

PAGE = ROOT / "docs" / "benchmarks.md"
SECONDS = 10.0
# Side of the network's input, for many pages in little time.
SMALL = 96
ROUNDS = 10

READY = "cold start to ready"
MEMORY = "memory"
P50 = "p50 latency, one client, 256-pixel image"
P95 = "p95 latency"
MANY = "images/s with 16 clients"
MANY_P95 = "p95 latency with 16 clients"


def beside(
    server: Server, extractor: Extractor, images: Sequence[bytes], requests: int
) -> tuple[Load, float]:
    """Ask one client's requests, and time passes through the engine alone in between.

    Gives what the client saw, and the median of the engine in milliseconds: side by side, since a
    machine is not as fast all the time.
    """
    scales = [scale[None] for scale in decode(images[0], *extractor.spec.frames).frames]
    extractor.embed(*scales)
    waits: list[float] = []
    times = []
    for _ in range(ROUNDS):
        waits += load(server, images, 1, requests=max(1, requests // ROUNDS)).accepted
        for _ in range(5):
            begin = time.perf_counter()
            extractor.embed(*scales)
            times.append(time.perf_counter() - begin)
    return Load(sum(waits), waits, []), float(np.median(times)) * 1e3


def engine_rate(extractor: Extractor, images: Sequence[bytes]) -> float:
    """Count the images per second of the engine alone, given many at once."""
    decoded = [decode(image, *extractor.spec.frames).frames for image in images[:64]]
    stacked = [np.stack(scale) for scale in zip(*decoded, strict=True)]
    extractor.embed(*stacked)
    begin, done = time.perf_counter(), 0
    while time.perf_counter() - begin < SECONDS / 2:
        extractor.embed(*stacked)
        done += len(decoded)
    return done / (time.perf_counter() - begin)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--features", type=Path, help="made with no option; default: made now")
    parser.add_argument("--fast", type=Path, help="made with --recipe fast; default: made now")
    parser.add_argument("--requests", type=int, default=100, help="of one client, one by one")
    parser.add_argument(
        "--soak", type=int, default=0, metavar="PAGES",
        help="besides: memory over so many pages with maps, from a network at 96 pixels",
    )  # fmt: skip
    parser.add_argument("--write", action="store_true", help="into docs/benchmarks.md")
    options = parser.parse_args()
    given = os.environ.get("LESION_TEST_DATA")
    if not given:
        sys.exit("give the folder of real images in LESION_TEST_DATA")
    shared = Path(given).resolve()
    weights = shared / "weights" / "inception_v3_keras_notop.weights.h5"
    photographs = shared / "data" / "isic2017_256"
    with tempfile.TemporaryDirectory() as folder:
        text = measure(Path(folder), weights, photographs, options)
    print(text)
    if options.write:
        page = PAGE.read_text(encoding="utf-8")
        marked = re.compile(r"(<!-- serving -->\n).*(<!-- /serving -->)", re.DOTALL)
        PAGE.write_text(marked.sub(lambda found: found[1] + text + found[2], page), "utf-8")


def measure(work: Path, weights: Path, photographs: Path, options: argparse.Namespace) -> str:
    images = [path.read_bytes() for path in sorted((photographs / "valid").rglob("*.jpg"))[:64]]
    columns = []
    for recipe, features in (("default", options.features), ("fast", options.fast)):
        if features is None:
            features = work / f"{recipe}.h5"
            chosen = ("--recipe", "fast") if recipe == "fast" else ()
            command("extract_features.py", photographs, "--weights", weights, "--out", features,
                    *chosen)  # fmt: skip
        bundle = work / f"bundle-{recipe}"
        command("fit_classifier.py", features, "--out", bundle, "--weights", weights)
        columns.append(own_figures(bundle, features, weights, images, options.requests))
    columns.insert(0, plain_figures(work, features, weights, images, options.requests))
    names = list(columns[1])
    soaked = soak_figures(work, weights, photographs, options.soak) if options.soak else []
    return "\n".join(
        [
            f"Machine: {describe()}.",
            "",
            "| | Flask + Keras `predict`, logistic regression | default | `--recipe fast` |",
            "| --- | --- | --- | --- |",
            *(
                f"| {name} | {' | '.join(column.get(name, '-') for column in columns)} |"
                for name in names
            ),
            "",
            *soaked,
        ]
    )


def plain_figures(
    work: Path, features: Path, weights: Path, images: Sequence[bytes], requests: int
) -> dict[str, str]:
    """Measure what most people would write."""
    cached = read_features(features)
    train = cached.items.take(cached.items.split == "train")
    head = make_pipeline(StandardScaler(), LogisticRegression(C=1e-4, max_iter=5000))
    head.fit(cached.embedded(train), train.label == "melanoma")
    joblib.dump(head, work / "head.joblib")
    variables = {"PLAIN_WEIGHTS": str(weights), "PLAIN_HEAD": str(work / "head.joblib")}
    with serving(["-m", "benchmarks.serving.plain_service"], **variables) as server:
        load(server, images, 1, requests=5)
        one = load(server, images, 1, requests=requests)
        many = load(server, images, 16, seconds=SECONDS)
        return {
            READY: f"{server.start:.1f} s",
            MEMORY: f"{server.memory():.0f} MB",
            P50: f"{one.percentile(50):.0f} ms",
            P95: f"{one.percentile(95):.0f} ms",
            MANY: f"{many.rate:.1f}",
            MANY_P95: f"{many.percentile(95):.0f} ms",
        }


def own_figures(
    bundle: Path, features: Path, weights: Path, images: Sequence[bytes], requests: int
) -> dict[str, str]:
    """Measure this project with one bundle."""
    words = ["-m", "service", "--bundle", bundle, "--port", "{port}"]
    with serving(words):
        pass
    spec = read_features(features).spec
    serving_engine, engine = (
        rebuild_extractor(spec, weights, serving=fits) for fits in (True, False)
    )
    with serving(words) as server:
        load(server, images, 1, requests=5)
        one, alone = beside(server, serving_engine, images, requests)
        verdict, look = looks(server, images)
        rates = [engine_rate(engine, images)]
        many = load(server, images, 16, seconds=SECONDS)
        rates.append(engine_rate(engine, images))
        most, memory = float(np.mean(rates)), server.memory()
        flood = load(server, images, 200, seconds=SECONDS)
    refused = [1e3 * each for each in flood.refused] or [float("nan")]
    share = len(flood.refused) / max(1, len(flood.refused) + len(flood.accepted))
    head = load_bundle(bundle).head_title
    return {
        "head": head,
        READY: f"{server.start:.1f} s",
        MEMORY: f"{memory:.0f} MB",
        "passes of one image, engine alone": f"{alone:.0f} ms",
        P50: f"{one.percentile(50):.0f} ms, {one.percentile(50) / alone:.2f} of that",
        P95: f"{one.percentile(95):.0f} ms",
        MANY: f"{many.rate:.1f}, {many.rate / most:.0%} of the engine's own {most:.1f}",
        MANY_P95: f"{many.percentile(95):.0f} ms",
        "page: to the verdict, and to its map after that": (
            f"{np.median(verdict) * 1e3:.0f} ms, {np.median(look) * 1e3:.0f} ms"
        ),
        "200 clients at once": (
            f"{share:.0%} get 503, half of those within {np.median(refused):.0f} ms; the others "
            f"wait {flood.percentile(50):.0f} ms (p50), {flood.percentile(95):.0f} ms (p95), "
            f"{flood.rate:.1f} images/s"
        ),
    }


def soak_figures(work: Path, weights: Path, photographs: Path, requests: int) -> list[str]:
    """Measure memory over pages with maps and similar images, from a network at a small size.

    What could leak is the same as at the usual size, and there are ten times as many pages.
    """
    chosen, features, bundle = work / "some", work / "small.h5", work / "bundle-small"
    images = []
    for folder in sorted((photographs / "train").iterdir()):
        (chosen / folder.name).mkdir(parents=True)
        for path in sorted(folder.glob("*.jpg"))[:150]:
            images.append(path.read_bytes())
            (chosen / folder.name / path.name).write_bytes(images[-1])
    command("extract_features.py", chosen, "--weights", weights, "--out", features,
            "--sizes", SMALL)  # fmt: skip
    command("fit_classifier.py", features, "--out", bundle, "--weights", weights)
    with serving(["-m", "service", "--bundle", bundle, "--port", "{port}"]) as server:
        asked, memory = soak(server, images, requests)
    return [
        f"Memory over {asked:,} pages with maps and similar images, a tenth of them between two "
        f"figures, two at a time, input of {SMALL} pixels: "
        f"{', '.join(f'{each:.0f}' for each in memory)} MB.",
        "",
    ]


def command(*words: object) -> None:
    done = subprocess.run(
        [sys.executable, *map(str, words)], cwd=ROOT, capture_output=True, text=True, check=False
    )
    if done.returncode:
        sys.exit(f"{words[0]} failed: {done.stderr[-2000:]}")


if __name__ == "__main__":
    main()
