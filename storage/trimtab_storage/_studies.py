"""The rows of the studies."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, Row, select, update
from sqlalchemy.dialects.sqlite import insert

from trimtab_storage.errors import InvalidValueError
from trimtab_storage.rows import Json, StudyRow, StudyState
from trimtab_storage.schema import study


def listed(connection: Connection) -> list[StudyRow]:
    return [_row(row) for row in connection.execute(select(study).order_by(study.c.id))]


def named(connection: Connection, name: str) -> StudyRow | None:
    row = connection.execute(select(study).where(study.c.name == name)).one_or_none()
    return None if row is None else _row(row)


def create(
    connection: Connection, name: str, spec: Json, fingerprint: Json, limits: Json, now: str
) -> StudyRow:
    statement = insert(study).values(
        name=name,
        spec=spec,
        fingerprint=fingerprint,
        limits=limits,
        state=StudyState.NEW.value,
        elapsed_s=0.0,
        fence=0,
        created_at=now,
    )
    connection.execute(statement.on_conflict_do_nothing(index_elements=[study.c.name]))
    return _row(connection.execute(select(study).where(study.c.name == name)).one())


def change(connection: Connection, study_id: int, values: dict[str, Any]) -> StudyRow:
    """Sets the columns whose value is not None."""
    given = {name: value for name, value in values.items() if value is not None}
    if "state" in given:
        given["state"] = _state(given["state"]).value
    if given:
        connection.execute(update(study).where(study.c.id == study_id).values(given))
    return _row(connection.execute(select(study).where(study.c.id == study_id)).one())


def _state(word: str) -> StudyState:
    try:
        return StudyState(word)
    except ValueError:
        raise InvalidValueError(
            f"a study's state must be one of {', '.join(StudyState)}, got {word!r}"
        ) from None


def _row(row: Row[Any]) -> StudyRow:
    values = dict(row._mapping)
    return StudyRow(**{**values, "state": StudyState(values["state"])})
