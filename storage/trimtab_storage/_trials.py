"""The life of a trial: waiting → running → complete or failed, recorded exactly once.

A running attempt is named by the trial's count of attempts and the fence of the lease it was
started under. What comes back for another attempt than the running one is late, and is dropped.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, Row, Update, func, insert, select, update

from trimtab_storage.errors import (
    DuplicateRecipeError,
    StaleResultError,
    TrialStateError,
    UnknownRowError,
)
from trimtab_storage.rows import Json, Lease, Recipe, TrialRow, TrialState
from trimtab_storage.schema import trial

REASON = "reason"
"""In a result: why a complete trial has less to show than others."""

_FIELDS = [column for column in trial.c if column is not trial.c.fence]


def listed(
    connection: Connection,
    study_id: int,
    state: TrialState | str | None = None,
    from_number: int = 0,
) -> list[TrialRow]:
    wanted = trial.c.study_id == study_id, trial.c.number >= from_number
    query = select(*_FIELDS).where(*wanted).order_by(trial.c.number)
    if state is not None:
        query = query.where(trial.c.state == TrialState(state).value)
    return [_row(row) for row in connection.execute(query)]


def by_id(connection: Connection, trial_id: int) -> TrialRow | None:
    row = connection.execute(select(*_FIELDS).where(trial.c.id == trial_id)).one_or_none()
    return None if row is None else _row(row)


def counts(connection: Connection, study_id: int) -> dict[str, int]:
    query = (
        select(trial.c.state, func.count())
        .where(trial.c.study_id == study_id)
        .group_by(trial.c.state)
    )
    found = {state: count for state, count in connection.execute(query)}
    return {state.value: found.get(state.value, 0) for state in TrialState}


def add(
    connection: Connection, study_id: int, recipe: Recipe, recipe_key: str, now: str
) -> TrialRow:
    of_study = trial.c.study_id == study_id
    same = connection.scalar(
        select(trial.c.number).where(of_study, trial.c.recipe_key == recipe_key)
    )
    if same is not None:
        raise DuplicateRecipeError(same)
    last = connection.scalar(select(func.max(trial.c.number)).where(of_study))
    statement = insert(trial).values(
        study_id=study_id,
        number=0 if last is None else last + 1,
        recipe=recipe,
        recipe_key=recipe_key,
        state=TrialState.WAITING.value,
        attempts=0,
        fence=0,
        reused=0,
        shared_points=0,
        created_at=now,
    )
    return _row(connection.execute(statement.returning(*_FIELDS)).one())


def start(connection: Connection, lease: Lease, trial_id: int) -> int:
    attempt = connection.execute(
        _of(lease, trial_id)
        .where(trial.c.state == TrialState.WAITING.value)
        .values(state=TrialState.RUNNING.value, attempts=trial.c.attempts + 1, fence=lease.fence)
        .returning(trial.c.attempts)
    ).scalar_one_or_none()
    if attempt is None:
        found = _state(connection, lease, trial_id)
        raise TrialStateError(f"a trial to start must be waiting, but trial {trial_id} is {found}")
    return int(attempt)


def requeue(connection: Connection, lease: Lease, trial_id: int, attempt: int, reason: str) -> None:
    values = {"state": TrialState.WAITING.value, "reason": reason}
    _end_attempt(connection, lease, trial_id, attempt, values)


def fail(
    connection: Connection,
    lease: Lease,
    trial_id: int,
    attempt: int,
    *,
    reason: str,
    seconds: float | None,
    now: str,
) -> None:
    values = {
        "state": TrialState.FAILED.value,
        "reason": reason,
        "seconds": seconds,
        "finished_at": now,
    }
    _end_attempt(connection, lease, trial_id, attempt, values)


def complete(
    connection: Connection,
    lease: Lease,
    trial_id: int,
    attempt: int,
    *,
    seconds: float,
    reused: int,
    result: Json,
    now: str,
) -> None:
    values = {
        "state": TrialState.COMPLETE.value,
        "reason": result.get(REASON),
        "seconds": seconds,
        "reused": reused,
        "result": result,
        "finished_at": now,
    }
    _end_attempt(connection, lease, trial_id, attempt, values)


def extend(
    connection: Connection,
    lease: Lease,
    trial_id: int,
    seconds: float,
    result: Json | None,
    now: str,
) -> None:
    """Adds the time of further work to a complete trial, and what came of it, which ends it now."""
    values: dict[str, Any] = {"seconds": func.coalesce(trial.c.seconds, 0.0) + seconds}
    if result is not None:
        values |= {"result": result, "reason": result.get(REASON), "finished_at": now}
    done = connection.execute(
        _of(lease, trial_id).where(trial.c.state == TrialState.COMPLETE.value).values(values)
    )
    if done.rowcount == 0:
        found = _state(connection, lease, trial_id)
        raise TrialStateError(
            f"a trial to add points to must be complete, but trial {trial_id} is {found}"
        )


def count_shared(connection: Connection, trial_id: int, shared: int) -> None:
    """Notes how many points of a trial's result an earlier trial had measured already."""
    connection.execute(update(trial).where(trial.c.id == trial_id).values(shared_points=shared))


def recover(connection: Connection, lease: Lease, *, own: bool = False) -> list[TrialRow]:
    """Puts back what earlier controllers left running, and gives the attempt back.

    With `own`, what was started under this lease is put back too.
    """
    fence = lease.fence + 1 if own else lease.fence
    statement = (
        update(trial)
        .where(
            trial.c.study_id == lease.study_id,
            trial.c.state == TrialState.RUNNING.value,
            trial.c.fence < fence,
        )
        .values(state=TrialState.WAITING.value, attempts=trial.c.attempts - 1)
        .returning(*_FIELDS)
    )
    rows = [_row(row) for row in connection.execute(statement)]
    return sorted(rows, key=lambda row: row.number)


def _end_attempt(
    connection: Connection, lease: Lease, trial_id: int, attempt: int, values: dict[str, Any]
) -> None:
    ended = connection.execute(
        _of(lease, trial_id)
        .where(
            trial.c.state == TrialState.RUNNING.value,
            trial.c.attempts == attempt,
            trial.c.fence == lease.fence,
        )
        .values(values)
    )
    if ended.rowcount == 0:
        found = _state(connection, lease, trial_id)
        raise StaleResultError(
            f"a result must be of the running attempt, but attempt {attempt} of trial {trial_id} "
            f"is over (the trial is {found}): it was dropped"
        )


def _of(lease: Lease, trial_id: int) -> Update:
    return update(trial).where(trial.c.id == trial_id, trial.c.study_id == lease.study_id)


def _state(connection: Connection, lease: Lease, trial_id: int) -> str:
    row = connection.execute(
        select(trial.c.state, trial.c.attempts).where(
            trial.c.id == trial_id, trial.c.study_id == lease.study_id
        )
    ).one_or_none()
    if row is None:
        raise UnknownRowError(
            f"a trial must exist, but study {lease.study_id} has none with id {trial_id}"
        )
    return f"{row.state} after {row.attempts} attempt(s)"


def _row(row: Row[Any]) -> TrialRow:
    values = dict(row._mapping)
    return TrialRow(**{**values, "state": TrialState(values["state"])})
