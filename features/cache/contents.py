"""The HDF5 feature file: what is in it, read and written whole; many embeddings are read in blocks.

`docs/cache-format.md` describes the format for readers in other languages.
"""

from __future__ import annotations

import contextlib
import itertools
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt

from features.cache.checks.checksums import CHUNK_ROWS, in_chunks, row_checksum, write_checksums
from features.cache.checks.seal import seal_file
from features.cache.items import (
    COLUMNS,
    NUMBER_COLUMNS,
    TEXT_COLUMNS,
    Items,
    StoredItems,
    read_column,
    read_texts,
)
from features.cache.rows import Rows, StoredTable, Table
from features.cache.safe_files import (
    CACHE_FORMAT,
    CACHE_VERSION,
    GuardedFile,
    new_hdf5,
    open_features,
    publish,
)
from features.cache.shards.folder import OpenShards, ShardFolder, ShardTable, open_shards
from features.cache.shards.places import is_shard_folder
from features.embedding.specification import ExtractorSpec, software_versions
from features.images.decoding import READER_VERSION
from features.presenting import as_bytes

__all__ = [
    "Failure",
    "Features",
    "Items",
    "read_features",
    "write_features",
]

Embeddings = npt.NDArray[np.float32]
_TEXT = h5py.string_dtype("utf-8")
# Beyond this embeddings aren't turned into float32 all at once, beyond that not even read.
_SMALL_BYTES = 2**30
_HELD_BYTES = 3 * 2**30


@dataclass(frozen=True)
class Failure:
    """An image that could not be read, and why."""

    sha256: str
    path: str
    code: str
    reason: str


@dataclass(frozen=True)
class Features:
    """The content of a feature file.

    Parameters
    ----------
    spec : ExtractorSpec
        What made the embeddings.
    embeddings : ndarray of float32 or Rows, shape (r, d)
        One row per distinct image; row ``items.row[i]`` belongs to item ``i``. `Rows` where there
        are too many to hold them as float32.
    items : Items
    failures : sequence of Failure
    synthetic : bool
        Whether the images are drawn rather than photographed.
    images : str
        The folder that the paths are relative to, as it was at extraction.
    weights_path : str
        Where the weights file lay at extraction; empty if there is none.
    trained_on : str
        Which images the network was trained on; empty if that is not known.
    created : str
        ISO 8601 time in UTC.
    software : dict
        Versions of what made the file.
    plan : dict
        How folders and tables were read, by `features.datasets.plan.summarise`; else empty.
    reader : int
        `features.images.decoding.READER_VERSION` of the program that read the images.
    """

    spec: ExtractorSpec
    embeddings: Embeddings | Rows
    items: Items
    failures: Sequence[Failure] = ()
    synthetic: bool = False
    images: str = ""
    weights_path: str = ""
    trained_on: str = ""
    created: str = ""
    software: dict[str, str] = field(default_factory=dict)
    plan: dict[str, Any] = field(default_factory=dict)
    reader: int = READER_VERSION

    @property
    def fingerprint(self) -> str:
        """Fingerprint of the extractor that made the embeddings."""
        return self.spec.fingerprint

    @property
    def marks(self) -> tuple[str, ...]:
        """What every output made from these features must say of itself."""
        marks = {"untrained": self.spec.untrained, "synthetic": self.synthetic}
        return tuple(mark for mark, holds in marks.items() if holds)

    def embedded(self, items: Items) -> Embeddings:
        """Give what heads are given of `items`, shape (len(items), spec.head_dim)."""
        return self.rows(items).whole()

    def rows(self, items: Items) -> Rows:
        """Give the same in blocks, when they are asked for."""
        found = self.embeddings if isinstance(self.embeddings, Rows) else Rows(self.embeddings)
        return found.take(items.row, combine=self.spec.combine, d=self.spec.head_dim)


def read_features(
    path: str | Path, *, small: int = _SMALL_BYTES, held: int = _HELD_BYTES
) -> Features:
    """Read a feature file, or a folder of shards as one.

    Of a folder, items and failures are read when they are looked at.

    Parameters
    ----------
    path : str or Path
    small : int
        Embeddings that take no more bytes than this as float32 are given as an array.
    held : int
        Others that take no more than this as they are stored are held so in memory; still more are
        left in the file, which must then stay where it is. Either way they are given as `Rows`.

    Returns
    -------
    Features

    Raises
    ------
    CacheError
        If the file is missing, damaged or of another format.
    """
    place = Path(path)
    with described(place) as (features, stored):
        if 4 * stored.size <= small:
            return replace(features, embeddings=stored[:].astype(np.float32, copy=False))
        if stored.nbytes <= held:
            return replace(features, embeddings=Rows(stored[:]))
        table: Table = (
            stored.table
            if isinstance(stored, OpenShards)
            else StoredTable(place.absolute(), "embeddings", stored.shape, stored.dtype)
        )
        return replace(features, embeddings=Rows(table))


@contextlib.contextmanager
def described(
    path: Path, *, partly: bool = False
) -> Iterator[tuple[Features, h5py.Dataset | OpenShards]]:
    """Open a feature file or a folder of shards.

    Parameters
    ----------
    path : Path
    partly : bool, optional
        Allow that some shards of a folder are missing.

    Yields
    ------
    tuple of Features and h5py.Dataset or OpenShards
        All but the embeddings, which come as zero rows; and where they are read from.

    Raises
    ------
    CacheError
        If the file is missing, damaged or of another format.
    """
    if is_shard_folder(path):
        shards = open_shards(path, partly=partly)
        with ShardTable(shards).opened() as opened:
            yield _of_shards(shards), opened
    else:
        with open_features(path) as file:
            yield read_without_embeddings(file), file["embeddings"]


def _of_shards(shards: ShardFolder) -> Features:
    marks = shards.marks
    spec = marks[0].spec
    folders = {mark.images for mark in marks}
    latest = max(marks, key=lambda mark: mark.created)
    return Features(
        spec=spec,
        embeddings=np.empty((0, spec.width), np.float32),
        items=StoredItems(shards),
        failures=_ShardFailures(shards),
        synthetic=any(mark.synthetic for mark in marks),
        images=marks[0].images if len(folders) == 1 else "",
        weights_path=next((mark.weights_path for mark in marks if mark.weights_path), ""),
        trained_on=", ".join(dict.fromkeys(mark.trained_on for mark in marks if mark.trained_on)),
        created=latest.created,
        software=latest.software,
        reader=min(mark.reader for mark in marks),
    )


class _ShardFailures(Sequence[Failure]):
    """What could not be read, in the order of the shards; read when it is looked at."""

    def __init__(self, shards: ShardFolder) -> None:
        self._shards = shards

    def __len__(self) -> int:
        return sum(mark.failures for mark in self._shards.marks)

    def __iter__(self) -> Iterator[Failure]:
        for part in range(len(self._shards.marks)):
            yield from itertools.starmap(Failure, self._shards.failures(part))

    def __getitem__(self, key: Any) -> Any:
        return tuple(self)[key]


def read_without_embeddings(file: h5py.File) -> Features:
    """Read all but the embeddings of an open feature file (they come as zero rows)."""
    spec = ExtractorSpec.from_dict(json.loads(file.attrs["extractor"]))
    if file.attrs["fingerprint"] != spec.fingerprint:
        raise ValueError("its fingerprint is not that of the extractor it describes")
    failures = [read_texts(file["failures"][name]) for name in ("sha256", "path", "code", "reason")]
    return Features(
        spec=spec,
        embeddings=np.empty((0, spec.width), np.float32),
        items=Items(**{name: read_column(file["items"], name) for name in COLUMNS}),
        failures=tuple(Failure(*row) for row in zip(*failures, strict=True)),
        synthetic=bool(file.attrs["synthetic"]),
        images=str(file.attrs["images"]),
        weights_path=str(file.attrs["weights_path"]),
        trained_on=str(file.attrs.get("trained_on", "")),
        created=str(file.attrs["created"]),
        software=json.loads(file.attrs["software"]),
        plan=json.loads(file.attrs.get("plan", "{}")),
        reader=int(file.attrs.get("reader", 1)),
    )


def write_features(
    path: str | Path,
    features: Features,
    *,
    blocks: Iterable[Embeddings] | None = None,
    rows: int | None = None,
    dtype: npt.DTypeLike = np.float32,
) -> None:
    """Write a feature file in one step: a reader sees the old file or the new one, whole.

    Parameters
    ----------
    path : str or Path
        Replaced if it exists.
    features : Features
        What to write.
    blocks : iterable of ndarray, shape (any, d), optional
        The embeddings in pieces, instead of ``features.embeddings``, so that they need not fit
        into memory.
    rows : int, optional
        How many rows `blocks` give in all.
    dtype : {float16, float32}
        How the embeddings are stored.

    Raises
    ------
    OSError
        If the file can't be written; an existing one is left as it was.
    """
    target = Path(path)
    if blocks is None:
        whole = features.embeddings
        blocks = whole.blocks() if isinstance(whole, Rows) else [whole]
        rows = len(whole)
    aside = target.with_name(f".{target.name}.partial")
    try:
        with new_hdf5(aside) as (file, guarded):
            _write_attributes(file, features)
            _write_items(file, features)
            sound = _while_sound(blocks, guarded)
            _write_embeddings(file, sound, rows or 0, features.spec.width, np.dtype(dtype))
        seal_file(aside, CACHE_VERSION)
        publish(aside, target)
    finally:
        aside.unlink(missing_ok=True)


def _write_attributes(file: h5py.File, features: Features) -> None:
    created = features.created or datetime.now(timezone.utc).isoformat(timespec="seconds")
    file.attrs.update(
        {
            "format": CACHE_FORMAT,
            "version": CACHE_VERSION,
            "fingerprint": features.fingerprint,
            "extractor": json.dumps(features.spec.as_dict()),
            "created": created,
            "software": json.dumps(features.software or software_versions()),
            "synthetic": features.synthetic,
            "plan": json.dumps(features.plan),
            "reader": features.reader,
        }
    )
    for name in ("images", "weights_path", "trained_on"):
        file.attrs.create(name, as_bytes(getattr(features, name)), dtype=_TEXT)


def _write_items(file: h5py.File, features: Features) -> None:
    items = file.create_group("items")
    for name in TEXT_COLUMNS:
        _write_texts(items, name, getattr(features.items, name).tolist())
    for name, dtype in NUMBER_COLUMNS.items():
        items.create_dataset(name, data=getattr(features.items, name), dtype=dtype)
    failures = file.create_group("failures")
    for name in ("sha256", "path", "code", "reason"):
        _write_texts(failures, name, [getattr(failure, name) for failure in features.failures])


def _write_texts(group: h5py.Group, name: str, texts: Sequence[str]) -> None:
    # A file name may hold bytes that are no UTF-8; they are stored as they are.
    column = np.array([as_bytes(text) for text in texts], dtype=object)
    group.create_dataset(name, data=column, dtype=_TEXT)


def _while_sound(blocks: Iterable[Embeddings], guarded: GuardedFile) -> Iterator[Embeddings]:
    for block in blocks:
        yield block
        guarded.require_sound()


def _write_embeddings(
    file: h5py.File, blocks: Iterable[Embeddings], rows: int, dim: int, dtype: np.dtype[Any]
) -> None:
    stored = file.create_dataset(
        "embeddings", (rows, dim), dtype, chunks=(CHUNK_ROWS, dim), maxshape=(None, dim)
    )
    start = 0
    checksums = []
    for chunk in in_chunks(blocks):
        values = chunk.astype(dtype, copy=False)
        checksums.append(row_checksum(values))
        stored[start : start + len(values)] = values
        start += len(values)
    if start != rows:
        raise ValueError(f"got {start} rows of embeddings, expected {rows}")
    write_checksums(file, checksums)
