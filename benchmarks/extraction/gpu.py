"""The GPU part in five minutes, on a bare machine without network.

Where there is a network, pack what is needed for the machine's Python and CUDA::

    python benchmarks/extraction/gpu.py --pack wheels "jax[cuda12]" torch

Copy the project and the folder `wheels` to the machine with the GPU, and there::

    python3 benchmarks/extraction/gpu.py --wheels wheels

That installs into a virtual environment beside the wheels, measures every backend that sees the
GPU in fp32, TF32 and bf16 with random weights (which take the same time), compares the numbers with
fp32 on the CPU, and then times the whole command on images made there: a handful of drawn ones,
each written many times with a comment of its own. `--on-cpu` goes the same way without a GPU, to
try this script; its figures are none of a GPU.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PRECISIONS = ("fp32", "tf32", "bf16")


def pack(folder: Path, more: list[str]) -> None:
    """Fetch the project's wheels and those of the backends into a folder."""
    words = [sys.executable, "-m", "pip", "download", "--only-binary", ":all:", "-d", str(folder)]
    # Versions that fit each other are found at once, as the machine will find them.
    subprocess.run([*words, *_requirements(), *more, "pip", "setuptools", "wheel"], check=True)


def install(wheels: Path) -> Path:
    """Make a virtual environment from the wheels alone; give its Python."""
    place = wheels / "environment"
    python = place / "bin" / "python"
    if not python.exists():
        subprocess.run([sys.executable, "-m", "venv", str(place)], check=True)
    backends = [name for name in ("jax", "torch") if list(wheels.glob(f"{name}-*.whl"))]
    plugins = {file.name.split("-")[0].replace("_", "-") for file in wheels.glob("jax_cuda*.whl")}
    words = ["-m", "pip", "install", "--quiet", "--no-index", "--find-links", str(wheels)]
    subprocess.run([str(python), *words, *_requirements(), *backends, *plugins], check=True)
    return python


def _requirements() -> list[str]:
    import configparser

    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    wanted = setup["options"]["install_requires"].split("\n")
    return [each.replace(" ", "") for each in wanted if each.strip()]


def draw_copies(folder: Path, count: int) -> None:
    """Write so many JPEG files of 256 pixels, each with a comment of its own, from a handful."""
    import io

    import numpy as np
    from PIL import Image

    from features.datasets.drawn import LABELS, sample_lesion
    from features.datasets.drawn_lesion import draw_lesion

    rng = np.random.default_rng(0)
    for number in range(8):
        label = LABELS[number % len(LABELS)]
        data = io.BytesIO()
        Image.fromarray(draw_lesion(sample_lesion(rng, label), 256)).save(data, "JPEG", quality=90)
        start, rest = data.getvalue()[:2], data.getvalue()[2:]
        place = folder / "train" / label
        place.mkdir(parents=True, exist_ok=True)
        for copy in range(number, count, 8):
            text = f"copy {copy}".encode()
            comment = b"\xff\xfe" + (len(text) + 2).to_bytes(2, "big") + text
            (place / f"{copy}.jpg").write_bytes(start + comment + rest)


def whole_command(images: Path, out: Path, backend: str, recipe: str, precision: str) -> float:
    """Time extraction from start to end, in seconds."""
    engine = ["--engine", "keras", "--precision", precision, "--recipe", recipe]
    words = ["extract_features.py", str(images), "--out", str(out), "--weights", "untrained"]
    start = time.perf_counter()
    subprocess.run(
        [sys.executable, *words, *engine],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT), "KERAS_BACKEND": backend},
        check=True,
        capture_output=True,
    )
    return time.perf_counter() - start


def measure(given: argparse.Namespace) -> str:
    """Measure everything that the time allows; give it as Markdown."""
    sys.path.insert(0, str(ROOT))
    from benchmarks.extraction.precision import runs, table

    began = time.monotonic()
    given.gpu, given.weights = not given.on_cpu, given.weights or "untrained"
    found, lines = [], []
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        os.environ["LESION_CACHE"] = str(work / "cache")
        for run in runs(given, work, PRECISIONS):
            found.append(run)
            print(table(found).splitlines()[-1], file=sys.stderr, flush=True)
            if time.monotonic() - began > given.budget * 0.6:
                lines.append("Not all engines were measured: the time was up.")
                break
        # The whole command runs on one of Keras' backends: OpenVINO's rows are there to compare.
        ran = [run for run in found if run.backend and not run.refused]
        on_gpu = [run for run in ran if run.precision != "fp32"] or ran
        if given.gpu:
            on_gpu = [run for run in on_gpu if "the CPU" not in run.name]
        if not on_gpu:
            return f"{table(found)}\n\nNo backend sees a GPU: the loop was not measured."
        best = max(on_gpu, key=lambda run: run.rate)
        images, one = work / "images", work / "one"
        draw_copies(one, 1)
        lines += ["| whole command | figure |", "| --- | --- |"]
        first = whole_command(one, work / "1.h5", best.backend, "fast", best.precision)
        again = whole_command(one, work / "2.h5", best.backend, "fast", best.precision)
        lines.append(f"| one image, first / second time | {first:.1f} / {again:.1f} s |")
        draw_copies(images, given.images)
        for recipe in ("fast", "accurate"):
            if time.monotonic() - began > given.budget:
                lines.append(f"| {recipe} | not measured, the time was up |")
                continue
            out = work / f"{recipe}.h5"
            taken = whole_command(images, out, best.backend, recipe, best.precision)
            lines.append(
                f"| {recipe}, {given.images} images, {best.backend}, {best.precision} | "
                f"{taken:.1f} s, {given.images / taken:,.0f} images/s |"
            )
    return "\n".join([table(found), "", *lines])


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--pack", type=Path, metavar="FOLDER", help="fetch wheels into it")
    parser.add_argument("more", nargs="*", metavar="PACKAGE", help="backends, with --pack")
    parser.add_argument("--wheels", type=Path, metavar="FOLDER", help="install from these first")
    parser.add_argument("--images", type=int, default=9600, help="of the whole command")
    parser.add_argument("--budget", type=float, default=300, help="seconds, about")
    parser.add_argument("--seconds", type=float, default=8.0, help="for each engine")
    parser.add_argument("--size", type=int, default=299, help="side of the input in pixels")
    parser.add_argument("--weights", help="a Keras weights file; random ones by default")
    parser.add_argument("--on-cpu", action="store_true", help="try this script without a GPU")
    given = parser.parse_args()
    if given.pack:
        pack(given.pack, given.more)
        return
    if given.wheels:
        python = install(given.wheels.resolve())
        words = sys.argv[1:]
        at = words.index("--wheels") if "--wheels" in words else None
        rest = words[:at] + words[at + 2 :] if at is not None else words
        os.execv(python, [str(python), __file__, *rest])  # noqa: S606
    if not given.on_cpu and not any(map(os.path.exists, ("/dev/nvidiactl", "/dev/kfd"))):
        sys.exit("no GPU is seen here: nothing was measured (--on-cpu tries the script)")
    print(measure(given))


if __name__ == "__main__":
    main()
