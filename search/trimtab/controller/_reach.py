"""What a recipe costs at least, so that what cannot meet the budget is not tried.

Legend:
    n    length of one sample, in tokens
    r_s  the least cost that strategy s can reach, as a share of the dense cost, of one length

Several strategies bound each other's cost from below by the product of their shares. What takes
units has none (r = 0). Token rules keep a smaller share of every layer's work than of the first
one's, where attention sees all tokens; so of the layers below an exit they keep at least the share
that they keep of the whole model.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from trimtab.controller._space import sound_combinations
from trimtab_strategies import registry
from trimtab_strategies.cost import EncoderShape, LengthHistogram, mean_flops

SLACK = 1e-9
"""A least cost that is over the budget by no more than this share of it counts as within."""

Combination = tuple[str, ...]


def least_ratios(
    names: Sequence[str], shape: EncoderShape, histogram: LengthHistogram
) -> dict[Combination, float]:
    """Gives for each sound combination of strategies a cost that no recipe of it goes below.

    It is a share of the baseline's FLOPs, and holds for any selection of the workload's rows: the
    rows that costs are measured on are only half of it, by chance a little shorter or longer. So
    the length at which most can be saved speaks for all.
    """
    lengths = [LengthHistogram({length: 1}) for length in histogram.counts]
    ordered = [name for name in registry.names() if name in names]
    shares = {name: [_share(name, shape, one) for one in lengths] for name in ordered}
    return {
        chosen: min(map(math.prod, zip(*(shares[name] for name in chosen), strict=True)))
        for chosen in sound_combinations(ordered)
    }


def out_of_reach(least: Mapping[Combination, float], budget: float | None) -> list[Combination]:
    """Lists the combinations that cannot meet a budget, given as a share of the baseline's FLOPs.

    None are listed where all would be: the closest point is better than no answer.
    """
    if budget is None:
        return []
    found = [chosen for chosen, ratio in least.items() if ratio > budget * (1 + SLACK)]
    return found if len(found) < len(least) else []


def say_left_out(least: Mapping[Combination, float], budget: float | None) -> str | None:
    """Says which combinations are not tried and why; None where all are."""
    found = out_of_reach(least, budget)
    if budget is None or not found:
        return None
    return "; ".join(
        f"{_shown(chosen)} cannot go below {_over(least[chosen], budget)}" for chosen in found
    )


def _share(name: str, shape: EncoderShape, length: LengthHistogram) -> float:
    low = registry.get(name).reach(shape, length).low_flops
    return low / mean_flops(shape, length)


def _shown(chosen: Combination) -> str:
    return f"{chosen[0]} alone" if len(chosen) == 1 else " + ".join(chosen)


def _over(ratio: float, budget: float) -> str:
    """Writes a share with as many decimals as show that it is more than the budget."""
    places = next((p for p in range(1, 6) if f"{ratio:.{p}%}" != f"{budget:.{p}%}"), 6)
    return f"{ratio:.{places}%}"
