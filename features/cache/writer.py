"""A feature file in the making: finished blocks beside it, joined at the end.

A block is a whole small file, written aside, flushed to disk and renamed, so that a crash at any
moment loses at most the blocks in flight. A lock keeps a second writer out.
"""

from __future__ import annotations

import contextlib
import errno
import io
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Final

import filelock
import h5py
import numpy as np
import numpy.typing as npt

from features.cache.checks.checksums import CHUNK_ROWS
from features.cache.checks.seal import SEAL_SIZE, is_intact, seal_bytes
from features.cache.contents import (
    Embeddings,
    Failure,
    Features,
    Items,
    read_without_embeddings,
    write_features,
)
from features.cache.rows import rows_of
from features.cache.safe_files import (
    CACHE_VERSION,
    flush_folder,
    open_features,
    publish,
    require_feature_file,
)
from features.cache.shards.places import is_shard_folder
from features.embedding.specification import ExtractorSpec
from features.errors import CacheError
from features.images.decoding import READER_VERSION
from features.storage.addresses import address_of, is_remote

__all__ = ["FeatureWriter", "Size", "explained", "gathered", "require_place", "require_writable"]

_OPEN_FILES: Final = 50
_OTHER_ENDINGS: Final = frozenset(
    f".{ending}"
    for ending in (
        *("csv", "tsv", "txt", "json", "jsonl", "npz", "npy", "parquet", "feather", "xlsx", "xls"),
        *("ods", "db", "sqlite", "pkl", "pickle", "joblib", "mat", "html", "md", "pdf"),
        *("zip", "tar", "gz", "tgz", "jpg", "jpeg", "png"),
    )
)


@dataclass(frozen=True, slots=True)
class Size:
    """Of an original image, in pixels."""

    width: int
    height: int


class FeatureWriter:
    """Collects embeddings beside a feature file and joins them into it.

    Use it as a context manager; while it is open, no other writer gets the file.

    Parameters
    ----------
    path : Path
        The feature file, which may exist.
    spec : ExtractorSpec
        What makes the embeddings.
    dtype : {"float32", "float16"}, optional
        How they are stored; by default as in the file, ``"float32"`` in a new one.

    Raises
    ------
    CacheMismatch
        If the file was made by another extractor.
    CacheError
        If another process is writing, the folder can't be written, or the file is damaged.
    """

    def __init__(self, path: Path, spec: ExtractorSpec, dtype: str | None = None) -> None:
        self.path = path
        self.spec = spec
        self.dtype = dtype or "float32"
        self._wanted_dtype = dtype
        self._previous: Features | None = None
        self._blocks = path.with_name(f"{path.name}.blocks")
        self._lock = filelock.FileLock(path.with_name(f".{path.name}.lock"), timeout=0)
        self._where: dict[str, tuple[Path, int]] = {}
        self._sizes: dict[str, Size] = {}
        self._old: set[str] = set()

    def __enter__(self) -> FeatureWriter:
        try:
            self._lock.acquire()
        except filelock.Timeout:
            raise CacheError(
                f"another process is writing {self.path}: wait for it, or write to another file"
            ) from None
        except OSError as error:
            raise CacheError(
                f"{self.path.parent} can't be written to ({error.strerror}): "
                "choose another place with --out"
            ) from error
        with contextlib.ExitStack() as undo:
            undo.callback(self._lock.release)
            self._read_previous()
            self._read_blocks()
            undo.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._lock.release()

    def __contains__(self, sha256: object) -> bool:
        return sha256 in self._where

    def __len__(self) -> int:
        return len(self._where)

    def hashes(self) -> set[str]:
        """Name the images whose embeddings are there."""
        return set(self._where)

    def known_failures(self) -> tuple[Failure, ...]:
        """Name the images that were found unreadable before and still are, by what they contain."""
        if self._previous is None or self._previous.reader < READER_VERSION:
            return ()
        # What isn't supported may be after something was installed.
        return tuple(
            failure
            for failure in self._previous.failures
            if failure.sha256 and failure.code != "unsupported"
        )

    def read_by_an_earlier_version(self, sha256: str) -> bool:
        """Tell whether an image is embedded as an earlier version of the program read it."""
        return sha256 in self._old

    def size(self, sha256: str) -> Size:
        """Tell the size of an embedded image."""
        return self._sizes[sha256]

    def append(
        self, hashes: Sequence[str], sizes: Sequence[Size], embeddings: npt.NDArray[np.float32]
    ) -> None:
        """Keep a block of embeddings; it is safe on disk when this returns.

        Raises
        ------
        CacheError
            If the disk is full or the folder can't be written.
        """
        name = f"{len(self._block_files()):06d}-{hashes[0][:16]}.h5"
        with explained(self.path):
            if not self._blocks.exists():
                self._blocks.mkdir()
                flush_folder(self._blocks.parent)
            aside = self._blocks / f"{name}.partial"
            aside.write_bytes(self._block(hashes, sizes, embeddings))
            publish(aside, self._blocks / name)
        self._add(self._blocks / name, hashes, sizes)
        self._old.difference_update(hashes)

    def _block(
        self, hashes: Sequence[str], sizes: Sequence[Size], embeddings: npt.NDArray[np.float32]
    ) -> bytes:
        # Made in memory, so that a full disk is met by a plain write and not within HDF5.
        content = io.BytesIO()
        with h5py.File(content, "w", userblock_size=SEAL_SIZE) as file:
            file.attrs["fingerprint"] = self.spec.fingerprint
            file.attrs["reader"] = READER_VERSION
            file["embeddings"] = embeddings
            file["sha256"] = [sha256.encode() for sha256 in hashes]
            file["size"] = np.array([(size.width, size.height) for size in sizes], np.int32)
        return seal_bytes(content.getvalue(), CACHE_VERSION)

    def join(self, features: Features) -> None:
        """Write the feature file, unless it is so already, and remove the blocks.

        Parameters
        ----------
        features : Features
            Everything but the embeddings.

        Raises
        ------
        CacheError
            If the disk is full or the folder can't be written.
        """
        if self._previous and not self._blocks.exists() and _same(self._previous, features):
            return
        rows = dict(zip(features.items.row.tolist(), features.items.sha256.tolist(), strict=True))
        hashes = [rows[row] for row in range(len(rows))]
        with explained(self.path):
            write_features(
                self.path,
                features,
                blocks=gathered([self._where[sha256] for sha256 in hashes], self.spec.width),
                rows=len(hashes),
                dtype=self.dtype,
            )
            if self._blocks.exists():
                shutil.rmtree(self._blocks)

    def _read_previous(self) -> None:
        if not self.path.exists():
            return
        with open_features(self.path) as file:
            self._previous = read_without_embeddings(file)
            self.dtype = file["embeddings"].dtype.name
        self._previous.spec.require(self.spec, mine=str(self.path), others="this run")
        if self._wanted_dtype not in {None, self.dtype}:
            raise CacheError(
                f"{self.path} holds {self.dtype}, this run asks for {self._wanted_dtype}: "
                "leave --dtype out, or write to another file"
            )
        items = self._previous.items
        if self._previous.reader < READER_VERSION:
            self._old.update(items.sha256.tolist())
        for sha256, row, width, height in zip(
            items.sha256.tolist(), items.row.tolist(), items.width, items.height, strict=True
        ):
            self._where[sha256] = (self.path, row)
            self._sizes[sha256] = Size(int(width), int(height))

    def _read_blocks(self) -> None:
        for path in self._block_files():
            try:
                if not is_intact(path):
                    raise OSError("it was altered after it was written")
                with h5py.File(path, "r") as file:
                    if file.attrs["fingerprint"] != self.spec.fingerprint:
                        raise CacheError(
                            f"{self._blocks} holds the start of a run with another network, "
                            "other weights or options: finish that run, or delete the folder"
                        )
                    hashes = [sha256.decode() for sha256 in file["sha256"][:]]
                    sizes = [Size(int(w), int(h)) for w, h in file["size"][:]]
                    old = file.attrs.get("reader", 1) < READER_VERSION
            except (OSError, KeyError) as error:
                raise CacheError(
                    f"{path} is damaged ({error}): delete it, its images are embedded again"
                ) from error
            self._add(path, hashes, sizes)
            if old:
                self._old.update(hashes)

    def _block_files(self) -> list[Path]:
        return sorted(self._blocks.glob("*.h5"))

    def _add(self, path: Path, hashes: Sequence[str], sizes: Sequence[Size]) -> None:
        for row, (sha256, size) in enumerate(zip(hashes, sizes, strict=True)):
            self._where[sha256] = (path, row)
            self._sizes[sha256] = size


@contextlib.contextmanager
def explained(path: Path, *, kept: bool = True) -> Iterator[None]:
    """Say in one sentence why a file can't be written.

    Parameters
    ----------
    path : Path
    kept : bool, optional
        Whether to say that what was embedded before is kept.

    Raises
    ------
    CacheError
        Instead of an OSError.
    """
    try:
        yield
    except OSError as error:
        full = error.errno in {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
        reason = "the disk is full" if full else (error.strerror or str(error))
        raise CacheError(
            f"{path} can't be written ({reason}): "
            f"{'what was embedded before is kept; ' if kept else ''}"
            f"{'free some space' if full else 'fix that'} and run the same command again"
        ) from error


def gathered(places: Sequence[tuple[Path, int]], dim: int) -> Iterator[Embeddings]:
    """Collect rows that lie scattered over files, a chunk at a time.

    Parameters
    ----------
    places : sequence of (Path, int)
        The file and the row in its ``embeddings``, for each row that is wanted.
    dim : int
        Length of an embedding.

    Yields
    ------
    ndarray of float32, shape (at most CHUNK_ROWS, dim)
    """
    with contextlib.ExitStack() as files:
        opened: dict[Path, h5py.Dataset] = {}
        for start in range(0, len(places), CHUNK_ROWS):
            wanted = places[start : start + CHUNK_ROWS]
            rows = np.empty((len(wanted), dim), np.float32)
            for path in dict.fromkeys(path for path, _ in wanted):
                if path not in opened:
                    if len(opened) > _OPEN_FILES:
                        files.close()
                        opened.clear()
                    opened[path] = files.enter_context(h5py.File(path, "r"))["embeddings"]
                here = [at for at, (place, _) in enumerate(wanted) if place == path]
                rows[here] = rows_of(opened[path], np.array([wanted[at][1] for at in here]))
            yield rows


def _same(old: Features, new: Features) -> bool:
    return (
        all(
            getattr(old, name) == getattr(new, name)
            for name in ("failures", "synthetic", "images", "weights_path", "trained_on")
        )
        and (old.plan, old.reader) == (new.plan, new.reader)
    ) and all(
        np.array_equal(getattr(old.items, name), getattr(new.items, name))
        for name in Items.__dataclass_fields__
    )


def require_writable(path: Path) -> None:
    """Fail early if a feature file could not be written there.

    Parameters
    ----------
    path : Path
        May exist; then it must be a feature file.

    Raises
    ------
    CacheError
        If the folder does not exist or can't be written, the path is a folder, its ending is that
        of another format, or it is a file of another kind.
    """
    if path.suffix.lower() in _OTHER_ENDINGS:
        raise CacheError(
            f"{path} would be an HDF5 file, whatever its ending says: give a name that ends in .h5 "
            "with --out, and turn it to .csv, .npz or .parquet by `python -m features export`"
        )
    require_place(path)
    if path.exists():
        require_feature_file(path)


def require_place(path: Path) -> None:
    """Fail early if a file could not be written there.

    Raises
    ------
    CacheError
        If it is an address, or the folder does not exist or can't be written, or it is a folder.
    """
    if is_remote(path):
        raise CacheError(f"{address_of(path)} is an address: give a path on this machine")
    if path.is_dir():
        if is_shard_folder(path):
            raise CacheError(
                f"{path} is a folder of shards: say --shards N to add to them, or give the name of "
                "a file"
            )
        raise CacheError(f"{path} is a folder: give the name of a file")
    if not path.parent.is_dir():
        raise CacheError(
            f"{path} can't be written, since there is no folder {path.parent}: "
            "make it, or choose another place"
        )
    # Every file is first written beside its place, under a name that is a little longer.
    aside = path.with_name(f".{path.name}.partial")
    try:
        with aside.open("ab"):
            pass
        aside.unlink()
    except OSError as error:
        raise CacheError(
            f"{path} can't be written ({error.strerror}): choose another place or name"
        ) from error
