"""How many images a second each stage of extraction takes on this machine, in about a minute."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import io
import itertools
import os
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from PIL import Image

from features.datasets.drawn import LABELS, sample_lesion
from features.datasets.drawn_lesion import draw_lesion
from features.embedding.doctor.machine import cores
from features.embedding.extractor import Extractor
from features.images.decoding import Frame, decode
from features.images.processes import Readers
from features.images.resampling.compiled import NotCompiled, load_kernels
from features.images.sources.files import read_file

__all__ = ["Rates", "measure"]

_SECONDS: Final = 8.0
_SIDE: Final = 600
_DRAWN: Final = 8
_FILES: Final = 256
# Before the clock is started, while processes begin and load compiled code.
_WARM: Final = 3.0


@dataclass(frozen=True)
class Rates:
    """Images per second of each stage, each measured alone.

    Parameters
    ----------
    read, decode_one, decode, network, write : float
        Files read and hashed; decoded on one core; read and decoded by processes on all cores, as
        in extraction; embedded; embeddings written.
    on_cpu : bool
        Whether network and decoders share the cores.
    start : float
        Seconds until the network is ready.
    """

    read: float
    decode_one: float
    decode: float
    network: float
    write: float
    on_cpu: bool
    start: float

    @property
    def whole(self) -> float:
        """Images per second of all stages together, if they take turns well."""
        if self.on_cpu:
            return 1 / (1 / self.network + 1 / self.decode)
        return min(self.network, self.decode, self.read, self.write)

    @property
    def limit(self) -> str:
        """What takes the most time."""
        stages = {
            "the network": self.network,
            "decoding": self.decode,
            "reading files": self.read,
            "writing embeddings": self.write,
        }
        return min(stages, key=lambda name: stages[name])

    def hours(self, images: int) -> float:
        """How long so many images take, from start to end."""
        return (self.start + images / self.whole) / 3600


def measure(extractor: Extractor, folder: Path, seconds: float = _SECONDS) -> Rates:
    """Draw a few hundred files of 600 x 600 pixels, and take them through each stage.

    Parameters
    ----------
    extractor : Extractor
    folder : Path
        On the disk that embeddings are to be written to; nothing is left in it.
    seconds : float, optional
        For each stage, at least.

    Raises
    ------
    WeightsError
        If the weights don't fit the network.
    OSError
        If nothing can be written to the folder.
    """
    began = time.perf_counter()
    engine = extractor.prepare()
    frames = extractor.spec.frames
    start = time.perf_counter() - began
    with tempfile.TemporaryDirectory(dir=folder, prefix=".doctor-") as work:
        files = _draw(Path(work))
        data = [path.read_bytes() for path in files]
        usable = cores()[0]
        with ThreadPoolExecutor(usable) as pool:
            read = _rate(seconds / 2, len(files), lambda: list(pool.map(_hash, files)))
            with contextlib.suppress(NotCompiled):
                load_kernels()
            one = _rate(seconds / 2, 16, lambda: [decode(each, *frames) for each in data[:16]])
            several = _decode_rate(files, frames, usable, seconds)
            batch = [decode(data[row % len(data)], *frames).frames for row in range(engine.batch)]
            pixels = [np.stack(frame) for frame in zip(*batch, strict=True)]
            # Two at a time, as many as a device may have in flight.
            network = _rate(
                2 * seconds,
                2 * engine.batch,
                lambda: list(pool.map(lambda _: extractor.embed(*pixels), range(2))),
            )
        rows = np.zeros((64, extractor.spec.width), np.float32)
        write = _rate(seconds / 4, len(rows), lambda: _write(Path(work) / "block", rows))
    return Rates(read, one, several, network, write, "the CPU" in engine.name, start)


def _draw(folder: Path) -> list[Path]:
    """Write JPEG files that each have bytes of their own, from a few pictures."""
    rng = np.random.default_rng(0)
    files = []
    drawn = [draw_lesion(sample_lesion(rng, LABELS[n % 2]), _SIDE) for n in range(_DRAWN)]
    for number in range(_FILES):
        data = io.BytesIO()
        comment = f"copy {number}".encode()
        Image.fromarray(drawn[number % _DRAWN]).save(data, "JPEG", quality=90, comment=comment)
        path = folder / f"{number}.jpg"
        path.write_bytes(data.getvalue())
        files.append(path)
    return files


def _decode_rate(
    files: Sequence[Path], frames: Sequence[Frame], cores: int, seconds: float
) -> float:
    """Have files decoded as extraction does; images per second once all processes are at work."""
    wanted = ((number, str(path), False) for number, path in enumerate(itertools.cycle(files)))
    # As if there were so many that compiled code is worth loading, which takes as long.
    with Readers(frames, 10**6, processes=cores) as readers:
        readers.start(wanted)
        warm, begun, count = time.perf_counter() + _WARM, 0.0, 0
        for read, _ in readers.results():
            if read.reason:
                raise OSError(errno.EIO, read.reason)
            now = time.perf_counter()
            if not begun:
                begun = now if now > warm else 0.0
                continue
            count += 1
            if (taken := now - begun) > seconds:
                return count / taken
    raise ValueError("got no files")


def _hash(path: Path) -> str:
    return hashlib.sha256(read_file(path)).hexdigest()


def _write(path: Path, rows: np.ndarray) -> None:
    with path.open("wb") as file:
        file.write(rows.tobytes())
        file.flush()
        os.fsync(file.fileno())


def _rate(seconds: float, count: int, work: Callable[[], Sequence[object] | None]) -> float:
    """Repeat a work on so many images for so long, after once to warm up; images per second."""
    work()
    done, start = 0, time.perf_counter()
    while (taken := time.perf_counter() - start) < seconds:
        work()
        done += count
    return done / taken
