"""Decoding by threads and by processes, and the loop against a network of constant speed."""

from __future__ import annotations

import heapq
import itertools
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from PIL import Image

from features.datasets.folders import find_images
from features.embedding.extractor import Extractor
from features.embedding.specification import ExtractorSpec
from features.extraction import extract
from features.images.decoding import Frame, decode
from features.images.processes import Readers, usable_cores
from features.images.resampling.compiled import load_kernels

SECONDS = 4.0


@dataclass(frozen=True)
class Rates:
    """Images per second: one core without any pool, and processes by how many."""

    alone: float
    processes: dict[int, float]
    asking: float
    """Seconds that the process which asks spends on an image, whoever decodes it."""


def decode_rates(paths: Sequence[Path], frames: Sequence[Frame], counts: Sequence[int]) -> Rates:
    """Measure decoding from files that were read before."""
    for path in paths:
        path.read_bytes()
    processes, asking = {}, 0.0
    for count in counts:
        processes[count], asking = _by_processes(paths, frames, count)
    return Rates(
        _alone(paths, frames),
        processes,
        asking,
    )


def _alone(paths: Sequence[Path], frames: Sequence[Frame]) -> float:
    start = time.perf_counter()
    for count, path in enumerate(itertools.cycle(paths), start=1):
        decode(path, *frames)
        if (spent := time.perf_counter() - start) > SECONDS:
            return count / spent
    raise ValueError("got no images")


def _by_threads(paths: Sequence[Path], frames: Sequence[Frame], threads: int) -> float:
    end = time.perf_counter() + SECONDS

    def work(number: int) -> int:
        count = 0
        for path in itertools.cycle(paths[number::threads]):
            decode(path, *frames)
            count += 1
            if time.perf_counter() > end:
                break
        return count

    with ThreadPoolExecutor(threads) as pool:
        return sum(pool.map(work, range(threads))) / SECONDS


def _by_processes(
    paths: Sequence[Path], frames: Sequence[Frame], processes: int
) -> tuple[float, float]:
    def forever() -> Iterator[tuple[int, str, bool]]:
        for number, path in enumerate(itertools.cycle(paths)):
            yield number, str(path), False

    with Readers(frames, 10**6, processes=processes) as readers:
        readers.start(forever())
        # Compiled code is loaded meanwhile.
        warm, count, start, spent = 1_500 * processes, 0, 0.0, 0.0
        for seen, _ in enumerate(readers.results()):
            if seen == warm:
                start, spent = time.perf_counter(), time.process_time()
            elif seen > warm:
                count += 1
                if time.perf_counter() - start > SECONDS:
                    break
        wall = time.perf_counter() - start
        return count / wall, (time.process_time() - spent) / count


def simulated(
    seconds: Sequence[float], asking: float, processes: int, *, together: int = 4, ahead: int = 64
) -> float:
    """Give images per second of a queue with so many workers and one process that asks.

    Parameters
    ----------
    seconds : sequence of float
        That decoding took for each of some images; dealt out at random.
    asking : float
        Seconds that the asking process spends on an image.
    processes : int
    together, ahead : int
        As in `features.images.processes`.
    """
    rng = np.random.default_rng(0)
    flying = ahead // together + 2 * processes
    idle = [0.0] * processes
    done: list[float] = []
    now, tasks = 0.0, 4_000
    for task in range(tasks):
        if task >= flying:
            # A row is free again when what came of an earlier task was taken.
            now = max(now, heapq.heappop(done)) + together * asking
        began = max(heapq.heappop(idle), now)
        ended = began + float(rng.choice(seconds, together).sum())
        heapq.heappush(idle, ended)
        heapq.heappush(done, ended)
    return tasks * together / max(idle)


def decode_seconds(paths: Sequence[Path], frames: Sequence[Frame]) -> list[float]:
    """Time one image after the other."""
    found = []
    for path in paths:
        start = time.perf_counter()
        decode(path, *frames)
        found.append(time.perf_counter() - start)
    return found


class Constant:
    """A network that takes the same time for every image, and computes nothing."""

    name = "a stand-in"
    lanes = 1

    def __init__(self, rate: float, batch: int, dim: int) -> None:
        self.batch = batch
        self._rate, self._dim = rate, dim
        self._lock = threading.Lock()

    def run(self, pixels: np.ndarray) -> np.ndarray:
        """Wait as long as the images would take."""
        with self._lock:
            time.sleep(len(pixels) / self._rate)
        return np.zeros((len(pixels), self._dim), np.float32)

    def run_with_maps(self, pixels: np.ndarray) -> tuple[np.ndarray, list[np.ndarray]]:
        raise NotImplementedError


def loop_rate(images: Path, extractor: Extractor) -> float:
    """Measure the streaming loop from the first batch that went through to the last."""
    times: list[tuple[int, float]] = []
    with tempfile.TemporaryDirectory() as folder:
        extract(
            find_images(images),
            extractor,
            Path(folder) / "features.h5",
            progress=lambda done, total: times.append((done, time.perf_counter())),
        )
    begun = next(entry for entry in times if entry[0])
    return (times[-1][0] - begun[0]) / (times[-1][1] - begun[1])


def constant_extractor(rate: float, spec: ExtractorSpec, batch: int = 64) -> Extractor:
    """Make an extractor of one view with a network of constant speed."""
    return Extractor(spec, lambda size: Constant(rate, batch, spec.dim))


def decode_table(
    paths: Sequence[Path], recipes: dict[str, Sequence[Frame]], large: Sequence[Path]
) -> list[str]:
    """Measure decoding for each recipe, of small files and of large ones, and say it as a table."""
    cores = usable_cores()
    counts = sorted({1, cores})
    by_pillow = {name: _alone(paths, frames) for name, frames in recipes.items()}
    threads = {
        name: {count: _by_threads(paths, frames, count) for count in counts}
        for name, frames in recipes.items()
    }
    drafted = {
        f"`{name}`, `lesion:identity~draft`": [
            replace(frame, draft=frame.region == "lesion") for frame in frames
        ]
        for name, frames in recipes.items()
        if len(frames) > 1
    }
    several = {**recipes, **drafted}
    large_by_pillow = {name: _alone(large, frames) for name, frames in several.items()}
    load_kernels()
    lines = [
        "| decoding 256-pixel JPEGs, images/s | alone, Pillow | alone, compiled | "
        + " | ".join(f"{n} threads, Pillow" for n in counts)
        + " | "
        + " | ".join(f"{n} processes" for n in counts)
        + " | 4 / 8 / 16 processes, simulated from these | of 16 x one |",
        "| --- |" + " --- |" * (2 * len(counts) + 4),
    ]
    for name, frames in recipes.items():
        rates = decode_rates(paths, frames, counts)
        one = 1 / rates.processes[1]
        spread = np.array(decode_seconds(paths, frames))
        seconds = list(spread / spread.mean() * one)
        many = {n: simulated(seconds, rates.asking, n) for n in (4, 8, 16)}
        lines.append(
            f"| `{name}` | {by_pillow[name]:.0f} | {rates.alone:.0f} | "
            + " | ".join(f"{threads[name][n]:.0f}" for n in counts)
            + " | "
            + " | ".join(f"{rates.processes[n]:.0f}" for n in counts)
            + f" | {' / '.join(f'{many[n]:.0f}' for n in many)} "
            f"| {many[16] / 16 * one:.0%} |"
        )
    lines += [
        "",
        f"| decoding JPEGs of about 3 megapixels ({len(large)} files), images/s and core "
        "| Pillow | compiled |",
        "| --- | --- | --- |",
        *(
            f"| {name if '`' in name else f'`{name}`'} | {large_by_pillow[name]:.0f} "
            f"| {_alone(large, frames):.0f} |"
            for name, frames in several.items()
        ),
    ]
    return lines


def of_three_megapixels(folder: Path, count: int = 8) -> list[Path]:
    """Find JPEG files of 2.5 to 4 megapixels."""
    found = []
    for path in sorted(folder.rglob("*.jpg")):
        with Image.open(path) as image:
            if 2.5e6 < image.width * image.height < 4e6:
                found.append(path)
    return found[:count]
