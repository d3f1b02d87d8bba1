"""Backups: a copy of a database that is whole, made while others write to it.

SQLite writes it from one snapshot, so it holds what was committed when it was begun. Nobody waits
for it; only the log cannot start anew meanwhile. It has its name only once it was checked.
"""

from __future__ import annotations

import errno
import os
import sqlite3
import uuid
from contextlib import closing
from pathlib import Path
from urllib.parse import quote

from trimtab_storage._folder import sync_file, sync_folder
from trimtab_storage.engine import BUSY_TIMEOUT_MS, Database
from trimtab_storage.errors import DiskFullError, StorageError

_MAGIC = b"SQLite format 3\0"
_COMPANIONS = ("-wal", "-journal")
"""What SQLite would take for a part of the backup, if it were left there by another database."""


def back_up(url: str, target: Path, *, replace: bool = False) -> int:
    """Writes all rows to a new file and gives its size in bytes; models are not among them.

    The schema may be that of any version, so that a database can be copied before an upgrade.

    Args:
        url: Of the database, such as ``sqlite:///trimtab.db``.
        target: The file; its folder must exist. If it returns, the file survives a crash.
        replace: Whether a database that is there may be replaced.

    Raises:
        StorageError: The database or the target will not do, or the database is damaged.
        DiskFullError: There was no room; nothing is left behind.
    """
    source = Database.for_reading(url).path
    _check_target(source, target, replace)
    partial = target.parent / f".{target.name}.partial-{uuid.uuid4().hex[:8]}"
    try:
        _copy(source, partial)
        sync_file(partial)
        _check_target(source, target, replace)
        size_bytes = partial.stat().st_size
        partial.replace(target)
        sync_folder(target.parent)
    except OSError as error:
        raise _failed(target, error) from error
    finally:
        partial.unlink(missing_ok=True)
    return size_bytes


def _check_target(source: Path, target: Path, replace: bool) -> None:
    if not target.parent.is_dir():
        raise _refused(target, f"{target.parent} is no folder")
    companions = [name for end in _COMPANIONS if _has_content(name := f"{target}{end}")]
    if target.resolve() == source:
        raise _refused(target, "it is the database itself")
    if companions:
        raise _refused(target, f"{companions[0]} shows that it is a database in use")
    if not target.exists():
        return
    if target.is_dir() or not _is_database(target):
        raise _refused(target, "something else is there that is no database")
    if not replace:
        raise StorageError(f"{target} exists already: name another file, or pass --force")


def _has_content(name: str) -> bool:
    # Those who only read a database leave an empty log beside it.
    return os.path.exists(name) and os.path.getsize(name) > 0


def _is_database(file: Path) -> bool:
    with file.open("rb") as stream:
        return stream.read(len(_MAGIC)) == _MAGIC


def _copy(source: Path, partial: Path) -> None:
    uri = f"file:{quote(str(source))}?mode=ro"
    try:
        with closing(sqlite3.connect(uri, uri=True, isolation_level=None)) as connection:
            connection.execute(f"PRAGMA busy_timeout={BUSY_TIMEOUT_MS}")
            # A damaged file would be reported as a copy that cannot be opened.
            connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
            connection.execute("VACUUM INTO ?", (str(partial),))
        with closing(sqlite3.connect(partial)) as copy:
            (found,) = copy.execute("PRAGMA integrity_check(1)").fetchone()
    except sqlite3.Error as error:
        raise _translated(source, partial, error) from error
    if found != "ok":
        raise StorageError(f"the backup of {source} is not sound, so it is not kept: {found}")


def _translated(source: Path, partial: Path, error: sqlite3.Error) -> StorageError:
    if getattr(error, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_FULL:
        return _full(partial)
    if not os.access(partial.parent, os.W_OK):
        return _refused(partial.parent, "it is read-only")
    return StorageError(f"{source} could not be copied: {error}")


def _failed(target: Path, error: OSError) -> StorageError:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return _full(target)
    return _refused(target, error.strerror or str(error))


def _full(target: Path) -> StorageError:
    return DiskFullError(
        f"no backup was written to {target.parent}, because the disk is full: make room and try "
        "again"
    )


def _refused(target: Path, reason: str) -> StorageError:
    return StorageError(f"{target} cannot be written to, as {reason}: name another file")
