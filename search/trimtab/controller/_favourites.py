"""What to go on with: mostly what did best so far, of combinations of strategies and of recipes.

An estimator soon learns which values of a choice are good, but needs some fifty trials to find out
which of a dozen combinations of strategies are worth them. So the combination is chosen here: the
best one most often, each further one less often, and now and then it is left to the estimator. The
recipe whose neighbour is tried is chosen likewise.
"""

from __future__ import annotations

import random
from bisect import bisect_left
from collections.abc import Hashable, Iterable, Mapping, Sequence
from typing import TypeVar

from trimtab.selection import RecipeScores

NEXT = 0.3
"""How likely the next best is taken instead of one."""

FREE = 0.1
"""How often the estimator chooses the combination."""

Name = TypeVar("Name", bound=Hashable)


def ranked(results: Iterable[tuple[Name, RecipeScores]]) -> list[Name]:
    """Orders what results are known of by the best that was reached with it, the best one first.

    First by what is lacking to the limits; then by how many others are better in the lowest cost
    within the allowed drop, and in the lowest drop within the budget, added up.
    """
    known = reached(results)
    cheaper = _n_below({name: own.cost_ratio for name, own in known.items()})
    truer = _n_below({name: own.drop for name, own in known.items()})
    return sorted(
        known,
        key=lambda name: (
            known[name].violation,
            cheaper[name] + truer[name],
            known[name].cost_ratio,
        ),
    )


def reached(results: Iterable[tuple[Name, RecipeScores]]) -> dict[Name, RecipeScores]:
    """Gives the best that was reached with each: what is lacking, 0 where nothing is, and then."""
    every: dict[Name, list[RecipeScores]] = {}
    for name, scores in results:
        every.setdefault(name, []).append(scores)
    return {name: _best(own) for name, own in every.items()}


def _best(results: Sequence[RecipeScores]) -> RecipeScores:
    lack = min(max(0.0, scores.violation) for scores in results)
    near = [scores for scores in results if max(0.0, scores.violation) <= lack]
    cost, drop = min(s.cost_ratio for s in near), min(s.drop for s in near)
    return RecipeScores(cost, drop, lack)


def _n_below(values: Mapping[Name, float]) -> dict[Name, int]:
    """Counts for each how many others have a lower value."""
    ordered = sorted(values.values())
    return {name: bisect_left(ordered, value) for name, value in values.items()}


def choose(order: Sequence[Name], rng: random.Random) -> Name | None:
    """Takes a combination from those in order; None leaves it to the estimator."""
    return None if not order or rng.random() < FREE else one_of(order, rng)


def one_of(order: Sequence[Name], rng: random.Random) -> Name:
    """Takes the first most often, and each further one less often."""
    place = 0
    while place < len(order) - 1 and rng.random() < NEXT:
        place += 1
    return order[place]
