"""Which points to time next: those that are expected to be on the frontier, near the budget."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from trimtab._parts import OTHERS, Latency, parts_of
from trimtab.controller._expected import PREDICTED, Expectation, is_timed, predicted_of
from trimtab.frontier import non_dominated
from trimtab.selection import Limits, best, closest, is_feasible
from trimtab_storage import PointRow
from trimtab_strategies import registry

MOST_TRIES = 3
"""How often a point is timed again whose latency was not stable."""

WELL_USED = 0.92
"""The part of the limit from which on there is little left to gain."""


@dataclass(frozen=True, slots=True)
class Prospective:
    """A point as selection would see it if it took what it is expected to.

    ``others`` is what is known of it for further limits on latency. It ``aims`` where it was made
    at a cost that was asked for.
    """

    id: int
    artifact_key: str
    knobs: Mapping[str, Any]
    metric: float
    drop: float
    flops: float
    flops_ratio: float
    latency: Mapping[str, Any]
    predicted: Mapping[str, float] | None
    is_dense: bool
    is_timed: bool
    tries: int
    others: tuple[Latency, ...] = ()
    aims: bool = False

    @classmethod
    def of(cls, point: PointRow, expectation: Expectation) -> Prospective:
        """Reads a point of the store."""
        return cls(
            id=point.id,
            artifact_key=point.artifact_key,
            knobs=point.knobs,
            metric=point.metric,
            drop=point.drop,
            flops=point.flops,
            flops_ratio=point.flops_ratio,
            latency=expectation.as_if_timed(point.latency, point.flops_ratio),
            predicted=(point.latency or {}).get(PREDICTED),
            is_dense=not point.recipe,
            is_timed=is_timed(point.latency),
            tries=int((point.latency or {}).get("tries", 0)),
            others=tuple((point.latency or {}).get(OTHERS) or ()),
            aims=_aims(point),
        )

    @property
    def expected_ms(self) -> float:
        """What it takes, or is expected to."""
        return float(self.latency["high"])

    @property
    def is_open(self) -> bool:
        """Tells whether timing it may tell something; some are never stable."""
        return not self.is_timed and self.tries < MOST_TRIES


def _aims(point: PointRow) -> bool:
    last = point.recipe[-1]["strategy"] if point.recipe else None
    return last in registry.names() and registry.get(last).aims and not point.knobs


def worth_timing(points: Iterable[Prospective], limits: Limits, most: int) -> list[Prospective]:
    """Gives at most so many points that are not timed yet, the most useful first.

    The first is the one that would be delivered if all took what they are expected to. The others
    are those that nothing else is expected to beat, within the drop before others, and near the
    budget before others.
    """
    known = [p for p in points if p.is_timed or p.is_open]
    flags = non_dominated([p.drop for p in known], [p.expected_ms for p in known])
    winner = would_be_delivered(known, limits)
    chosen = [
        p for p, flag in zip(known, flags, strict=True) if p.is_open and (flag or p is winner)
    ]
    return sorted(chosen, key=lambda p: (p is not winner, *_distance(p, limits)))[:most]


def is_settled(points: Iterable[Prospective], limits: Limits) -> bool:
    """Tells whether what would be delivered was timed."""
    winner = would_be_delivered([p for p in points if p.is_timed or p.is_open], limits)
    return winner is None or winner.is_timed


def would_be_delivered(points: Sequence[Prospective], limits: Limits) -> Prospective | None:
    """Gives the best point if all took what they are expected to, or else the closest."""
    made = [point for point in points if not point.is_dense]
    return best(points, limits) or (closest(made, limits) if made else None)


def slowness(
    points: Iterable[Prospective], limits: Limits, expectation: Expectation
) -> list[float]:
    """Tells for each limit how much longer models take than was expected, if that is why they miss.

    It is that of models that were made for the limit, were expected to be within it and are not; 1
    where there are none, and where something that may be delivered makes use of what is allowed.
    """
    timed = [point for point in points if point.is_timed]
    every = zip(limits.latencies_ms, (expectation, *expectation.others), strict=True)
    found = []
    for place, (limit_ms, each) in enumerate(every):
        taken = [_taken_ms(point, place) for point in timed if is_feasible(point, limits)]
        is_used = any(ms >= WELL_USED * limit_ms for ms in taken)
        made = [_taken_and_expected(point, place, each) for point in timed if point.aims]
        over = [ms / expected for ms, expected in made if expected <= limit_ms < ms]
        found.append(1.0 if is_used or not over else statistics.median(over))
    return found


def _taken_ms(point: Prospective, place: int) -> float:
    return float(parts_of(point.latency)[place]["high"])


def _taken_and_expected(
    point: Prospective, place: int, expectation: Expectation
) -> tuple[float, float]:
    """Gives what a point takes of one limit, and what was expected of it before."""
    guess = point.predicted if place == 0 else predicted_of(point.others[place - 1])
    expected = expectation.ms({PREDICTED: guess}, point.flops_ratio)
    return _taken_ms(point, place), expected


def _distance(point: Prospective, limits: Limits) -> tuple[bool, float]:
    is_over = limits.max_drop is not None and point.drop > limits.max_drop
    if limits.max_latency_ms is None:
        return is_over, point.expected_ms
    expected = [max(float(part["high"]), 1e-9) for part in parts_of(point.latency)]
    # Of several limits the one that binds.
    shares = [ms / limit for ms, limit in zip(expected, limits.latencies_ms, strict=False)]
    return is_over, abs(math.log(max(shares)))
