"""What reviewers found out about images that were classified: kept durably, and read for fitting.

An image is kept as its embedding, so that nothing needs to be computed again to train on it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt
import sqlalchemy as sql

from features.datasets.vocabulary import same_class
from features.errors import LesionError

if TYPE_CHECKING:
    from features.cache.contents import Features

__all__ = [
    "FeedbackFailed",
    "FeedbackRecord",
    "FeedbackStore",
    "add_feedback",
]

_TABLES: Final = sql.MetaData()
_FEEDBACK: Final = sql.Table(
    "feedback",
    _TABLES,
    sql.Column("id", sql.Integer, primary_key=True),
    sql.Column("created", sql.String(32), nullable=False),
    sql.Column("sha256", sql.String(64), nullable=False, index=True),
    sql.Column("label", sql.String(255), nullable=False),
    sql.Column("reviewer", sql.String(64), nullable=False),
    sql.Column("fingerprint", sql.String(64), nullable=False),
    sql.Column("bundle", sql.String(64), nullable=False),
    sql.Column("probability", sql.Float, nullable=False),
    sql.Column("embedding", sql.LargeBinary, nullable=False),
    sql.Column("image", sql.LargeBinary),
)
_KEPT: Final = tuple(column.name for column in _FEEDBACK.columns if column.name != "id")
_SECONDS_FOR_OTHERS: Final = 10
_NO_ROOM: Final = ("is full", "no space left", "disk full")


class FeedbackFailed(LesionError):
    """Feedback that could not be kept or read.

    Parameters
    ----------
    message : str
    full : bool
        Whether it is for want of room.
    """

    def __init__(self, message: str, *, full: bool = False) -> None:
        super().__init__(message)
        self.full = full

    @property
    def code(self) -> str:
        """The kind of fault, for programs."""
        return "storage_full" if self.full else "storage_failed"


@dataclass(frozen=True)
class FeedbackRecord:
    """The true label of an image, as a reviewer gave it.

    Parameters
    ----------
    sha256 : str
        Of the image file's bytes.
    label : str
    reviewer : str
        Name of the key that was signed in with.
    fingerprint : str
        Of the extractor that made the embedding.
    bundle : str
        Identity of the bundle that had judged the image.
    probability : float
        What it had said.
    embedding : ndarray of float32, shape (spec.width,)
        As a feature file keeps it.
    image : bytes, optional
        The image file, where it may be kept.
    created : str
        ISO 8601 time in UTC; empty for now.
    """

    sha256: str
    label: str
    reviewer: str
    fingerprint: str
    bundle: str
    probability: float
    embedding: npt.NDArray[np.float32]
    image: bytes | None = None
    created: str = ""


class FeedbackStore:
    """A table of feedback in any database that SQLAlchemy knows; by default an SQLite file.

    Records are only ever added: who changes their mind adds another, and the latest counts.

    Parameters
    ----------
    address : str or Path
        A file, or a URL such as ``postgresql+psycopg://host/name``.
    create : bool
        Whether to make the file and the table if they are not there.

    Raises
    ------
    FeedbackFailed
        If it can't be opened.
    """

    def __init__(self, address: str | Path, *, create: bool = False) -> None:
        self._name, url = _locate(address, create=create)
        try:
            self._engine = sql.create_engine(url)
        except (sql.exc.ArgumentError, sql.exc.NoSuchModuleError, ImportError) as error:
            raise FeedbackFailed(
                f"the feedback store {self._name} can't be opened ({error}): give the path of an "
                "SQLite file, or an SQLAlchemy URL whose driver is installed"
            ) from error
        if url.get_backend_name() == "sqlite":
            sql.event.listen(self._engine, "connect", _durable)
        if create:
            with self._told("opened"):
                self._make_tables()

    def __enter__(self) -> FeedbackStore:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def add(self, record: FeedbackRecord) -> int:
        """Keep a record; once this returns, neither a crash nor a loss of power undoes it.

        Returns
        -------
        int
            Its number.

        Raises
        ------
        FeedbackFailed
            If it could not be kept; nothing of it is.
        """
        values = {
            **{name: getattr(record, name) for name in _KEPT},
            "created": record.created or _now(),
            "embedding": np.ascontiguousarray(record.embedding, "<f4").tobytes(),
        }
        with self._told("written"), self._engine.begin() as connection:
            row = connection.execute(_FEEDBACK.insert().values(**values)).inserted_primary_key
        return int(row[0]) if row else 0

    def read(self) -> list[FeedbackRecord]:
        """Give all records in the order in which they were added.

        Raises
        ------
        FeedbackFailed
        """
        columns = [column for column in _FEEDBACK.columns if column.name not in ("id", "image")]
        query = sql.select(*columns).order_by(_FEEDBACK.c.id)
        with self._told("read"), self._engine.connect() as connection:
            return [_record(row) for row in connection.execute(query).mappings()]

    def close(self) -> None:
        """Close the connections."""
        self._engine.dispose()

    def _make_tables(self) -> None:
        try:
            _TABLES.create_all(self._engine)
        except sql.exc.DBAPIError:
            # Another process may have made them between the look and the making.
            if not sql.inspect(self._engine).has_table(_FEEDBACK.name):
                raise

    @contextmanager
    def _told(self, what: str) -> Iterator[None]:
        try:
            yield
        except sql.exc.DBAPIError as error:
            reason = str(error.orig)
            full = any(sign in reason.lower() for sign in _NO_ROOM)
            raise FeedbackFailed(
                f"the feedback store {self._name} can't be {what} ({reason}), nothing was kept: "
                + ("make room on its disk" if full else "check that it is there and writable"),
                full=full,
            ) from error


def add_feedback(
    features: Features, records: Iterable[FeedbackRecord]
) -> tuple[Features, tuple[str, ...]]:
    """Add reviewed images to the training split.

    Of an image that was reviewed several times the latest label counts. One that is in the
    feature file already, by its hash, is not added: what is trained on must not be judged by, and
    nothing counts twice.

    Parameters
    ----------
    features : Features
    records : iterable of FeedbackRecord

    Returns
    -------
    Features
    tuple of str
        What a person should know of it.

    Raises
    ------
    FeedbackFailed
        If an embedding was made by another extractor than those of `features`.
    """
    latest = {record.sha256: record for record in records}
    for record in latest.values():
        if record.fingerprint != features.fingerprint:
            raise FeedbackFailed(
                f"the feedback on the image {record.sha256[:12]}… was embedded by the extractor "
                f"{record.fingerprint[:8]}…, the feature file by {features.fingerprint[:8]}…: "
                "give the feature file that the served bundle was fitted on"
            )
        if record.embedding.shape != features.embeddings.shape[1:]:
            raise FeedbackFailed(
                f"the feedback on the image {record.sha256[:12]}… has {record.embedding.size} "
                f"numbers, expected {features.embeddings.shape[1]}: it is damaged, delete it"
            )
    known = dict(zip(features.items.sha256.tolist(), features.items.label.tolist(), strict=True))
    new = [record for sha256, record in latest.items() if sha256 not in known]
    notes = [f"feedback: {len(new)} reviewed images are trained on"]
    if repeated := len(latest) - len(new):
        otherwise = sum(
            not same_class(known[sha256], record.label)
            for sha256, record in latest.items()
            if known.get(sha256)
        )
        notes.append(
            f"feedback: {repeated} reviewed images are in the feature file already and are used "
            f"as they are there, {otherwise} of them with another label"
        )
    if not new:
        return features, tuple(notes)
    rows = np.asarray(features.embeddings)
    added = np.stack([record.embedding for record in new]).astype(rows.dtype)
    items = [
        [*map(np.ndarray.tolist, vars(features.items).values())],
        [
            [*range(len(rows), len(rows) + len(new))],
            [record.sha256 for record in new],
            [f"feedback/{record.sha256[:16]}" for record in new],
            [record.label for record in new],
            ["train"] * len(new),
            [""] * len(new),
            [0] * len(new),
            [0] * len(new),
        ],
    ]
    # Keeping feedback needs no HDF5.
    from features.cache.contents import Items

    merged = Items.from_rows(
        zip(*(before + after for before, after in zip(*items, strict=True)), strict=True)
    )
    return replace(features, embeddings=np.concatenate([rows, added]), items=merged), tuple(notes)


def _locate(address: str | Path, *, create: bool) -> tuple[str, sql.URL]:
    text = str(address)
    if "://" in text:
        try:
            url = sql.make_url(text)
        except sql.exc.ArgumentError as error:
            raise FeedbackFailed(
                "the address of the feedback store can't be read: give a path, or a URL such as "
                "postgresql+psycopg://user@host/name"
            ) from error
        return url.render_as_string(hide_password=True), url
    if not create and not Path(text).is_file():
        raise FeedbackFailed(
            f"there is no feedback in {text}: give the file that the service was started with "
            "as --feedback"
        )
    connect = {"timeout": str(_SECONDS_FOR_OTHERS)}
    return text, sql.URL.create("sqlite", database=text, query=connect)


def _durable(connection: Any, _: object) -> None:
    # What was answered for must be on the disk, and so must the deletion of SQLite's journal.
    connection.execute("PRAGMA synchronous = EXTRA")


def _record(row: Any) -> FeedbackRecord:
    # A damaged one is too short by less than a number, and found by its length.
    whole = row["embedding"][: len(row["embedding"]) // 4 * 4]
    embedding = np.frombuffer(whole, "<f4").astype(np.float32)
    return FeedbackRecord(**{**row, "embedding": embedding})


def _now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="milliseconds")
