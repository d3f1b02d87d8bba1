"""The frontier of measured points, by pure arithmetic: drop and cost, both smaller is better."""

from __future__ import annotations

import math
from collections.abc import Sequence


def non_dominated(drops: Sequence[float], costs: Sequence[float]) -> list[bool]:
    """Tells for each point whether no other point beats it.

    A point is beaten by one that is no worse in drop and in cost, and better in at least one of
    them; points that are exactly equal in both therefore stay or go together. O(n log n).

    Raises:
        ValueError: if the two differ in length or hold a value that is not finite.
    """
    # Not above: whoever asks for a hypervolume need not wait for it.
    import numpy as np

    _check(drops, costs)
    drop, cost = np.asarray(drops, dtype=np.float64), np.asarray(costs, dtype=np.float64)
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
    _check(drops, costs)
    worst_drop, worst_cost = reference
    _check([worst_drop], [worst_cost])
    area, reached = 0.0, worst_drop
    for cost, drop in sorted(zip(costs, drops, strict=True)):
        if cost < worst_cost and drop < reached:
            area += (reached - drop) * (worst_cost - cost)
            reached = drop
    return area


def _check(drops: Sequence[float], costs: Sequence[float]) -> None:
    if len(drops) != len(costs):
        raise ValueError(
            f"each point must have one drop and one cost, but got {len(drops)} drops "
            f"and {len(costs)} costs"
        )
    if not all(map(math.isfinite, (*drops, *costs))):
        raise ValueError(
            "drops and costs must be finite, but got infinity or nan; "
            "leave out the points that were not measured"
        )
