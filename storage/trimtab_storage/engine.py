"""Connections to one SQLite file: who waits for whom, what is durable, what is refused.

Writers say BEGIN IMMEDIATE, so a transaction that reads and then writes cannot be overtaken in
between, and waits in line instead of failing. Readers have their own read-only connections and a
plain BEGIN: one consistent snapshot, no lock. Every commit is synced to the disk.
"""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

from sqlalchemy import URL, Connection, Engine, QueuePool, create_engine, event, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, StatementError

from trimtab_storage import _guards, _json, _log
from trimtab_storage._shield import signals_wait
from trimtab_storage.errors import (
    DatabaseBusyError,
    DiskFullError,
    ForkedStoreError,
    StorageError,
)

BUSY_TIMEOUT_MS = 30_000
_MORE_READERS = 15
_POOL_TIMEOUT_S = 2 * BUSY_TIMEOUT_MS / 1000


def database_path(url: str) -> Path:
    """Gives the absolute path of the file that a database URL names.

    Raises:
        StorageError: It is no URL, or not one of a SQLite file.
    """
    try:
        parsed = make_url(url)
    except ArgumentError:
        raise StorageError(
            f"a database must be given as a URL such as sqlite:///trimtab.db, but got {url!r}"
        ) from None
    if parsed.drivername not in ("sqlite", "sqlite+pysqlite"):
        raise StorageError(
            f"only SQLite databases are supported so far, but got a {parsed.get_backend_name()} "
            "URL: pass one such as sqlite:///trimtab.db"
        )
    name = parsed.database
    if not name or name == ":memory:" or name.startswith("file:") or parsed.query:
        raise StorageError(
            f"a SQLite URL must name a plain file, such as sqlite:///trimtab.db, but got {url!r}"
        )
    return Path(name).resolve()


class Database:
    """The connections of one process to one file; not to be used across a fork.

    One thread writes at a time (there is one writing connection); any number may read. A write
    inside a write of the same thread would wait for itself, so there is none. Ctrl-C and SIGTERM
    take effect between transactions, never inside one.
    """

    def __init__(self, path: Path, *, writable: bool, empties_log: bool) -> None:
        self.path = path
        self._pid = os.getpid()
        self._closed = False
        self._empties_log = empties_log
        self._reader = _engine(lambda: _connect_reader(path), begin="BEGIN", overflow=_MORE_READERS)
        self._writer: Engine | None = None
        if writable:
            self._writer = _engine(
                lambda: _connect_writer(path), begin="BEGIN IMMEDIATE", overflow=0
            )

    @classmethod
    def for_writing(cls, url: str, *, controller: bool) -> Database:
        """Opens a file, new or not, for reading and writing.

        Args:
            url: Such as ``sqlite:///trimtab.db``.
            controller: Whether this process empties the log when it closes the file.

        Raises:
            StorageError: The URL, the folder or its file system will not do.
        """
        path = _checked(url)
        if not path.parent.is_dir():
            raise StorageError(
                f"the database's folder must exist, but {path.parent} does not: "
                "create it or pass --db with another path"
            )
        return cls(path, writable=True, empties_log=controller)

    @classmethod
    def for_reading(cls, url: str) -> Database:
        """Opens an existing file for reading only; creates nothing.

        Raises:
            StorageError: There is no such file.
        """
        path = _checked(url)
        if not path.is_file():
            raise StorageError(f"no database at {path}: run `trimtab run` first or pass --db")
        return cls(path, writable=False, empties_log=False)

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """Gives a connection in a write transaction, committed at the end or rolled back."""
        self._guard()
        if self._writer is None:
            raise StorageError(f"{self.path} is open for reading only: use Store.open to write")
        with signals_wait():
            with _plain_errors(self.path), self._writer.begin() as connection:
                yield connection
            _log.shorten(self.path)

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """Gives a read-only connection that sees one snapshot."""
        self._guard()
        with signals_wait(), _plain_errors(self.path), self._reader.connect() as connection:
            yield connection

    def close(self) -> None:
        """Closes the connections; a controller first empties the log.

        In a forked child it does nothing: closing inherited connections would harm the parent's.
        """
        if self._closed or os.getpid() != self._pid:
            return
        self._closed = True
        self._reader.dispose()
        if self._writer is not None:
            if self._empties_log:
                _log.empty(self.path)
            self._writer.dispose()

    def _guard(self) -> None:
        if os.getpid() != self._pid:
            raise ForkedStoreError(
                f"a store must be used in the process that opened it ({self._pid}), but this is "
                f"process {os.getpid()}: open another one here"
            )
        if self._closed:
            raise StorageError(f"the store on {self.path} is closed: open it again")


def _checked(url: str) -> Path:
    path = database_path(url)
    kind = _guards.network_file_system(path, _guards.read_mounts())
    if kind is not None:
        raise StorageError(
            f"the database must lie on a local disk, because its write-ahead log does not work "
            f"over a network, but {path} is on {kind}: pass --db with a local path"
        )
    return path


def _engine(connect: Callable[[], sqlite3.Connection], *, begin: str, overflow: int) -> Engine:
    engine = create_engine(
        URL.create("sqlite"),
        creator=connect,
        poolclass=QueuePool,
        pool_size=1,
        max_overflow=overflow,
        pool_timeout=_POOL_TIMEOUT_S,
        json_serializer=_json.dumps,
        json_deserializer=_json.loads,
    )

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        connection.exec_driver_sql(begin)

    return engine


def _connect_reader(path: Path) -> sqlite3.Connection:
    uri = f"file:{quote(str(path))}?mode=ro"
    # With isolation_level None the module begins no transactions of its own.
    connection = sqlite3.connect(uri, uri=True, isolation_level=None, check_same_thread=False)
    connection.execute(f"PRAGMA busy_timeout={BUSY_TIMEOUT_MS}")
    connection.execute("PRAGMA query_only=ON")
    return connection


def _connect_writer(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    connection.execute(f"PRAGMA busy_timeout={BUSY_TIMEOUT_MS}")
    _switch_to_wal(connection, path)
    connection.execute("PRAGMA synchronous=FULL")
    connection.execute("PRAGMA foreign_keys=ON")
    _log.set_up(connection)
    return connection


def _switch_to_wal(connection: sqlite3.Connection, path: Path) -> None:
    deadline = time.monotonic() + BUSY_TIMEOUT_MS / 1000
    while True:
        try:
            (mode,) = connection.execute("PRAGMA journal_mode=WAL").fetchone()
            break
        except sqlite3.OperationalError as error:
            # While another process is about to write a file that is not switched yet, SQLite
            # answers busy at once, whatever the timeout.
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                raise
            time.sleep(0.02)
    if mode != "wal":
        raise StorageError(
            f"the database must use a write-ahead log, but {path} stays in mode {mode}: "
            "pass --db with a path on a local disk"
        )


@contextmanager
def _plain_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except DBAPIError as error:
        raise _translated(error, path) from error
    except StatementError as error:
        # A value that could not be bound; what refused it was ours.
        if isinstance(error.orig, StorageError):
            raise error.orig from None
        raise


def _translated(error: DBAPIError, path: Path) -> StorageError:
    code = getattr(error.orig, "sqlite_errorcode", 0) & 0xFF
    if code == sqlite3.SQLITE_FULL:
        return DiskFullError(
            f"nothing was written to {path}, because the disk is full: make room and try again"
        )
    if code == sqlite3.SQLITE_BUSY:
        return DatabaseBusyError(
            f"{path} was locked by another process for more than {BUSY_TIMEOUT_MS // 1000} s: "
            "find out who holds it, then try again"
        )
    if code == sqlite3.SQLITE_NOTADB:
        return StorageError(
            f"{path} must be a SQLite database, but it is another kind of file: "
            "pass --db with another path"
        )
    return StorageError(f"{path} could not be used: {error.orig}")
