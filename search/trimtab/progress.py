"""How far a search has come: the hypervolume of what it found, now and trial by trial.

Every point spans a rectangle with a reference point that is worse in drop and in cost; the
hypervolume is the area of all of them together. It grows exactly when the frontier does, so it is
one number for a whole frontier.

The reference is the dense model's cost, and a drop of ten points more than the spec allows: far
enough that recipes which are nearly good enough show, near enough that how far off hopeless ones
are counts for nothing. The area is told as a share of the rectangle between the reference and a
model without drop that costs nothing; it can be more than one where models beat the baseline.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

from trimtab.frontier import hypervolume
from trimtab_storage import PointRow, TrialRow, TrialState

Pair = tuple[float, float]
"""The drop and the cost of one point, the cost as a fraction of the baseline's FLOPs."""

BEYOND_MAX_DROP, DENSE_COST = 0.10, 1.0
BREAK_S = 60.0


def share_of(pairs: Iterable[Pair], max_drop: float) -> float:
    """Measures the hypervolume of points as a share of the whole rectangle."""
    worst = max_drop + BEYOND_MAX_DROP
    inside = [(drop, cost) for drop, cost in pairs if drop < worst and cost < DENSE_COST]
    drops, costs = [drop for drop, _ in inside], [cost for _, cost in inside]
    return hypervolume(drops, costs, (worst, DENSE_COST)) / (worst * DENSE_COST)


def hypervolume_of(points: Sequence[PointRow], max_drop: float | None) -> float | None:
    """Measures a study's frontier; None while there is no limit or nothing but the baseline."""
    if max_drop is None or not any(point.recipe for point in points):
        return None
    # Of many points few are on the frontier, and the others would add nothing.
    return share_of([pair_of(point) for point in points if point.on_flops_frontier], max_drop)


def pair_of(point: PointRow) -> Pair:
    """Gives a point's drop and cost."""
    return point.drop, point.flops_ratio


def by_ended(trials: Iterable[TrialRow]) -> list[TrialRow]:
    """Gives the trials that have ended, complete or failed, in the order in which they did."""
    ended = [t for t in trials if t.state in (TrialState.COMPLETE, TrialState.FAILED)]
    return sorted(ended, key=lambda trial: (trial.finished_at or "", trial.number))


@dataclass(frozen=True)
class Grown:
    """The hypervolume after a trial; ``at_s`` is when it ended, in seconds of search."""

    trial: TrialRow
    at_s: float
    hypervolume: float


def growth(trials: Iterable[TrialRow], points: Sequence[PointRow], max_drop: float) -> list[Grown]:
    """Tells how the hypervolume grew, trial by trial in the order in which they ended.

    Points that belong to no trial were there before. Time counts while trials ran: breaks of more
    than a minute, as between the runs of a study, are left out.
    """
    ended, by_trial = by_ended(trials), pairs_by_trial(points)
    front = by_trial.get(None, [])
    grown = []
    for trial, at_s in zip(ended, _search_times(ended), strict=True):
        front = front_of([*front, *by_trial.get(trial.id, [])])
        grown.append(Grown(trial, at_s, share_of(front, max_drop)))
    return grown


def pairs_by_trial(points: Iterable[PointRow]) -> dict[int | None, list[Pair]]:
    """Sorts points by the trial that measured them first; None for none."""
    sorted_in: dict[int | None, list[Pair]] = {}
    for point in points:
        sorted_in.setdefault(point.trial_id, []).append(pair_of(point))
    return sorted_in


def front_of(pairs: Iterable[Pair]) -> list[Pair]:
    """Leaves out the points that another beats or equals."""
    kept: list[Pair] = []
    for cost, drop in sorted((cost, drop) for drop, cost in pairs):
        if not kept or drop < kept[-1][0]:
            kept.append((drop, cost))
    return kept


def _search_times(ended: Sequence[TrialRow]) -> list[float]:
    """Counts for each trial the seconds of search up to its end."""
    spans = _spans((_end_s(trial) - (trial.seconds or 0.0), _end_s(trial)) for trial in ended)
    return [
        sum(min(stop, now) - start for start, stop in spans if start < now)
        for now in map(_end_s, ended)
    ]


def _spans(pieces: Iterable[tuple[float, float]]) -> list[tuple[float, float]]:
    """Joins what overlaps or has only a short break between."""
    joined: list[tuple[float, float]] = []
    for start, stop in sorted(pieces):
        if joined and start <= joined[-1][1] + BREAK_S:
            start, before = joined.pop()
            stop = max(stop, before)
        joined.append((start, stop))
    return joined


def _end_s(trial: TrialRow) -> float:
    assert trial.finished_at is not None, "a trial that has ended says when"
    return datetime.fromisoformat(trial.finished_at).timestamp()
