"""Where feedback is kept: a table of any database that SQLAlchemy knows.

A module of its own, since SQLAlchemy is slow to import and most services keep no feedback.
"""

from __future__ import annotations

import time
from collections.abc import Generator, Iterator, Mapping
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
# Together they are of one record alone.
_TELLING: Final = ("created", "sha256", "label", "reviewer", "bundle")
_SECONDS_FOR_OTHERS: Final = 10
# PostgreSQL is known to answer or to refuse within these: nobody's lock is waited for longer than a
# statement may take, and where nothing at all is heard for so long the line is given up.
_STATEMENT_SECONDS: Final = 4
_SILENT_SECONDS: Final = 5.0
# A server that is gone without a word must not hold a request up for minutes, and a line that
# nothing is sent on must not be forgotten by what is in between.
_PATIENCE: Final = {
    "connect_timeout": str(round(_SILENT_SECONDS)),
    "tcp_user_timeout": str(round(1000 * _SILENT_SECONDS)),
    "keepalives_idle": "30",
    "keepalives_interval": "5",
    "keepalives_count": "3",
}
# For one transaction, whose record is on the disk when it is answered for.
_POSTGRES_DURABLE: Final = sql.text(
    f"SELECT set_config('statement_timeout', '{_STATEMENT_SECONDS}s', true), "
    "set_config('synchronous_commit', replace(current_setting('synchronous_commit'), 'off', 'on'), "
    "true)"
)
_NO_ROOM: Final = ("is full", "no space left", "disk full")


class FeedbackStore:
    """A table of feedback in any database that SQLAlchemy knows; by default an SQLite file.

    Records are only ever added: who changes their mind adds another, and the latest counts. So
    several processes, on several machines, write to the same one.

    Parameters
    ----------
    address : str or Path
        A file, or a URL such as ``postgresql+psycopg://host/name``. What may be a secret in it,
        the password and what follows a question mark, is in no message.
    create : bool
        Whether to make the file and the table if they are not there.

    Raises
    ------
    FeedbackFailed
        If it can't be opened, or its table is another one.
    """

    def __init__(self, address: str | Path, *, create: bool = False) -> None:
        self._name, url = _locate(address, create=create)
        self._secrets = [word for word in (url.password, *_words(url.query)) if word]
        try:
            # A connection that the server has closed meanwhile is found out before it is used.
            self._engine = sql.create_engine(url, pool_pre_ping=True, hide_parameters=True)
        except (sql.exc.ArgumentError, sql.exc.NoSuchModuleError, ImportError) as error:
            raise FeedbackFailed(
                f"the feedback store {self._name} can't be opened ({self._shown(error)}): give the "
                "path of an SQLite file, or an SQLAlchemy URL whose driver is installed (for "
                "PostgreSQL: `pip install 'lesion-classifier[postgres]'`)"
            ) from error
        if url.get_backend_name() == "sqlite":
            sql.event.listen(self._engine, "connect", _durable)
        if url.drivername == "postgresql+psycopg":
            sql.event.listen(self._engine, "do_connect", _connect_patiently)
        if create:
            try:
                with self._told("opened"):
                    self._make_tables()
            except FeedbackFailed:
                self.close()
                raise

    def __enter__(self) -> FeedbackStore:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def add(self, record: FeedbackRecord) -> int:
        """Keep a record; once this returns, neither a crash nor a loss of power undoes it.

        Where the connection is lost on the way it is looked up whether the record was kept, and if
        not it is sent once more.

        Returns
        -------
        int
            Its number.

        Raises
        ------
        FeedbackFailed
            If it could not be kept, or the database is gone before it has said whether it was;
            the message says which.
        """
        values = {
            **{name: getattr(record, name) for name in _KEPT},
            "created": record.created or _now(),
            "embedding": np.ascontiguousarray(record.embedding, "<f4").tobytes(),
        }
        with self._told("written"):
            try:
                return self._insert(values)
            except sql.exc.DBAPIError as error:
                if not error.connection_invalidated:
                    raise
                lost = error
        try:
            kept = self._number(values)
            return self._insert(values) if kept is None else kept
        except sql.exc.SQLAlchemyError as error:
            raise FeedbackFailed(
                f"the connection to the feedback store {self._name} was lost "
                f"({self._shown(lost)}) and it does not answer since, so whether this was kept "
                "can't be told: record it again once it does, of several records the latest counts"
            ) from error

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

    def check(self) -> None:
        """See whether the table can be read.

        Raises
        ------
        FeedbackFailed
        """
        with self._told("read"), self._engine.connect() as connection:
            connection.execute(sql.select(_FEEDBACK.c.id).limit(1))

    def close(self) -> None:
        """Close the connections."""
        self._engine.dispose()

    def _insert(self, values: dict[str, Any]) -> int:
        with self._engine.begin() as connection:
            if connection.dialect.name == "postgresql":
                connection.execute(_POSTGRES_DURABLE)
            row = connection.execute(_FEEDBACK.insert().values(**values)).inserted_primary_key
        return int(row[0]) if row else 0

    def _number(self, values: dict[str, Any]) -> int | None:
        same = [_FEEDBACK.c[name] == values[name] for name in _TELLING]
        with self._engine.connect() as connection:
            number: int | None = connection.scalar(sql.select(_FEEDBACK.c.id).where(*same))
        return number

    def _make_tables(self) -> None:
        try:
            _TABLES.create_all(self._engine)
        except sql.exc.DBAPIError:
            # Another process may have made them between the look and the making.
            if not sql.inspect(self._engine).has_table(_FEEDBACK.name):
                raise
        there = {column["name"] for column in sql.inspect(self._engine).get_columns(_FEEDBACK.name)}
        if missing := [name for name in _KEPT if name not in there]:
            raise FeedbackFailed(
                f"the feedback store {self._name} has a table {_FEEDBACK.name!r} without the "
                f"{'column' if len(missing) == 1 else 'columns'} {', '.join(missing)}: it is of "
                "something else, give a database of its own"
            )

    @contextmanager
    def _told(self, what: str) -> Iterator[None]:
        try:
            yield
        except sql.exc.SQLAlchemyError as error:
            reason = self._shown(error)
            full = any(sign in reason.lower() for sign in _NO_ROOM)
            lost = ", nothing was kept" if what == "written" else ""
            raise FeedbackFailed(
                f"the feedback store {self._name} can't be {what} ({reason}){lost}: "
                + ("make room on its disk" if full else "check that it is there and writable"),
                full=full,
            ) from error

    def _shown(self, error: Exception) -> str:
        # Drivers say more than one line, and some repeat what they were given.
        reason = " ".join(str(getattr(error, "orig", None) or error).split())
        for secret in self._secrets:
            reason = reason.replace(secret, "***")
        return reason


def _locate(address: str | Path, *, create: bool) -> tuple[str, sql.URL]:
    text = str(address)
    if "://" in text:
        try:
            url = sql.make_url(text)
        # The latter for a port that is no number, as where a password has a slash in it.
        except (sql.exc.ArgumentError, ValueError):
            raise FeedbackFailed(
                "the address of the feedback store can't be read: give a path, or a URL such as "
                "postgresql+psycopg://user@host/name, with %2F, %40 and %3A for /, @ and : in a "
                "password"
            ) from None
        if url.drivername in ("postgres", "postgresql"):
            url = url.set(drivername="postgresql+psycopg")
        if url.drivername == "postgresql+psycopg":
            url = url.set(query={**_PATIENCE, **url.query})
        named = sql.URL.create(url.drivername, url.username, None, url.host, url.port, url.database)
        return named.render_as_string(), url
    if not create and not Path(text).is_file():
        raise FeedbackFailed(
            f"there is no feedback in {text}: give the file that the service was started with "
            "as --feedback"
        )
    connect = {"timeout": str(_SECONDS_FOR_OTHERS)}
    return text, sql.URL.create("sqlite", database=text, query=connect)


def _words(query: Mapping[str, tuple[str, ...] | str]) -> list[str]:
    given = [query[name] for name in query if "pass" in name]
    return [word for words in given for word in ([words] if isinstance(words, str) else words)]


def _durable(connection: Any, _: object) -> None:
    # What was answered for must be on the disk, and so must the deletion of SQLite's journal.
    connection.execute("PRAGMA synchronous = EXTRA")


def _connect_patiently(
    dialect: object, record: object, words: tuple[Any, ...], options: dict[str, Any]
) -> Any:
    """Connect by psycopg, whose connections wait for an answer for ever otherwise.

    TCP's own limits are no help against a server, or what is in between, that takes what is sent
    and says nothing; the same number of milliseconds counts for both.
    """
    import psycopg

    limit = float(options["tcp_user_timeout"]) / 1000 or _SILENT_SECONDS

    class PatientConnection(psycopg.Connection[Any]):
        def wait(self, gen: Any, *words: Any, **options: Any) -> Any:
            return super().wait(self._listening(gen), *words, **options)

        def _listening(self, steps: Generator[Any, Any, Any]) -> Generator[Any, Any, Any]:
            heard = time.monotonic()
            try:
                wanted = next(steps)
                while True:
                    came = yield wanted
                    if came:
                        heard = time.monotonic()
                    elif time.monotonic() - heard > limit:
                        self.close()
                        raise psycopg.OperationalError(
                            f"the server has said nothing for {limit:g} seconds"
                        )
                    wanted = steps.send(came)
            except StopIteration as end:
                return end.value

    return PatientConnection.connect(*words, **options)


def _record(row: Any) -> FeedbackRecord:
    # A damaged one is too short by less than a number, and found by its length.
    whole = row["embedding"][: len(row["embedding"]) // 4 * 4]
    embedding = np.frombuffer(whole, "<f4").astype(np.float32)
    return FeedbackRecord(**{**row, "embedding": embedding})


def _now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="milliseconds")
