"""The frontier of measured points, by pure arithmetic: drop and cost, both smaller is better."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


def non_dominated(drops: Sequence[float], costs: Sequence[float]) -> list[bool]:
    """Tells for each point whether no other point beats it.

    A point is beaten by one that is no worse in drop and in cost, and better in at least one of
    them; points that are exactly equal in both therefore stay or go together. O(n log n).

    Raises:
        ValueError: if the two differ in length or hold a value that is not finite.
    """
    drop, cost = _pairs(drops, costs)
    if drop.size == 0:
        return []
    order = np.lexsort((drop, cost))
    drop, cost = drop[order], cost[order]
    # Points of one cost stand together, the smallest drop first: only those at that drop can
    # stay, and only if no cheaper group has reached it.
    starts = np.flatnonzero(np.r_[True, cost[1:] > cost[:-1]])
    smallest = drop[starts]
    reached = np.r_[np.inf, np.minimum.accumulate(smallest)[:-1]]
    sizes = np.diff(np.r_[starts, drop.size])
    stays = (drop == np.repeat(smallest, sizes)) & (drop < np.repeat(reached, sizes))
    flags = np.empty(drop.size, dtype=bool)
    flags[order] = stays
    return [bool(flag) for flag in flags]


def hypervolume(
    drops: Sequence[float], costs: Sequence[float], reference: tuple[float, float]
) -> float:
    """Measures the area between the points and a reference point that is worse than they are.

    ``reference`` is ``(drop, cost)``; the unit of the area is that of drop times that of cost.
    Points that are not better than the reference in both add nothing. O(n log n).

    Raises:
        ValueError: if drops and costs differ in length, or anything is not finite.
    """
    drop, cost = _pairs(drops, costs)
    worst_drop, worst_cost = reference
    _pairs([worst_drop], [worst_cost])
    inside = (drop < worst_drop) & (cost < worst_cost)
    order = np.argsort(cost[inside])
    drop, cost = drop[inside][order], cost[inside][order]
    widths = np.diff(np.r_[cost, worst_cost])
    heights = worst_drop - np.minimum.accumulate(drop)
    return float(widths @ heights)


def _pairs(drops: Sequence[float], costs: Sequence[float]) -> tuple[Floats, Floats]:
    drop, cost = np.asarray(drops, dtype=np.float64), np.asarray(costs, dtype=np.float64)
    if drop.shape != cost.shape or drop.ndim != 1:
        raise ValueError(
            f"each point must have one drop and one cost, but got {drop.size} drops "
            f"and {cost.size} costs"
        )
    if not (np.isfinite(drop).all() and np.isfinite(cost).all()):
        raise ValueError(
            "drops and costs must be finite, but got infinity or nan; "
            "leave out the points that were not measured"
        )
    return drop, cost
