from __future__ import annotations

import threading
import time
from pathlib import Path

import numpy as np
import pytest

from features.cache.contents import read_features
from features.cache.writer import FeatureWriter, Size
from features.datasets.folders import find_images
from features.embedding.extractor import Extractor
from features.embedding.specification import ExtractorSpec
from features.extraction import extract
from features.extraction.loop import Embedding
from tests.pictures import image_bytes

SPEC = ExtractorSpec("inception_v3", "untrained", "0" * 64, 8, 4, ("mixed1",))


class Mean:
    """A network that gives each channel's mean, and takes a while to do so."""

    name = "a stand-in"
    lanes = 1

    def __init__(self, batch: int, seconds: float = 0.0) -> None:
        self.batch = batch
        self.shapes: list[int] = []
        self.most, self.busy = 0, 0.0
        self._at_once = 0
        self._seconds = seconds
        self._count, self._one = threading.Lock(), threading.Lock()

    def run(self, pixels: np.ndarray) -> np.ndarray:
        with self._count:
            self._at_once += 1
            self.most = max(self.most, self._at_once)
            self.shapes.append(len(pixels))
        with self._one:
            time.sleep(self._seconds)
            self.busy += self._seconds
        with self._count:
            self._at_once -= 1
        means = pixels.reshape(len(pixels), -1, 3).mean(axis=1)
        return np.concatenate([means, np.ones((len(pixels), 1))], axis=1).astype(np.float32)

    def run_with_maps(self, pixels: np.ndarray) -> tuple[np.ndarray, list[np.ndarray]]:
        raise NotImplementedError


def run(writer: FeatureWriter, network: Mean, count: int) -> list[int]:
    told: list[int] = []
    with Embedding(Extractor(SPEC, lambda size: network), writer, told.append) as embedding:
        for number in range(count):
            frame = np.full((8, 8, 3), number % 256, np.uint8)
            embedding.add(f"{number:064x}", Size(9, 8), [frame])
            # The memory is used again, as that of the readers is.
            frame[:] = 0
    return told


def embeddings(writer: FeatureWriter) -> dict[int, float]:
    import h5py

    found = {}
    for block in writer._block_files():
        with h5py.File(block) as file:
            for sha256, row in zip(file["sha256"][:], file["embeddings"][:], strict=True):
                found[int(sha256, 16)] = row[0]
    return found


def test_each_image_gets_its_embedding_in_batches(tmp_path: Path) -> None:
    network = Mean(16)
    with FeatureWriter(tmp_path / "features.h5", SPEC) as writer:
        told = run(writer, network, 150)
        assert embeddings(writer) == {number: number for number in range(150)}
    assert sorted(network.shapes) == sorted([16] * 9 + [6])
    assert sum(told) == 150


def test_the_next_batch_is_there_before_the_last_is_done(tmp_path: Path) -> None:
    network = Mean(16, 0.02)
    with FeatureWriter(tmp_path / "features.h5", SPEC) as writer:
        run(writer, network, 160)
    assert network.most == 2


def test_a_slow_disk_is_not_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    network = Mean(64, 0.2)
    append = FeatureWriter.append

    def slow(*given: object) -> None:
        time.sleep(0.3)
        append(*given)

    monkeypatch.setattr(FeatureWriter, "append", slow)
    with FeatureWriter(tmp_path / "features.h5", SPEC) as writer:
        start = time.monotonic()
        embedding = Embedding(Extractor(SPEC, lambda size: network), writer, lambda count: None)
        with embedding:
            for number in range(6 * 64):
                embedding.add(f"{number:064x}", Size(9, 8), [np.zeros((8, 8, 3), np.uint8)])
            through = time.monotonic() - start
        assert len(embeddings(writer)) == 6 * 64
    # Four or five batches of 0.2 s are through by now; with their blocks it would have been 2 s.
    assert through < 1.6


def test_what_was_embedded_before_a_failure_is_written(tmp_path: Path) -> None:
    extractor = Extractor(SPEC, lambda size: Mean(16, 0.01))

    def interrupted(writer: FeatureWriter) -> None:
        with Embedding(extractor, writer, lambda count: None) as embedding:
            for number in range(40):
                embedding.add(f"{number:064x}", Size(9, 8), [np.zeros((8, 8, 3), np.uint8)])
            raise KeyboardInterrupt

    with FeatureWriter(tmp_path / "features.h5", SPEC) as writer:
        with pytest.raises(KeyboardInterrupt):
            interrupted(writer)
        assert set(embeddings(writer)) == set(range(32))


def test_the_network_is_never_hungry(tmp_path: Path) -> None:
    """A network of constant time, slower than the readers, is at work nearly all the time."""
    images = tmp_path / "images"
    images.mkdir()
    for seed in range(320):
        (images / f"{seed}.jpg").write_bytes(image_bytes(seed, (64, 64)))
    network = Mean(32, 0.8)
    times: list[float] = []
    extractor = Extractor(SPEC, lambda size: network)
    out = tmp_path / "features.h5"
    extract(find_images(images), extractor, out, progress=lambda *_: times.append(time.monotonic()))
    assert len(read_features(out).embeddings) == 320
    # From when the first batch is through to the last: nine more batches.
    assert 9 * 0.8 / (times[-1] - times[1]) > 0.9
