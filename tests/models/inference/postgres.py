"""A real PostgreSQL on a free port, for as long as a test asks for it."""

from __future__ import annotations

import itertools
import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import pytest
import sqlalchemy as sql

from tests.service.asking import free_port

PASSWORD = "what-nobody-is-told"  # noqa: S105


@dataclass(frozen=True)
class Postgres:
    """A server that can be stopped and started again."""

    folder: Path
    port: int
    programs: Path
    user: int | None
    _numbers: Iterator[int] = field(default_factory=itertools.count)

    def database(self) -> str:
        """Make a new database and give its address."""
        name = f"feedback_{next(self._numbers)}"
        engine = sql.create_engine(self._url("postgres"), isolation_level="AUTOCOMMIT")
        with engine.connect() as connection:
            connection.execute(sql.text(f"CREATE DATABASE {name}"))
        engine.dispose()
        return self._url(name)

    def _url(self, name: str) -> str:
        return f"postgresql+psycopg://lesion:{PASSWORD}@127.0.0.1:{self.port}/{name}"

    def start(self) -> None:
        settings = (
            f"-p {self.port} -c listen_addresses=127.0.0.1 -c unix_socket_directories= "
            "-c shared_buffers=16MB -c ssl=off -c fsync=off"
        )
        self._control("start", "-l", str(self.folder / "log"), "-o", settings)

    def stop(self) -> None:
        self._control("stop", "-m", "immediate")

    @contextmanager
    def silent(self) -> Iterator[None]:
        """Let every process of the server stand still: it takes what is sent and says nothing."""
        first = psutil.Process(int((self.folder / "data/postmaster.pid").read_text().split()[0]))
        still = [first, *first.children(recursive=True)]
        for process in still:
            process.suspend()
        try:
            yield
        finally:
            for process in still:
                process.resume()

    def _control(self, what: str, *more: str) -> None:
        self.run("pg_ctl", what, "-s", "-w", "-t", "60", "-D", str(self.folder / "data"), *more)

    def run(self, program: str, *words: str) -> None:
        done = subprocess.run(
            [self.programs / program, *words], user=self.user, cwd=self.folder, check=False,
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
            env={"PATH": os.environ["PATH"], "PGPASSWORD": PASSWORD, "LC_ALL": "C", "HOME": "/"},
        )  # fmt: skip
        assert done.returncode == 0, f"{program}: {done.stderr}"


@contextmanager
def running_postgres() -> Iterator[Postgres]:
    """Start a server; it ends and leaves nothing behind."""
    pytest.importorskip("psycopg")
    programs = _programs()
    if programs is None:
        pytest.skip("no PostgreSQL server (initdb, pg_ctl) on this machine")
    folder = Path(tempfile.mkdtemp(prefix="lesion-postgres-"))
    user = None
    if os.geteuid() == 0:
        # PostgreSQL refuses to run as root.
        user = pwd.getpwnam("nobody").pw_uid
        os.chown(folder, user, -1)
    server = Postgres(folder, free_port(), programs, user)
    secret = folder / "secret"
    secret.write_text(PASSWORD)
    secret.chmod(0o644)
    server.run(
        "initdb", "-D", str(folder / "data"), "-U", "lesion", "-A", "scram-sha-256",
        "--pwfile", str(secret), "-E", "UTF8", "--no-sync", "--no-locale",
    )  # fmt: skip
    server.start()
    try:
        yield server
    finally:
        with suppress(AssertionError):
            server.stop()
        shutil.rmtree(folder)


def _programs() -> Path | None:
    if beside := shutil.which("pg_ctl"):
        return Path(beside).resolve().parent
    return max(Path("/usr/lib/postgresql").glob("*/bin"), default=None)
