"""A feature file, or a folder of shards, as NumPy, Parquet or CSV, one row for each image file."""

from __future__ import annotations

import importlib
import json
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import h5py
import numpy as np

from features.cache.contents import Embeddings, Features, described
from features.cache.items import Items
from features.cache.rows import rows_of
from features.cache.safe_files import publish
from features.cache.shards.folder import OpenShards
from features.cache.writer import explained
from features.errors import CacheError
from features.presenting import as_bytes, csv_text, shown

__all__ = ["SUFFIXES", "export_features"]

_ROWS: Final = 1024
_COLUMNS: Final = ("path", "label", "split", "group", "sha256", "width", "height")
# Compressed embeddings are hardly smaller, and a fixed time makes the same file of the same input.
_ZIP_TIME: Final = (1980, 1, 1, 0, 0, 0)


@dataclass(frozen=True)
class _Table:
    """The image files of a feature file, with their embeddings in pieces."""

    features: Features
    items: Items
    stored: h5py.Dataset | OpenShards

    @property
    def marks(self) -> str:
        return " ".join(self.features.marks)

    @property
    def not_utf8(self) -> bool:
        """Whether a file name holds bytes that are no UTF-8."""
        return any(
            not _is_utf8(path) for piece in self.items.pieces() for path in piece.path.tolist()
        )

    def pieces(self) -> Iterator[tuple[Items, Embeddings]]:
        for part in self.items.pieces():
            for start in range(0, len(part), _ROWS):
                piece = part.take(np.arange(start, min(start + _ROWS, len(part))))
                yield piece, np.asarray(rows_of(self.stored, piece.row), np.float32)


def export_features(path: str | Path, out: str | Path) -> int:
    """Write a feature file in another format, in pieces, so that it need not fit into memory.

    Embeddings whose files are gone are left out. The format is chosen by the suffix:

    ``.npz``
        Arrays ``embeddings`` (n, d) and one per column; ``fingerprint``, ``extractor`` (JSON) and
        ``marks``.
    ``.parquet``
        A column ``embedding`` (a list of d numbers) and the others; the schema's metadata hold
        ``fingerprint``, ``extractor`` and ``marks``. Where a file name is no UTF-8, `path` has
        escapes for its other bytes, and a further column ``path_bytes`` has the name as it is.
    ``.csv``
        The columns, ``marks``, and ``e0`` to ``e(d-1)``; the numbers are read back exactly.
        The bytes of file names are written as they are.

    Parameters
    ----------
    path : str or Path
    out : str or Path
        Replaced in one step if it exists.

    Returns
    -------
    int
        How many rows were written.

    Raises
    ------
    CacheError
        If the file can't be read, the suffix is none of these, or a library is missing.
    """
    target = Path(out)
    write = _WRITERS.get(target.suffix.lower())
    if write is None:
        raise CacheError(
            f"got {target.name}, expected a name that ends in one of {', '.join(SUFFIXES)}"
        )
    aside = target.with_name(f".{target.name}.partial")
    with described(Path(path)) as (features, stored):
        items = features.items.there()
        table = _Table(features, items, stored)
        with explained(target, kept=False):
            try:
                write(table, aside)
                publish(aside, target)
            finally:
                aside.unlink(missing_ok=True)
    return len(items)


def _write_npz(table: _Table, aside: Path) -> None:
    spec = table.features.spec
    single: dict[str, Any] = {name: getattr(table.items, name) for name in _COLUMNS}
    single |= {
        "fingerprint": np.array(spec.fingerprint),
        "extractor": np.array(json.dumps(spec.as_dict())),
        "marks": np.array(table.marks),
    }
    with zipfile.ZipFile(aside, "w", zipfile.ZIP_STORED) as archive:
        for name, values in single.items():
            with archive.open(zipfile.ZipInfo(f"{name}.npy", _ZIP_TIME), "w") as member:
                np.lib.format.write_array(member, values, allow_pickle=False)
        about = zipfile.ZipInfo("embeddings.npy", _ZIP_TIME)
        with archive.open(about, "w", force_zip64=True) as member:
            shape = (len(table.items), spec.width)
            header = {"descr": "<f4", "fortran_order": False, "shape": shape}
            np.lib.format.write_array_header_2_0(member, header)
            for _, embeddings in table.pieces():
                member.write(embeddings.astype("<f4", copy=False).tobytes())


def _write_csv(table: _Table, aside: Path) -> None:
    with aside.open("wb") as file:
        numbers = (f"e{number}" for number in range(table.features.spec.width))
        file.write(as_bytes(csv_text([[*_COLUMNS, "marks", *numbers]])))
        for items, embeddings in table.pieces():
            columns = [getattr(items, name).tolist() for name in _COLUMNS]
            # The shortest text that is read back as the same float32.
            texts = embeddings.astype(str).tolist()
            for about, text in zip(zip(*columns, strict=True), texts, strict=True):
                file.write(as_bytes(csv_text([[*about, table.marks, *text]])))


def _write_parquet(table: _Table, aside: Path) -> None:
    try:
        arrow = importlib.import_module("pyarrow")
        parquet = importlib.import_module("pyarrow.parquet")
    except ImportError:
        raise CacheError(
            "Parquet needs the library pyarrow, which isn't installed: "
            "run `pip install lesion-classifier[parquet]`, or export to .npz or .csv"
        ) from None
    spec = table.features.spec
    text, number = arrow.string(), arrow.int32()
    columns = [(name, number if name in {"width", "height"} else text) for name in _COLUMNS]
    schema = arrow.schema(
        [*columns, ("embedding", arrow.list_(arrow.float32(), spec.width))],
        metadata={
            "fingerprint": spec.fingerprint,
            "extractor": json.dumps(spec.as_dict()),
            "marks": table.marks,
        },
    )
    if unprintable := table.not_utf8:
        schema = schema.append(arrow.field("path_bytes", arrow.binary()))
    with aside.open("wb") as sink, parquet.ParquetWriter(sink, schema) as writer:
        for items, embeddings in table.pieces():
            flat = arrow.array(embeddings.reshape(-1), arrow.float32())
            values = [arrow.array(_texts(items, name), kind) for name, kind in columns]
            values.append(arrow.FixedSizeListArray.from_arrays(flat, spec.width))
            if unprintable:
                names = [as_bytes(path) for path in items.path.tolist()]
                values.append(arrow.array(names, arrow.binary()))
            writer.write_table(arrow.Table.from_arrays(values, schema=schema))


def _is_utf8(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _texts(items: Items, name: str) -> list[Any]:
    values: list[Any] = getattr(items, name).tolist()
    # Parquet's text is UTF-8 and nothing else; the very bytes are in the column beside it.
    return [
        shown(each) if isinstance(each, str) and not _is_utf8(each) else each for each in values
    ]


_WRITERS: Final[dict[str, Callable[[_Table, Path], None]]] = {
    ".npz": _write_npz,
    ".parquet": _write_parquet,
    ".csv": _write_csv,
}
SUFFIXES: Final = tuple(_WRITERS)
