"""Which strategies to combine next: mostly those whose recipes did best so far.

An estimator soon learns which values of a choice are good, but needs some fifty trials to find out
which of a dozen combinations of strategies are worth them. So the combination is chosen here: the
best one most often, each further one less often, and now and then it is left to the estimator.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping, Sequence

from trimtab.selection import RecipeScores

NEXT = 0.3
"""How likely the next best combination is taken instead of one."""

FREE = 0.1
"""How often the estimator chooses."""


def ranked(results: Iterable[tuple[str, RecipeScores]]) -> list[str]:
    """Orders combinations by the best that their recipes reached, the best one first.

    First by what is lacking to the limits; then by how many others are better in the lowest cost
    within the allowed drop, and in the lowest drop within the budget, added up.
    """
    every: dict[str, list[RecipeScores]] = {}
    for name, scores in results:
        every.setdefault(name, []).append(scores)
    lack = {name: min(max(0.0, s.violation) for s in own) for name, own in every.items()}
    near = {
        name: [s for s in own if max(0.0, s.violation) <= lack[name]] for name, own in every.items()
    }
    cost = {name: min(s.cost_ratio for s in own) for name, own in near.items()}
    drop = {name: min(s.drop for s in own) for name, own in near.items()}
    better = {name: _n_below(cost, name) + _n_below(drop, name) for name in every}
    return sorted(every, key=lambda name: (lack[name], better[name], cost[name]))


def _n_below(values: Mapping[str, float], name: str) -> int:
    return sum(value < values[name] for value in values.values())


def choose(order: Sequence[str], rng: random.Random) -> str | None:
    """Takes a combination from those in order; None leaves it to the estimator."""
    if not order or rng.random() < FREE:
        return None
    place = 0
    while place < len(order) - 1 and rng.random() < NEXT:
        place += 1
    return order[place]
