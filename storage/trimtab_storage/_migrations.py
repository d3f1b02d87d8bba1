"""Bringing a file to the schema of this version, and refusing those that cannot be brought.

`MIGRATIONS[i]` takes a database from version i + 1 to i + 2. Each runs in one transaction with the
row that records it, so a file is never between two versions.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from sqlalchemy import Connection, func, insert, inspect, select

from trimtab_storage.errors import SchemaError
from trimtab_storage.schema import FRONTIER_VIEW, metadata, schema_version

Migration = Callable[[Connection], None]

MIGRATIONS: Sequence[Migration] = ()


def prepare(connection: Connection, now: str, migrations: Sequence[Migration] = MIGRATIONS) -> None:
    """Creates the schema in a new file, or migrates an older one.

    Call it inside one write transaction: two processes that open a new file at once are then one
    after the other, and the second finds the work done.

    Raises:
        SchemaError: The file was written by a newer version, or by another program.
    """
    newest = 1 + len(migrations)
    version = _version(connection)
    if version is None:
        _create(connection)
        _record(connection, newest, now)
        return
    _refuse_newer(version, newest)
    for migrate in migrations[version - 1 :]:
        version += 1
        migrate(connection)
        _record(connection, version, now)


def check(connection: Connection, migrations: Sequence[Migration] = MIGRATIONS) -> None:
    """Makes sure that a file can be read as it is, without writing.

    Raises:
        SchemaError: It is of another schema version, or no database of ours.
    """
    newest = 1 + len(migrations)
    version = _version(connection)
    if version is None:
        raise SchemaError(
            "the database must be one of trimtab's, but it has none of its tables: "
            "run `trimtab run` first or pass --db"
        )
    _refuse_newer(version, newest)
    if version < newest:
        raise SchemaError(
            f"the database has schema version {version}, but this trimtab reads {newest}: "
            "continue the study once with `trimtab run` to upgrade it"
        )


def _version(connection: Connection) -> int | None:
    tables = set(inspect(connection).get_table_names())
    if schema_version.name in tables:
        newest = connection.scalar(select(func.max(schema_version.c.version)))
        return None if newest is None else int(newest)
    foreign = sorted(tables & set(metadata.tables))
    if foreign:
        raise SchemaError(
            f"the database must be one of trimtab's, but its table {foreign[0]!r} was made by "
            "another program: pass --db with another file"
        )
    return None


def _refuse_newer(version: int, newest: int) -> None:
    if version > newest:
        raise SchemaError(
            f"the database has schema version {version}, but this trimtab knows only up to "
            f"{newest}: install a newer trimtab or pass --db with another file"
        )


def _create(connection: Connection) -> None:
    metadata.create_all(connection)
    connection.exec_driver_sql(FRONTIER_VIEW)


def _record(connection: Connection, version: int, now: str) -> None:
    connection.execute(insert(schema_version).values(version=version, applied_at=now))
