"""The log of what happened to a study."""

from __future__ import annotations

from sqlalchemy import Connection, insert, select

from trimtab_storage.rows import EventRow, Json
from trimtab_storage.schema import event


def log(connection: Connection, study_id: int, kind: str, data: Json, now: str) -> int:
    statement = insert(event).values(study_id=study_id, kind=kind, data=data, created_at=now)
    return int(connection.execute(statement.returning(event.c.id)).scalar_one())


def after(
    connection: Connection, study_id: int, after_id: int, kind: str | None = None
) -> list[EventRow]:
    query = (
        select(event)
        .where(event.c.study_id == study_id, event.c.id > after_id)
        .order_by(event.c.id)
    )
    if kind is not None:
        query = query.where(event.c.kind == kind)
    return [EventRow(**row._mapping) for row in connection.execute(query)]
