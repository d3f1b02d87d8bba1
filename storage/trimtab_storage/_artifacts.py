"""The rows of the artifacts; they belong to no study, so all studies reuse them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict
from typing import Any

from sqlalchemy import Connection, Row, func, select, update
from sqlalchemy.dialects.sqlite import insert

from trimtab_storage import _json, frontier
from trimtab_storage.rows import ArtifactRow, NewArtifact
from trimtab_storage.schema import artifact

_FILE_FACTS = ("path", "sha256", "size_bytes")


def by_key(connection: Connection, key: str) -> ArtifactRow | None:
    row = connection.execute(select(artifact).where(artifact.c.key == key)).one_or_none()
    return None if row is None else _row(row)


def is_kept(connection: Connection, key: str) -> bool:
    path = artifact.c.path.is_not(None)
    return connection.scalar(select(artifact.c.key).where(artifact.c.key == key, path)) is not None


def listed(connection: Connection, keys: Iterable[str] | None) -> list[ArtifactRow]:
    query = select(artifact).order_by(artifact.c.created_at, artifact.c.key)
    if keys is not None:
        wanted = func.json_each(_json.dumps(list(keys))).table_valued("value")
        query = query.where(artifact.c.key.in_(select(wanted.c.value)))
    return [_row(row) for row in connection.execute(query)]


def kept(connection: Connection) -> list[ArtifactRow]:
    query = select(artifact).where(artifact.c.path.is_not(None)).order_by(artifact.c.key)
    return [_row(row) for row in connection.execute(query)]


def any_path(connection: Connection) -> str | None:
    """Gives where one of the kept artifacts lies; all of a database lie in one place."""
    query = select(artifact.c.path).where(artifact.c.path.is_not(None)).limit(1)
    return connection.scalar(query)


def models_off_frontiers(connection: Connection) -> list[str]:
    """Gives the kept models that are on no study's frontier, and that none on one was made from."""
    on_one = frontier.artifact_keys()
    made = artifact.alias("made")
    parents = select(made.c.parent_key).where(
        made.c.key.in_(on_one), made.c.path.is_not(None), made.c.parent_key.is_not(None)
    )
    query = select(artifact.c.key).where(
        artifact.c.kind == "model",
        artifact.c.path.is_not(None),
        artifact.c.key.not_in(on_one),
        artifact.c.key.not_in(parents),
    )
    return list(connection.scalars(query))


def record(connection: Connection, artifacts: Iterable[NewArtifact], now: str) -> None:
    """Inserts artifacts; of those that are there, the file facts are renewed and meta is merged.

    Merged, because the same model may be measured again, by another metric or on other rows.
    """
    statement = insert(artifact)
    newest = {name: statement.excluded[name] for name in _FILE_FACTS}
    meta = func.json_patch(artifact.c.meta, statement.excluded.meta)
    statement = statement.on_conflict_do_update(
        index_elements=[artifact.c.key],
        set_={**newest, "meta": meta},
        where=newest["path"].is_not(None),
    )
    rows = [{**asdict(new), "created_at": now} for new in artifacts]
    if rows:
        connection.execute(statement, rows)


def forget_files(connection: Connection, keys: Iterable[str]) -> None:
    wanted = func.json_each(_json.dumps(list(keys))).table_valued("value")
    of_them = artifact.c.key.in_(select(wanted.c.value))
    connection.execute(update(artifact).where(of_them).values(path=None))


def _row(row: Row[Any]) -> ArtifactRow:
    return ArtifactRow(**row._mapping)
