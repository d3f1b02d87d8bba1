"""The rows of the points: inserted once per artifact, knobs and split, frontier flags kept."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any

from sqlalchemy import Connection, Row, bindparam, func, select, update
from sqlalchemy.dialects.sqlite import insert

from trimtab_storage import _json, frontier
from trimtab_storage.errors import UnknownRowError
from trimtab_storage.rows import Json, NewPoint, PointRow, Split
from trimtab_storage.schema import point

# In the order of the row's fields, so that a row is made by position.
_FIELDS = [point.c[field.name] for field in fields(PointRow)]
_KEEP_FIRST = insert(point).on_conflict_do_nothing(
    index_elements=["study_id", "artifact_key", "knobs_key", "split"]
)

_LATENCY_COLUMNS = ("latency", "latency_ms", "latency_high_ms")

_Key = tuple[str, str, str]


def add(
    connection: Connection,
    study_id: int,
    trial_id: int | None,
    points: Sequence[NewPoint],
    now: str,
) -> tuple[list[int], int]:
    """Inserts points, keeping those that are there already, and sets the frontier flags.

    Returns:
        The ids in the order of the points, and how many of these rows are of other trials.
    """
    if not points:
        return [], 0
    last = connection.scalar(select(func.max(point.c.id))) or 0
    connection.execute(_KEEP_FIRST, [_values(study_id, trial_id, new, now) for new in points])
    frontier.mark(connection, study_id, last)
    found = _owners(connection, study_id, points)
    rows = [found[_key(new)] for new in points]
    return [row_id for row_id, _ in rows], sum(owner != trial_id for _, owner in set(rows))


def listed(
    connection: Connection, study_id: int, split: str | None, after_id: int = 0
) -> list[PointRow]:
    newer = point.c.study_id == study_id, point.c.id > after_id
    query = select(*_FIELDS).where(*newer).order_by(point.c.id)
    if split is not None:
        query = query.where(point.c.split == split)
    return [_row(row) for row in connection.execute(query)]


def count(connection: Connection, study_id: int) -> int:
    own = point.c.study_id == study_id, point.c.split == Split.SEARCH.value
    return connection.execute(select(func.count()).select_from(point).where(*own)).scalar_one()


def has_latency(connection: Connection, study_id: int) -> bool:
    own = point.c.study_id == study_id, point.c.latency_ms.is_not(None)
    return connection.execute(select(point.c.id).where(*own).limit(1)).first() is not None


def by_id(connection: Connection, point_id: int) -> PointRow | None:
    row = connection.execute(select(*_FIELDS).where(point.c.id == point_id)).one_or_none()
    return None if row is None else _row(row)


def on_frontier(
    connection: Connection, study_id: int, cost: str, limits: frontier.Limits
) -> list[PointRow]:
    query = frontier.query(study_id, cost, limits).with_only_columns(*_FIELDS)
    return [_row(row) for row in connection.execute(query)]


def set_feasible(connection: Connection, point_ids: Sequence[int], feasible: bool) -> None:
    wanted = select(func.json_each(_json.dumps(list(point_ids))).table_valued("value").c.value)
    connection.execute(update(point).where(point.c.id.in_(wanted)).values(feasible=feasible))


def set_latencies(
    connection: Connection, study_id: int, latencies: Mapping[int, Json | None]
) -> list[PointRow]:
    """Gives points another latency, sets the flags of its frontier, and gives these points.

    Raises:
        UnknownRowError: if one is no point of the study.
    """
    own = point.c.study_id == study_id, point.c.id == bindparam("of")
    columns: dict[str, Any] = {name: bindparam(f"new_{name}") for name in _LATENCY_COLUMNS}
    values = [
        {"of": point_id, **{f"new_{k}": v for k, v in _latency_values(latency).items()}}
        for point_id, latency in latencies.items()
    ]
    if values:
        connection.execute(update(point).where(*own).values(columns), values)
        frontier.mark_latencies(connection, study_id)
    rows = [by_id(connection, point_id) for point_id in latencies]
    found = [row for row in rows if row is not None and row.study_id == study_id]
    if len(found) < len(rows):
        raise UnknownRowError(f"latencies must be of points of study {study_id}, but one is not")
    return found


def _owners(
    connection: Connection, study_id: int, points: Sequence[NewPoint]
) -> dict[_Key, tuple[int, int | None]]:
    keys = sorted({new.artifact_key for new in points})
    wanted = select(func.json_each(_json.dumps(keys)).table_valued("value").c.value)
    query = select(
        point.c.id, point.c.trial_id, point.c.artifact_key, point.c.knobs_key, point.c.split
    ).where(point.c.study_id == study_id, point.c.artifact_key.in_(wanted))
    return {
        (row.artifact_key, row.knobs_key, row.split): (row.id, row.trial_id)
        for row in connection.execute(query)
    }


def _key(new: NewPoint) -> _Key:
    return new.artifact_key, _json.dumps(new.knobs), str(new.split)


def _values(study_id: int, trial_id: int | None, new: NewPoint, now: str) -> dict[str, Any]:
    # The casts take the number types of other libraries, which SQLite would store as bytes.
    return {
        "study_id": study_id,
        "trial_id": trial_id,
        "artifact_key": new.artifact_key,
        "recipe": new.recipe,
        "knobs": new.knobs,
        "knobs_key": _json.dumps(new.knobs),
        "split": str(new.split),
        "n": int(new.n),
        "metric": float(new.metric),
        "drop": float(new.drop),
        "flops": float(new.flops),
        "flops_ratio": float(new.flops_ratio),
        "params": int(new.params),
        **_latency_values(new.latency),
        "feasible": bool(new.feasible),
        "on_flops_frontier": False,
        "on_latency_frontier": False,
        "created_at": now,
    }


def _latency_values(latency: Json | None) -> dict[str, Any]:
    return dict(zip(_LATENCY_COLUMNS, (latency, *_latency(latency)), strict=True))


def _latency(latency: Json | None) -> tuple[float | None, float | None]:
    """Gives what a latency counts as on the frontier and against a limit; None if unusable."""
    if latency is None or latency.get("value") is None or latency.get("verdict") == "unstable":
        return None, None
    value, high = latency["value"], latency.get("high")
    return float(value), float(value if high is None else high)


def _row(row: Row[Any]) -> PointRow:
    values: tuple[Any, ...] = tuple(row)
    return PointRow(*values)
