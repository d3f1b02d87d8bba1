"""What a recipe costs at least, so that what cannot meet the budget is not tried.

Legend:
    n    length of one sample, in tokens
    r_s  the least cost that strategy s can reach, as a share of the dense cost, of one length

Several strategies bound each other's cost from below by the product of their shares. What takes
units has none (r = 0). Token rules keep a smaller share of every layer's work than of the first
one's, where attention sees all tokens; so of the layers below an exit they keep at least the share
that they keep of the whole model. The choices of a recipe raise a share only where its strategy
names them as bounding. The cost at which units are taken is none of these: what is left of them may
lie above the exit, or where a single token comes.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from itertools import product

from trimtab.controller._space import Pins, sound_combinations
from trimtab_strategies import registry
from trimtab_strategies.base import Value
from trimtab_strategies.cost import EncoderShape, LengthHistogram, mean_flops
from trimtab_strategies.recipe import Recipe

SLACK = 1e-9
"""A least cost that is over the budget by no more than this share of it counts as within."""

Combination = tuple[str, ...]
Bounds = tuple[tuple[str, Value], ...]
"""The bounding choices of one step."""


class Reach:
    """What recipes cost at least on one model and workload, as a share of the baseline's FLOPs.

    It holds for any selection of the workload's rows: the rows that costs are measured on are only
    half of it, by chance a little shorter or longer. So the length at which most can be saved
    speaks for all.
    """

    def __init__(self, shape: EncoderShape, histogram: LengthHistogram) -> None:
        self._shape = shape
        self._lengths = [LengthHistogram({length: 1}) for length in histogram.counts]
        self._known: dict[tuple[str, Bounds], list[float]] = {}

    def least_of(self, recipe: Recipe) -> float:
        """Gives a cost that a recipe does not go below, whatever its knobs are set to."""
        choices = ((step.strategy, step.choices_dict) for step in recipe)
        return self.least((name, _bounds(name, values)) for name, values in choices)

    def least(self, steps: Iterable[tuple[str, Bounds]]) -> float:
        """Gives the same by the bounding choices alone."""
        shares = [self._shares(name, bounds) for name, bounds in steps]
        return min(map(math.prod, zip(*shares, strict=True)))

    def _shares(self, name: str, bounds: Bounds) -> list[float]:
        """Gives what a strategy leaves at least of each length; worked out once."""
        if (name, bounds) not in self._known:
            least, chosen = registry.get(name).least_flops, dict(bounds)
            self._known[name, bounds] = [
                least(self._shape, one, chosen) / mean_flops(self._shape, one)
                for one in self._lengths
            ]
        return self._known[name, bounds]


def least_ratios(pins: Pins, reach: Reach) -> dict[Combination, float]:
    """Gives for each sound combination of strategies a cost that no recipe of it goes below.

    No recipe, that is, that the pins allow; they name the strategies.
    """
    ordered = [name for name in registry.names() if name in pins]
    settings = {name: _all_bounds(name, pins[name]) for name in ordered}
    return {
        chosen: min(
            reach.least(zip(chosen, bounds, strict=True))
            for bounds in product(*(settings[name] for name in chosen))
        )
        for chosen in sound_combinations(ordered)
    }


def out_of_reach(least: Mapping[Combination, float], budget: float | None) -> list[Combination]:
    """Lists the combinations that cannot meet a budget, given as a share of the baseline's FLOPs.

    None are listed where all would be: the closest point is better than no answer.
    """
    found = [chosen for chosen, ratio in least.items() if is_over(ratio, budget)]
    return found if len(found) < len(least) else []


def is_over(ratio: float, budget: float | None) -> bool:
    """Tells whether a cost is over a budget, both as shares of the baseline's FLOPs."""
    return budget is not None and ratio > budget * (1 + SLACK)


def say_left_out(least: Mapping[Combination, float], budget: float | None) -> str | None:
    """Says which combinations are not tried and why; None where all are."""
    found = out_of_reach(least, budget)
    if budget is None or not found:
        return None
    return "; ".join(
        f"{_shown(chosen)} cannot go below {_over(least[chosen], budget)}" for chosen in found
    )


def _bounds(name: str, choices: Mapping[str, Value]) -> Bounds:
    bounding = registry.get(name).bounding_choices
    return tuple((each, choices[each]) for each in bounding if each in choices)


def _all_bounds(name: str, pinned: Mapping[str, Sequence[Value]]) -> list[Bounds]:
    """Lists the bounding choices that a strategy may have."""
    strategy = registry.get(name)
    values = {one.name: pinned.get(one.name) or one.values or () for one in strategy.choices}
    each = [[(wanted, value) for value in values[wanted]] for wanted in strategy.bounding_choices]
    return list(product(*each))


def _shown(chosen: Combination) -> str:
    return f"{chosen[0]} alone" if len(chosen) == 1 else " + ".join(chosen)


def _over(ratio: float, budget: float) -> str:
    """Writes a share with as many decimals as show that it is more than the budget."""
    places = next((p for p in range(1, 6) if f"{ratio:.{p}%}" != f"{budget:.{p}%}"), 6)
    return f"{ratio:.{places}%}"
