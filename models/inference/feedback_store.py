"""Where feedback is kept: a table of any database that SQLAlchemy knows.

A module of its own, since SQLAlchemy is slow to import and most services keep no feedback.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Final

import numpy as np
import sqlalchemy as sql

from models.inference.feedback import FeedbackFailed, FeedbackRecord

__all__ = ["FeedbackStore"]

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
