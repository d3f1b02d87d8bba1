"""The frontier: kept as a flag by whoever inserts points, so that reading it is a short range scan.

A search point is beaten when another one has drop <= and cost <= its own, one of them strictly;
exact ties stay together. What is beaten stays beaten, so new points need only be compared with the
flagged ones and with each other.
"""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import (
    CTE,
    ColumnElement,
    CompoundSelect,
    Connection,
    Select,
    Update,
    bindparam,
    func,
    literal_column,
    not_,
    or_,
    select,
    union,
    union_all,
    update,
)

from trimtab_storage.errors import InvalidValueError
from trimtab_storage.rows import Cost, Split
from trimtab_storage.schema import point

# A literal, because a bound parameter would keep SQLite from using the partial indexes.
_YES: ColumnElement[int] = literal_column("1")

# Limits are held against differences and ratios of floats: 0.92 - 0.91 > 0.01 by one rounding.
RELATIVE_SLACK = 1e-9


@dataclass(frozen=True)
class Limits:
    """What a point must meet; None is no limit, and equality meets it (up to rounding).

    A point without a latency does not meet a limit on it; one with a latency is held to the upper
    end of its interval.
    """

    max_drop: float | None = None
    max_flops_ratio: float | None = None
    max_flops: float | None = None
    max_latency_ms: float | None = None

    def conditions(self) -> list[ColumnElement[bool]]:
        """Gives the limits that are set, as conditions on points."""
        pairs = (
            (point.c.drop, self.max_drop),
            (point.c.flops_ratio, self.max_flops_ratio),
            (point.c.flops, self.max_flops),
            (point.c.latency_high_ms, self.max_latency_ms),
        )
        return [
            column <= limit + abs(limit) * RELATIVE_SLACK
            for column, limit in pairs
            if limit is not None
        ]


def query(study_id: int, cost: Cost | str, limits: Limits) -> Select[tuple[object, ...]]:
    """Selects the members of a frontier that meet the limits, cheapest first."""
    try:
        flag, value = _AXES[Cost(cost)]
    except ValueError:
        raise InvalidValueError(
            f"a frontier's cost must be {' or '.join(Cost)}, got {cost!r}"
        ) from None
    return (
        select(point)
        .where(point.c.study_id == study_id, flag == _YES, *limits.conditions())
        .order_by(value, point.c.drop, point.c.id)
    )


def artifact_keys() -> CompoundSelect[tuple[str]]:
    """Selects the artifacts that have a point on any frontier of any study."""
    flagged = (select(point.c.artifact_key).where(flag == _YES) for flag, _ in _AXES.values())
    return union(*flagged)


def mark(connection: Connection, study_id: int, after_id: int) -> None:
    """Sets the flags right again after points with an id above `after_id` were inserted.

    Call it in the inserting transaction. Takes O(m log m) steps for m flagged and new points,
    however many others the study has.
    """
    for statement in _FLIPS:
        connection.execute(statement, {"study": study_id, "after": after_id})


def mark_latencies(connection: Connection, study_id: int) -> None:
    """Sets the flags of the latency frontier right after latencies of old points have changed.

    What was beaten may not be any more, so all points of the study that have a latency are looked
    at; those are few beside the others.
    """
    connection.execute(_FORGET, {"study": study_id})
    connection.execute(_REMARK, {"study": study_id})


def _flip(
    flag: ColumnElement[bool], cost: ColumnElement[float], candidates: CTE | None = None
) -> Update:
    if candidates is None:
        candidates = _candidates(flag, cost)
    unbeaten = _unbeaten(candidates)
    wrong = select(candidates.c.id).where(
        candidates.c.flagged != candidates.c.id.in_(unbeaten.scalar_subquery())
    )
    return update(point).where(point.c.id.in_(wrong)).values({flag: not_(flag)})


def _candidates(flag: ColumnElement[bool], cost: ColumnElement[float]) -> CTE:
    flagged = select(
        point.c.id, cost.label("cost"), point.c.drop, literal_column("1").label("flagged")
    ).where(point.c.study_id == bindparam("study"), flag == _YES)
    # No condition on the study: inside the inserting transaction the ids say it all, and it would
    # invite a walk through the study's other points.
    new = select(
        point.c.id, cost.label("cost"), point.c.drop, literal_column("0").label("flagged")
    ).where(point.c.id > bindparam("after"), point.c.split == Split.SEARCH.value, cost.is_not(None))
    return union_all(flagged, new).cte("candidates")


def _every(flag: ColumnElement[bool], cost: ColumnElement[float]) -> CTE:
    own = point.c.study_id == bindparam("study"), point.c.split == Split.SEARCH.value
    query = select(point.c.id, cost.label("cost"), point.c.drop, flag.label("flagged"))
    return query.where(*own, cost.is_not(None)).cte("candidates")


def _unbeaten(candidates: CTE) -> Select[tuple[int]]:
    least = func.min(candidates.c.drop)
    cheaper = func.min(least).over(order_by=candidates.c.cost, rows=(None, -1))
    best = (
        select(candidates.c.cost, least.label("least"), cheaper.label("cheaper"))
        .group_by(candidates.c.cost)
        .cte("best")
    )
    return (
        select(candidates.c.id)
        .join(best, best.c.cost == candidates.c.cost)
        .where(
            candidates.c.drop == best.c.least,
            or_(best.c.cheaper.is_(None), best.c.least < best.c.cheaper),
        )
    )


_AXES = {
    Cost.FLOPS: (point.c.on_flops_frontier, point.c.flops),
    Cost.LATENCY: (point.c.on_latency_frontier, point.c.latency_ms),
}
_FLIPS = [_flip(flag, cost) for flag, cost in _AXES.values()]
_ON_LATENCY = _AXES[Cost.LATENCY]
_REMARK = _flip(*_ON_LATENCY, _every(*_ON_LATENCY))
_FORGET = (
    update(point)
    .where(point.c.study_id == bindparam("study"), point.c.on_latency_frontier == _YES)
    .where(point.c.latency_ms.is_(None))
    .values(on_latency_frontier=False)
)
