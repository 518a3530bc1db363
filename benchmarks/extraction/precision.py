"""What each engine, backend and precision does on this machine: images a second, and how exactly.

Each is measured in a process of its own, with pixels in memory and two batches in flight, and
compared with fp32 on the CPU. Weights and images are the real ones of LESION_TEST_DATA, or else
random and drawn. Keras is measured on each of its backends that is installed beside this program.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from features.datasets.drawn import LABELS, sample_lesion
from features.datasets.drawn_lesion import draw_lesion
from features.embedding.extractor import load_extractor
from features.errors import LesionError
from features.images.decoding import load_pixels
from features.networks.devices.backends import accelerator

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "benchmarks.md"
BACKENDS = ("jax", "torch", "tensorflow")
COMPARED = 32
LONGEST_START = 150.0


@dataclass(frozen=True)
class Run:
    """One engine in one precision, or why there is none.

    Attributes
    ----------
    name : str
        What ran where.
    precision, backend : str
    start, again : float
        Seconds until the first embedding, for the first time and the second.
    rate : float
        Images per second.
    off : float
        The largest relative distance to fp32 on the CPU.
    cosine : float
        The least.
    refused : str
        The sentence, if it was refused.
    """

    name: str
    precision: str
    backend: str
    start: float = 0.0
    again: float = 0.0
    rate: float = 0.0
    off: float = 0.0
    cosine: float = 0.0
    refused: str = ""


def photographs() -> list[Path]:
    """Real lesions that nothing was fitted to, where there are any."""
    given = os.environ.get("LESION_TEST_DATA")
    return sorted((Path(given) / "data/isic2017_256/valid").rglob("*.jpg")) if given else []


def pictures(count: int, size: int) -> np.ndarray:
    if found := photographs():
        chosen = found[:: max(1, len(found) // count)][:count]
        return np.stack([load_pixels(path, size) for path in chosen])
    rng = np.random.default_rng(0)
    drawn = [draw_lesion(sample_lesion(rng, LABELS[n % len(LABELS)]), size) for n in range(8)]
    return np.stack([np.roll(drawn[n % 8], n // 8, axis=1) for n in range(count)])


def child(options: argparse.Namespace) -> None:
    """Measure one engine in this process, and print what came out as JSON."""
    compared_with = pictures(COMPARED, options.size)
    began = time.perf_counter()
    if options.need_gpu and accelerator() is None:
        print(json.dumps({"refused": "sees no GPU"}))
        return
    try:
        extractor = load_extractor(
            "inception_v3",
            options.weights,
            recipe="fast",
            input_size=options.size,
            engine=options.engine,
            precision=options.precision,
        )
        engine = extractor.prepare()
    except LesionError as error:
        print(json.dumps({"refused": str(error)}))
        return
    compared = engine.run(compared_with)
    start = time.perf_counter() - began
    np.save(options.out, compared)
    batch = np.resize(compared_with, (engine.batch, *compared_with.shape[1:]))
    begun = time.perf_counter()

    def go_on(_thread: int) -> int:
        done = 0
        while time.perf_counter() - begun < options.seconds:
            done += len(engine.run(batch))
        return done

    with ThreadPoolExecutor(2) as pool:
        done = sum(pool.map(go_on, range(2)))
    rate = done / (time.perf_counter() - begun)
    print(json.dumps({"name": engine.name, "start": start, "rate": rate}))


def measured(
    engine: str, backend: str, precision: str, options: argparse.Namespace, work: Path
) -> Run:
    """Measure one engine in a process of its own, twice for the time to start."""
    out = work / f"{engine}-{backend}-{precision}.npy"
    words = ["--child", "--engine", engine, "--precision", precision, "--out", str(out)]
    words += ["--size", str(options.size), "--weights", str(options.weights)]
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", "PYTHONPATH": str(ROOT)}
    environment |= {"LESION_CACHE": str(work / "cache")}
    if backend:
        environment["KERAS_BACKEND"] = backend
        words += ["--need-gpu"] if options.gpu else []
    told = []
    for seconds in (0.0, options.seconds):
        command = [sys.executable, "-m", "benchmarks.extraction.precision", *words]
        try:
            done = subprocess.run(
                [*command, "--seconds", str(seconds)],
                cwd=ROOT,
                env=environment,
                capture_output=True,
                text=True,
                check=False,
                timeout=LONGEST_START + seconds,
            )
        except subprocess.TimeoutExpired:
            reason = f"failed: not ready after {LONGEST_START:.0f} s"
            return Run(f"{engine} {backend}", precision, backend, refused=reason)
        if done.returncode:
            last = (done.stderr.strip() or "no output").splitlines()[-1]
            return Run(f"{engine} {backend}", precision, backend, refused=f"failed: {last[:200]}")
        told.append(json.loads(done.stdout.splitlines()[-1]))
        if "refused" in told[0]:
            return Run(f"{engine} {backend}", precision, backend, refused=told[0]["refused"])
    found, exact = np.load(out), np.load(work / "openvino--fp32.npy")
    lengths = np.linalg.norm(exact, axis=1)
    along = (found * exact).sum(axis=1) / lengths / np.linalg.norm(found, axis=1)
    return Run(
        told[0]["name"],
        precision,
        backend,
        told[0]["start"],
        told[1]["start"],
        told[1]["rate"],
        float((np.linalg.norm(found - exact, axis=1) / lengths).max()),
        float(along.min()),
    )


def runs(options: argparse.Namespace, work: Path, precisions: tuple[str, ...]) -> Iterator[Run]:
    """Measure all that is installed; fp32 on the CPU first, which others are compared with."""
    yield measured("openvino", "", "fp32", options, work)
    if not options.gpu:
        for precision in ("bf16", "int8"):
            yield measured("openvino", "", precision, options, work)
    for backend in BACKENDS:
        if importlib.util.find_spec(backend) is None:
            yield Run(f"keras {backend}", "-", backend, refused="not installed")
            continue
        for precision in precisions:
            yield measured("keras", backend, precision, options, work)


def table(found: list[Run]) -> str:
    """Write what was measured as Markdown."""
    reference = found[0].rate
    lines = [
        "| engine | precision | images/s | ratio | start, first / second time | "
        "largest distance to fp32 on the CPU | least cosine |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for run in found:
        if run.refused:
            lines.append(f"| {run.name} | {run.precision} | {run.refused} | | | | |")
            continue
        lines.append(
            f"| {run.name} | {run.precision} | {run.rate:,.1f} | {run.rate / reference:.2f} | "
            f"{run.start:.1f} / {run.again:.1f} s | {run.off:.0e} | {run.cosine:.5f} |"
        )
    return "\n".join(lines)


def options(description: str | None) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--seconds", type=float, default=5.0, help="for each engine")
    parser.add_argument("--size", type=int, default=299, help="side of the input in pixels")
    parser.add_argument("--weights", default=None, help="a Keras weights file, or untrained")
    return parser


def some_weights() -> str:
    given = os.environ.get("LESION_TEST_DATA")
    real = sorted((Path(given) / "weights").glob("inception_v3*.h5")) if given else []
    # Those that users get, where there are several.
    real.sort(key=lambda path: "keras" not in path.name)
    return str(real[0].resolve()) if real else "untrained"


def main() -> None:
    parser = options(__doc__)
    parser.add_argument("--write", action="store_true", help="write docs/benchmarks.md, too")
    parser.add_argument("--json", type=Path, help="write what was measured, too")
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--need-gpu", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--engine", help=argparse.SUPPRESS)
    parser.add_argument("--precision", help=argparse.SUPPRESS)
    parser.add_argument("--out", help=argparse.SUPPRESS)
    given = parser.parse_args()
    given.weights, given.gpu = given.weights or some_weights(), False
    if given.child:
        child(given)
        return
    from benchmarks.machine import describe

    found = []
    with tempfile.TemporaryDirectory() as work:
        for run in runs(given, Path(work), ("fp32", "bf16")):
            found.append(run)
            print(table(found).splitlines()[-1], file=sys.stderr)
    kind = "random weights" if given.weights == "untrained" else "trained weights"
    seen = "real" if photographs() else "drawn"
    text = (
        f"Machine: {describe()}. InceptionV3 at {given.size}², {kind}; compared on {COMPARED} "
        f"{seen} images.\n\n{table(found)}"
    )
    print(text)
    if given.json:
        given.json.write_text(json.dumps([asdict(run) for run in found], indent=2))
    if failed := [run.name for run in found if run.refused.startswith("failed:")]:
        raise SystemExit(f"nothing is written: {', '.join(failed)} failed, as the table says")
    if given.write:
        page = PAGE.read_text(encoding="utf-8")
        marks = r"(<!-- precision -->\n).*?(<!-- /precision -->)"
        written = re.sub(marks, lambda m: m[1] + text + "\n" + m[2], page, flags=re.DOTALL)
        PAGE.write_text(written, encoding="utf-8")


if __name__ == "__main__":
    main()
