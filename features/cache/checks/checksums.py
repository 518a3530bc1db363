"""Checksums of the parts of a feature file, which say where damage is."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator
from typing import Any, Final

import h5py
import numpy as np
import numpy.typing as npt

from features.presenting import NAME_ERRORS, as_bytes

__all__ = ["CHUNK_ROWS", "altered_parts", "in_chunks", "row_checksum", "write_checksums"]

CHUNK_ROWS: Final = 64
_GROUPS: Final = ("attributes", "items", "failures")

# What h5py is known to raise on damaged files.
_UNREADABLE: Final = (
    OSError,
    LookupError,
    ValueError,
    TypeError,
    RuntimeError,
    AttributeError,
    MemoryError,
)

Digest = npt.NDArray[np.uint8]


def row_checksum(rows: npt.NDArray[Any]) -> Digest:
    """Sha256 of rows as they are stored: row after row, little-endian.

    Parameters
    ----------
    rows : ndarray of float16 or float32, shape (n, d)

    Returns
    -------
    ndarray of uint8, shape (32,)
    """
    stored = np.ascontiguousarray(rows, rows.dtype.newbyteorder("<"))
    return _digest(stored.data)


def in_chunks(blocks: Iterable[npt.NDArray[Any]]) -> Iterator[npt.NDArray[Any]]:
    """Cut rows that come in blocks of any length into chunks of `CHUNK_ROWS`; the last is shorter.

    Parameters
    ----------
    blocks : iterable of ndarray, shape (any, d)

    Yields
    ------
    ndarray, shape (at most CHUNK_ROWS, d)
    """
    waiting: list[npt.NDArray[Any]] = []
    count = 0
    for block in blocks:
        start = 0
        while start < len(block):
            piece = block[start : start + CHUNK_ROWS - count]
            waiting.append(piece)
            start += len(piece)
            count += len(piece)
            if count == CHUNK_ROWS:
                yield waiting[0] if len(waiting) == 1 else np.concatenate(waiting)
                waiting, count = [], 0
    if waiting:
        yield np.concatenate(waiting)


def write_checksums(file: h5py.File, of_embeddings: list[Digest]) -> None:
    """Add the checksums to a file that is otherwise finished.

    Parameters
    ----------
    file : h5py.File
    of_embeddings : list of ndarray of uint8, shape (32,)
        One for each chunk, taken before the rows were written.
    """
    group = file.create_group("checksums")
    group["embeddings"] = np.array(of_embeddings, np.uint8).reshape(-1, 32)
    for name in _GROUPS:
        group[name] = _group_checksum(file, name)


def altered_parts(file: h5py.File) -> Iterator[str]:
    """Name the parts that don't match their checksums, e.g. ``"embeddings, rows 64 to 127"``.

    A part that can't even be read is altered.
    """
    for name in _GROUPS:
        try:
            same = np.array_equal(file["checksums"][name][:], _group_checksum(file, name))
        except _UNREADABLE:
            same = False
        if not same:
            yield name
    try:
        stored, expected = file["embeddings"], file["checksums"]["embeddings"][:]
        if len(expected) != -(-len(stored) // CHUNK_ROWS):
            raise ValueError
    except _UNREADABLE:
        yield "embeddings"
        return
    for number, digest in enumerate(expected):
        start = number * CHUNK_ROWS
        end = min(start + CHUNK_ROWS, len(stored))
        try:
            same = np.array_equal(row_checksum(stored[start:end]), digest)
        except _UNREADABLE:
            same = False
        if not same:
            yield f"embeddings, rows {start} to {end - 1}"


def _group_checksum(file: h5py.File, name: str) -> Digest:
    if name == "attributes":
        content = {key: _plain(value) for key, value in file.attrs.items()}
    else:
        content = {key: _column(file[name][key]) for key in file[name]}
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return _digest(as_bytes(text))


def _plain(value: Any) -> Any:
    return value.item() if isinstance(value, np.generic) else value


def _column(stored: h5py.Dataset) -> list[Any]:
    values: list[Any] = (
        stored.asstr(errors=NAME_ERRORS)[:] if h5py.check_string_dtype(stored.dtype) else stored[:]
    ).tolist()
    return values


def _digest(data: bytes | memoryview) -> Digest:
    return np.frombuffer(hashlib.sha256(data).digest(), np.uint8)
