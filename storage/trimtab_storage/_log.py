"""The write-ahead log: when it is copied into the database, and who must wait meanwhile.

In SQLite 3.7.0 to 3.51.2 a copier can miss that a commit of another connection starts the log anew
just when it begins; it then marks frames of the new log as copied that are not, and they are lost.
There SQLite copies nothing by itself. Who copies holds the write lock, by a connection that writes
nothing, so that no commit and no other copier can come between. Only as the last connection closes
does SQLite copy without it, and then it has locked all others out of the file.
"""

from __future__ import annotations

import sqlite3
from contextlib import closing, suppress
from pathlib import Path
from urllib.parse import quote

from trimtab_storage import _guards

LONG_BYTES = 4 * 1024 * 1024
"""A longer log is copied after a commit: about SQLite's own thousand pages."""
WAL_LIMIT_BYTES = 64 * 1024 * 1024
"""What SQLite cuts the file down to where it copies by itself."""
_PATIENCE_MS = 1_000
"""How long the write lock is waited for: who comes after the next commit copies as well."""


def sqlite_caution() -> str | None:
    """Says in a line, for where two runs share a database, what is done about SQLite's fault.

    None where this version has none.
    """
    if not _must_copy_alone():
        return None
    return (
        f"SQLite {sqlite3.sqlite_version} can damage a database that two runs write to, as they do "
        "now (mended in 3.51.3): its log is copied into it only while nobody else can write"
    )


def set_up(connection: sqlite3.Connection) -> None:
    """Tells a writing connection when to copy, and what to cut a log down to that starts anew."""
    alone = _must_copy_alone()
    limit_bytes = LONG_BYTES if alone else WAL_LIMIT_BYTES
    connection.execute(f"PRAGMA journal_size_limit={limit_bytes}")
    if alone:
        connection.execute("PRAGMA wal_autocheckpoint=0")


def shorten(path: Path) -> None:
    """Copies a log that has become long, where SQLite does not; call it after each commit.

    The next commit then starts the log anew and cuts it down, unless somebody still reads from it.
    """
    if _must_copy_alone() and _length(path) > LONG_BYTES:
        with suppress(sqlite3.Error):
            _copy_alone(path)


def empty(path: Path) -> None:
    """Copies the log back into the file, for the time after us.

    Where that fails, by a long reader or a full disk, the log stays and is as durable as the file.
    """
    with suppress(sqlite3.Error):
        if _must_copy_alone():
            _copy_alone(path)
            return
        with closing(_connect(path)) as connection:
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def _must_copy_alone() -> bool:
    return _guards.needs_one_checkpointer(sqlite3.sqlite_version_info)


def _length(path: Path) -> int:
    try:
        return Path(f"{path}-wal").stat().st_size
    except FileNotFoundError:
        return 0


def _copy_alone(path: Path) -> None:
    """Copies what no reader still needs, with the write lock held.

    Every other mode than PASSIVE takes that lock itself, but goes on without it when it is not to
    be had. A connection cannot copy in its own transaction, therefore two.

    Raises:
        sqlite3.Error: The lock was not to be had, or the copy failed; the log stays as it is.
    """
    with closing(_connect(path)) as holder, closing(_connect(path)) as copier:
        holder.execute("BEGIN IMMEDIATE")
        copier.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()


def _connect(path: Path) -> sqlite3.Connection:
    # Not to make a file anew that was taken away meanwhile.
    uri = f"file:{quote(str(path))}?mode=rw"
    connection = sqlite3.connect(uri, uri=True, isolation_level=None)
    connection.execute(f"PRAGMA busy_timeout={_PATIENCE_MS}")
    connection.execute("PRAGMA synchronous=FULL")
    return connection
