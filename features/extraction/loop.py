"""Batches on their way: gathered, embedded two at a time, written while the next are made."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from types import TracebackType
from typing import Final

import numpy as np

from features.cache.contents import Embeddings
from features.cache.writer import FeatureWriter, Size
from features.embedding.extractor import Extractor
from features.images.decoding import Pixels
from features.networks.engines import Engine

__all__ = ["Embedding"]

_BLOCK: Final = 64
# While the last images of a batch are in the network, the first of the next are, too.
_IN_FLIGHT: Final = 2
# A disk that is slow for a moment stops nobody; with one that always is, no more is lost by a kill.
_UNWRITTEN: Final = 3


@dataclass
class _Batch:
    frames: tuple[Pixels, ...]
    hashes: list[str] = field(default_factory=list)
    sizes: list[Size] = field(default_factory=list)


class Embedding:
    """Takes images one by one and sees to their embeddings; use it as a context manager.

    On leaving, what was embedded is written, after a failure or Ctrl-C as well.

    Parameters
    ----------
    extractor : Extractor
    writer : FeatureWriter
    done : callable
        Told how many images more went through.
    """

    def __init__(
        self, extractor: Extractor, writer: FeatureWriter, done: Callable[[int], object]
    ) -> None:
        self._extractor = extractor
        self._done = done
        self._writing = _Writing(writer)
        self._network = ThreadPoolExecutor(_IN_FLIGHT, thread_name_prefix="network")
        self._engine: Engine | None = None
        self._batch: _Batch | None = None
        self._flying: deque[tuple[_Batch, Future[Embeddings]]] = deque()

    def __enter__(self) -> Embedding:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            if error is None:
                self._send()
            # What went through the network before a failure or Ctrl-C is not lost with it.
            while self._flying:
                self._land()
        finally:
            self._network.shutdown()
            self._writing.close()

    def prepare(self) -> Engine:
        """Make the network ready, unless it is."""
        if self._engine is None:
            self._engine = self._extractor.prepare()
        return self._engine

    def add(self, sha256: str, size: Size, frames: Sequence[Pixels]) -> None:
        """Take an image; its pixels are copied."""
        engine = self.prepare()
        if self._batch is None:
            self._batch = _Batch(
                tuple(np.empty((engine.batch, *frame.shape), np.uint8) for frame in frames)
            )
        batch = self._batch
        for place, frame in zip(batch.frames, frames, strict=True):
            place[len(batch.hashes)] = frame
        batch.hashes.append(sha256)
        batch.sizes.append(size)
        while self._flying and self._flying[0][1].done():
            self._land()
        if len(batch.hashes) == engine.batch:
            self._send()

    def _send(self) -> None:
        if self._batch is None:
            return
        if len(self._flying) == _IN_FLIGHT:
            self._land()
        batch, self._batch = self._batch, None
        self._flying.append((batch, self._network.submit(self._embed, batch)))

    def _embed(self, batch: _Batch) -> Embeddings:
        count = len(batch.hashes)
        return self._extractor.embed(*(frame[:count] for frame in batch.frames))

    def _land(self) -> None:
        batch, future = self._flying[0]
        embeddings = future.result()
        self._flying.popleft()
        self._writing.add(batch.hashes, batch.sizes, embeddings)
        self._done(len(batch.hashes))


class _Writing:
    """Gathers embeddings into blocks and writes each while the next is made."""

    def __init__(self, writer: FeatureWriter) -> None:
        self._writer = writer
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="writer")
        self._unwritten: deque[Future[None]] = deque()
        self._hashes: list[str] = []
        self._sizes: list[Size] = []
        self._embeddings: list[Embeddings] = []

    def close(self) -> None:
        """Write all that is left."""
        try:
            self._write()
            while self._unwritten:
                self._unwritten.popleft().result()
        finally:
            self._thread.shutdown()

    def add(self, hashes: Sequence[str], sizes: Sequence[Size], embeddings: Embeddings) -> None:
        """Take embeddings; write a block if there are enough for one."""
        self._hashes += hashes
        self._sizes += sizes
        self._embeddings.append(embeddings)
        if len(self._hashes) >= _BLOCK:
            self._write()

    def _write(self) -> None:
        while self._unwritten and (len(self._unwritten) >= _UNWRITTEN or self._unwritten[0].done()):
            self._unwritten.popleft().result()
        if not self._hashes:
            return
        block = self._hashes, self._sizes, np.concatenate(self._embeddings)
        self._hashes, self._sizes, self._embeddings = [], [], []
        self._unwritten.append(self._thread.submit(self._writer.append, *block))
