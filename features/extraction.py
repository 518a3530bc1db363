"""The streaming loop: hash, decode, infer, write; resumed where it was left."""

from __future__ import annotations

import hashlib
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Final, TypeVar

import numpy as np

from features.cache.contents import Embeddings, Failure, Features, Items
from features.cache.writer import FeatureWriter, Size, require_writable
from features.datasets.folders import Dataset, Item
from features.datasets.plan import summarise
from features.embedding.extractor import Extractor
from features.errors import UnreadableImage
from features.images.decoding import READER_VERSION, Decoded, Frame, Pixels, decode
from features.images.quality import is_nearly_black
from features.images.sources.files import file_digest, read_file
from features.networks.engines import Engine
from features.presenting import shown

__all__ = ["Outcome", "extract"]

# What a crash can cost at most is the block being written and the one being computed.
_BLOCK: Final = 64
# Endings of files that may hold 16 bits a sample.
_DEEP_SUFFIXES: Final = frozenset({".png", ".tif", ".tiff", ".jp2", ".j2k"})
_NEARLY_BLACK: Final = "nearly black, so that hardly anything can be seen"

T = TypeVar("T")
R = TypeVar("R")


@dataclass(frozen=True)
class Outcome:
    """What a run did.

    Parameters
    ----------
    images : int
        Image files found.
    embedded : int
        Distinct images that went through the network in this run.
    known : int
        Image files whose embedding was there before, or is shared with another file.
    kept : int
        Embeddings of files that are no longer there.
    failures : tuple of Failure
    notes : tuple of str
        What a person should know of images that went through in this run.
    """

    images: int
    embedded: int
    known: int
    kept: int
    failures: tuple[Failure, ...]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class _File:
    item: Item
    sha256: str


def extract(
    dataset: Dataset,
    extractor: Extractor,
    out: str | Path,
    *,
    dtype: str | None = None,
    prune: bool = False,
    progress: Callable[[int, int], object] = lambda done, total: None,
) -> Outcome:
    """Embed every image of a data set that the feature file does not hold yet.

    Parameters
    ----------
    dataset : Dataset
    extractor : Extractor
    out : str or Path
        The feature file; added to if it exists.
    dtype : {"float32", "float16"}, optional
        How embeddings are stored; by default as the file has them, ``"float32"`` in a new one.
    prune : bool, optional
        Drop embeddings of files that are no longer there.
    progress : callable, optional
        Told how many images of how many went through, first with zero.

    Returns
    -------
    Outcome

    Raises
    ------
    CacheMismatch
        If the file was made by another extractor.
    CacheError
        If the file can't be read or written.
    WeightsError
        If the weights don't fit the network.
    """
    path = Path(out)
    require_writable(path)
    with (
        FeatureWriter(path, extractor.spec, dtype) as writer,
        ThreadPoolExecutor(os.cpu_count()) as pool,
    ):
        files, failures = _hash_all(dataset, pool)
        faults = {failure.sha256: failure for failure in writer.known_failures()}
        distinct = {file.sha256: file for file in reversed(files)}
        todo = [
            file
            for file in files
            if distinct[file.sha256] is file
            and file.sha256 not in writer
            and file.sha256 not in faults
        ]
        again = _read_wrongly_before(distinct.values(), dataset.root, writer, pool)
        todo += again
        before = len(writer) - len(again)
        remarks: dict[str, list[str]] = {}
        for failure in _embed_all(todo, dataset.root, extractor, writer, pool, progress, remarks):
            if failure.sha256:
                faults[failure.sha256] = failure
            else:
                failures.append(failure)
        failures += [
            replace(faults[file.sha256], path=file.item.path)
            for file in files
            if file.sha256 in faults
        ]
        kept = [] if prune else sorted(writer.hashes() - distinct.keys())
        embedded = len(writer) - before
        result = _describe(dataset, extractor, files, failures, kept, writer)
        writer.join(result)
    return Outcome(
        images=len(dataset.items),
        embedded=embedded,
        known=len(dataset.items) - len(failures) - embedded,
        kept=len(kept),
        failures=result.failures,
        notes=tuple(
            f"{len(paths)} of the images: {remark} (such as {shown(paths[0])})"
            for remark, paths in remarks.items()
        ),
    )


def _read_wrongly_before(
    files: Iterable[_File], root: Path, writer: FeatureWriter, pool: ThreadPoolExecutor
) -> list[_File]:
    """Find images that an earlier version of the program embedded but did not read right."""
    old = [
        file
        for file in files
        if writer.read_by_an_earlier_version(file.sha256)
        and Path(file.item.path).suffix.lower() in _DEEP_SUFFIXES
    ]
    read = _ahead(pool, lambda file: _decode(root, file, [Frame(8)]), old, 16)
    return [file for file, found in read if isinstance(found, Decoded) and found.notes]


def _hash_all(dataset: Dataset, pool: ThreadPoolExecutor) -> tuple[list[_File], list[Failure]]:
    files, failures = [], []
    for item, found in zip(
        dataset.items,
        pool.map(lambda item: _hash(dataset.root / item.path), dataset.items),
        strict=True,
    ):
        if isinstance(found, UnreadableImage):
            failures.append(Failure("", item.path, found.code, str(found)))
        else:
            files.append(_File(item, found))
    return files, failures


def _hash(path: Path) -> str | UnreadableImage:
    try:
        return file_digest(path)
    except UnreadableImage as error:
        return error


def _embed_all(
    todo: Sequence[_File],
    root: Path,
    extractor: Extractor,
    writer: FeatureWriter,
    pool: ThreadPoolExecutor,
    progress: Callable[[int, int], object],
    remarks: dict[str, list[str]],
) -> Iterator[Failure]:
    """Embed and write all, block by block; give what failed."""
    if not todo:
        return
    engine = extractor.prepare()
    progress(0, len(todo))
    frames = extractor.spec.frames
    read = _ahead(pool, lambda file: _decode(root, file, frames), todo, 2 * engine.batch)
    with _Writing(writer) as writing:
        batch: list[tuple[_File, Decoded]] = []
        for done, (file, found) in enumerate(read, start=1):
            if isinstance(found, Failure):
                yield found
            else:
                batch.append((file, found))
                black = (_NEARLY_BLACK,) if is_nearly_black(found.pixels) else ()
                for remark in (*found.notes, *black):
                    remarks.setdefault(remark, []).append(file.item.path)
            if len(batch) == engine.batch or (batch and done == len(todo)):
                by_frame = zip(*(image.frames for _, image in batch), strict=True)
                pixels = [np.stack(frame) for frame in by_frame]
                hashes = [each.sha256 for each, _ in batch]
                originals = [Size(image.width, image.height) for _, image in batch]
                writing.add(hashes, originals, _embed(extractor, pixels, engine))
                batch.clear()
            if not batch:
                progress(done, len(todo))


def _embed(extractor: Extractor, pixels: Sequence[Pixels], engine: Engine) -> Embeddings:
    missing = engine.batch - len(pixels[0]) if engine.fixed_batch else 0
    # Every pass has the same number of rows, so that an embedding never depends on its neighbours.
    padded = [np.pad(frame, ((0, missing), (0, 0), (0, 0), (0, 0))) for frame in pixels]
    return extractor.embed(*padded)[: len(pixels[0])]


class _Writing:
    """Gathers embeddings into blocks and writes each while the next is made."""

    def __init__(self, writer: FeatureWriter) -> None:
        self._writer = writer
        self._thread = ThreadPoolExecutor(1)
        self._written: Future[None] | None = None
        self._hashes: list[str] = []
        self._sizes: list[Size] = []
        self._embeddings: list[Embeddings] = []

    def __enter__(self) -> _Writing:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        # What went through the network before a failure or Ctrl-C is not lost with it.
        try:
            self._write()
            self._wait()
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
        if not self._hashes:
            return
        self._wait()
        block = self._hashes, self._sizes, np.concatenate(self._embeddings)
        self._hashes, self._sizes, self._embeddings = [], [], []
        self._written = self._thread.submit(self._writer.append, *block)

    def _wait(self) -> None:
        if self._written is not None:
            written, self._written = self._written, None
            written.result()


def _decode(root: Path, file: _File, frames: Sequence[Frame]) -> Decoded | Failure:
    path = file.item.path
    try:
        data = read_file(root / path)
    except UnreadableImage as error:
        return Failure("", path, error.code, str(error))
    if hashlib.sha256(data).hexdigest() != file.sha256:
        return Failure("", path, "unreadable", "the file changed during the run: run again")
    try:
        return decode(data, *frames)
    except UnreadableImage as error:
        return Failure(file.sha256, path, error.code, str(error))


def _ahead(
    pool: ThreadPoolExecutor, work: Callable[[T], R], todo: Iterable[T], limit: int
) -> Iterator[tuple[T, R]]:
    """Work on `todo` in threads, at most `limit` ahead of what is taken; order is kept."""
    queue: deque[tuple[T, Future[R]]] = deque()
    try:
        for entry in todo:
            queue.append((entry, pool.submit(work, entry)))
            if len(queue) >= limit:
                first, future = queue.popleft()
                yield first, future.result()
        while queue:
            first, future = queue.popleft()
            yield first, future.result()
    finally:
        for _, future in queue:
            future.cancel()


def _describe(
    dataset: Dataset,
    extractor: Extractor,
    files: Sequence[_File],
    failures: Sequence[Failure],
    kept: Sequence[str],
    writer: FeatureWriter,
) -> Features:
    rows: dict[str, int] = {}
    embedded = [file for file in files if file.sha256 in writer]
    entries = [(file.sha256, file.item) for file in embedded]
    entries += [(sha256, Item(path="")) for sha256 in kept]
    items = Items.from_rows(
        (
            rows.setdefault(sha256, len(rows)),
            sha256,
            item.path,
            item.label,
            item.split,
            item.group,
            writer.size(sha256).width,
            writer.size(sha256).height,
        )
        for sha256, item in entries
    )
    return Features(
        spec=extractor.spec,
        embeddings=np.empty((0, extractor.spec.width), np.float32),
        items=items,
        failures=tuple(sorted(failures, key=lambda failure: failure.path)),
        synthetic=dataset.synthetic,
        images=str(dataset.root.resolve()),
        weights_path=str(extractor.weights_path or ""),
        plan=summarise(dataset),
        # Of an image that is gone it can't be told whether it was read right.
        reader=1 if any(map(writer.read_by_an_earlier_version, kept)) else READER_VERSION,
    )
