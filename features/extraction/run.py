"""A run: which files are new, what becomes of each, and what the feature file says in the end."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import numpy as np

from features.cache.contents import Failure, Features, Items
from features.cache.writer import FeatureWriter, Size, explained, require_writable
from features.datasets.folders import Dataset, Item
from features.datasets.plan import summarise
from features.embedding.extractor import Extractor
from features.extraction.loop import Embedding
from features.extraction.remembered import Remembered
from features.images.decoding import READER_VERSION, Pixels
from features.images.processes import Readers
from features.images.reading import AHEAD_IN_THE_CLOUD, Read
from features.presenting import shown
from features.storage.addresses import full_name, is_remote

__all__ = ["Outcome", "extract"]

# Endings of files that may hold 16 bits a sample.
_DEEP_SUFFIXES: Final = frozenset({".png", ".tif", ".tiff", ".jp2", ".j2k"})
# Copies of 256 pixels, as they are spread, are looked at with 299.
_ENLARGED: Final = 1.25
_NEARLY_BLACK: Final = "nearly black, so that hardly anything can be seen"


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
    with FeatureWriter(path, extractor.spec, dtype) as writer:
        run = _Run(dataset, extractor, writer, progress)
        run.embed()
        kept = [] if prune else sorted(writer.hashes() - set(run.hashes))
        result = _describe(dataset, extractor, run.hashes, run.failed(), kept, writer)
        writer.join(result)
    return Outcome(
        images=len(dataset.items),
        embedded=len(run.embedded),
        known=len(dataset.items) - len(result.failures) - len(run.embedded),
        kept=len(kept),
        failures=tuple(result.failures),
        notes=tuple(
            f"{count} of the images: {remark} (such as {shown(example)})"
            for remark, (count, example) in sorted(run.remarks.items())
        ),
    )


class _Run:
    """What becomes of each file; `hashes` has one for each item, empty where it can't be read."""

    def __init__(
        self,
        dataset: Dataset,
        extractor: Extractor,
        writer: FeatureWriter,
        progress: Callable[[int, int], object],
    ) -> None:
        self.embedded: set[str] = set()
        self.remarks: dict[str, tuple[int, str]] = {}
        self.hashes: list[str] = []
        self._dataset, self._extractor, self._writer = dataset, extractor, writer
        self._tell = progress
        self._faults = {failure.sha256: failure for failure in writer.known_failures()}
        self._unread: dict[int, Failure] = {}
        self._through, self._all = 0, 0

    def failed(self) -> list[Failure]:
        """Name every file that could not be read."""
        paths = [item.path for item in self._dataset.items]
        return [*self._unread.values()] + [
            replace(self._faults[sha256], path=path)
            for sha256, path in zip(self.hashes, paths, strict=True)
            if sha256 in self._faults
        ]

    def embed(self) -> None:
        """Read what is not known to be as it was, and embed what is new in it."""
        names = [item.path for item in self._dataset.items]
        with Remembered(self._dataset.root) as remembered:
            self.hashes = list(remembered.hashes(names))
            todo = [
                number
                for number, (sha256, name) in enumerate(zip(self.hashes, names, strict=True))
                if not self._is_known(sha256) or (_is_deep(name) and self._is_old(sha256))
            ]
            if todo:
                self._all = len(todo)
                self._read(todo, remembered)

    def _read(self, todo: list[int], remembered: Remembered) -> None:
        known = self._writer.hashes() | self._faults.keys()
        old = any(map(self._is_old, known))
        root = str(self._dataset.root)
        items = self._dataset.items
        self._done(0)
        with explained(Path(tempfile.gettempdir())):
            ahead = {"together": AHEAD_IN_THE_CLOUD} if is_remote(root) else {}
            opened = Readers(self._extractor.spec.frames, len(todo), known=known, **ahead)
        with (
            opened as readers,
            Embedding(self._extractor, self._writer, self._done) as embedding,
        ):
            missed: list[int] = []
            for forced in (False, True):
                wanted = [(number, items[number].path) for number in (missed if forced else todo)]
                readers.start(
                    (number, os.path.join(root, path), not forced and not (old and _is_deep(path)))
                    for number, path in wanted
                )
                if not known:
                    # Processes start while the network is loaded.
                    embedding.prepare()
                for read, frames in readers.results():
                    if self._take(read, frames, embedding):
                        missed.append(read.number)
                    if read.sha256 and read.state is not None:
                        remembered.keep(items[read.number].path, read.state, read.sha256)

    def _take(self, read: Read, frames: tuple[Pixels, ...], embedding: Embedding) -> bool:
        """Do what is to be done with a file; tell whether it must be decoded after all."""
        path = self._dataset.items[read.number].path
        self.hashes[read.number] = read.sha256
        if read.reason:
            failure = Failure(read.sha256, path, read.code, read.reason)
            if read.sha256:
                self._faults[read.sha256] = failure
            else:
                self._unread[read.number] = failure
        elif self._is_new(read, path):
            self.embedded.add(read.sha256)
            for remark in self._remarks_on(read):
                count, example = self.remarks.get(remark, (0, path))
                self.remarks[remark] = (count + 1, min(example, path))
            embedding.add(read.sha256, Size(read.width, read.height), frames)
            return False
        elif not self._is_known(read.sha256):
            return True
        self._done(1)
        return False

    def _remarks_on(self, read: Read) -> Iterator[str]:
        yield from read.notes
        if read.black:
            yield _NEARLY_BLACK
        # Frames of the lesion are cut out as large as they are.
        largest = max(
            (frame.size for frame in self._extractor.spec.frames if frame.region == "whole"),
            default=0,
        )
        if largest > _ENLARGED * min(read.width, read.height):
            yield f"enlarged to {largest} pixels by more than a quarter, which shows nothing more"

    def _is_new(self, read: Read, path: str) -> bool:
        if not read.decoded or read.sha256 in self.embedded:
            return False
        if read.sha256 not in self._writer:
            return True
        # An earlier version of the program embedded it, but did not read it right.
        return self._is_old(read.sha256) and _is_deep(path) and bool(read.notes)

    def _is_known(self, sha256: str) -> bool:
        return sha256 in self._writer or sha256 in self._faults or sha256 in self.embedded

    def _is_old(self, sha256: str) -> bool:
        return self._writer.read_by_an_earlier_version(sha256)

    def _done(self, count: int) -> None:
        self._through += count
        self._tell(self._through, self._all)


def _is_deep(path: str) -> bool:
    return os.path.splitext(path)[1].lower() in _DEEP_SUFFIXES


def _describe(
    dataset: Dataset,
    extractor: Extractor,
    hashes: Sequence[str],
    failures: Sequence[Failure],
    kept: Sequence[str],
    writer: FeatureWriter,
) -> Features:
    rows: dict[str, int] = {}
    entries = [
        (sha256, item)
        for sha256, item in zip(hashes, dataset.items, strict=True)
        if sha256 in writer
    ]
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
        images=full_name(dataset.root.resolve() if not is_remote(dataset.root) else dataset.root),
        weights_path=str(extractor.weights_path or ""),
        trained_on=extractor.trained_on,
        plan=summarise(dataset),
        # Of an image that is gone it can't be told whether it was read right.
        reader=1 if any(map(writer.read_by_an_earlier_version, kept)) else READER_VERSION,
    )
