"""The lease on a study: one controller at a time, and a paused one cannot come back.

Every acquisition raises the study's fence. A write names the fence it was leased under and is
refused, in its own transaction, once another controller has raised it further.
"""

from __future__ import annotations

from collections.abc import Callable

from sqlalchemy import Connection, select, update

from trimtab_storage.errors import LeaseHeldError, LeaseLostError, UnknownRowError
from trimtab_storage.rows import Lease, StudyState
from trimtab_storage.schema import study

IsDead = Callable[[str], bool]


def acquire(
    connection: Connection,
    study_id: int,
    owner: str,
    *,
    now: float,
    expires: float,
    is_dead: IsDead | None,
) -> Lease:
    """Takes the study if it is free, if its lease has run out or if its owner is dead.

    It is running from then on: no moment shows a finished study that somebody holds.
    """
    row = connection.execute(
        select(study.c.lease_owner, study.c.lease_expires, study.c.fence).where(
            study.c.id == study_id
        )
    ).one_or_none()
    if row is None:
        raise UnknownRowError(f"a study to lease must exist, but there is none with id {study_id}")
    if row.lease_owner is not None and row.lease_expires > now:
        dead = is_dead is not None and is_dead(row.lease_owner)
        if not dead:
            raise LeaseHeldError(row.lease_owner, row.lease_expires)
    lease = Lease(study_id, owner, row.fence + 1)
    connection.execute(
        update(study)
        .where(study.c.id == study_id)
        .values(
            lease_owner=owner,
            lease_expires=expires,
            fence=lease.fence,
            state=StudyState.RUNNING.value,
        )
    )
    return lease


def check(connection: Connection, lease: Lease) -> None:
    """Makes sure, inside a write transaction, that the lease is still ours.

    A lease that has run out but that nobody took is still good: the fence decides, not the clock.
    """
    row = connection.execute(
        select(study.c.lease_owner, study.c.fence).where(study.c.id == lease.study_id)
    ).one_or_none()
    if row is None or (row.lease_owner, row.fence) != (lease.owner, lease.fence):
        now = "nobody" if row is None or row.lease_owner is None else row.lease_owner
        raise LeaseLostError(
            f"to write for study {lease.study_id} its lease must be held, but {lease.owner} has "
            f"lost it and {now} holds it now: stop, and run the study again to continue it"
        )


def renew(connection: Connection, lease: Lease, expires: float) -> None:
    """Moves the moment at which the lease runs out."""
    connection.execute(
        update(study).where(study.c.id == lease.study_id).values(lease_expires=expires)
    )


def release(connection: Connection, lease: Lease) -> None:
    """Gives the study back; the fence stays, so the released lease writes nothing more."""
    connection.execute(
        update(study)
        .where(study.c.id == lease.study_id)
        .values(lease_owner=None, lease_expires=None)
    )
