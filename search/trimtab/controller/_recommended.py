"""Which recommended recipes come next: what promises little need not come before all else.

Every strategy alone comes first, as it is recommended, then their combinations. Strategies that
take away the same thing exclude each other in a recipe, so that each combination with the one that
did worse alone has a better counterpart. Those come later, one now and then among what is drawn.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping, Sequence

from trimtab.controller._favourites import ranked
from trimtab.selection import RecipeScores
from trimtab_strategies import registry
from trimtab_strategies.recipe import Recipe

LATER = 0.5
"""How likely one that comes later is tried instead of one that is drawn."""


def next_recommended(
    left: Sequence[Recipe],
    urgent: Sequence[Recipe],
    scored: Iterable[tuple[Recipe, RecipeScores]],
    rng: random.Random,
) -> Recipe | None:
    """Gives the next of those left, in their order; None where one is to be drawn instead.

    ``urgent`` are recipes that never have to wait; ``scored`` those that were tried, as they did.
    """
    alone = [(recipe[0].strategy, scores) for recipe, scores in scored if len(recipe) == 1]
    known = [(name, scores) for name, scores in alone if name in registry.names()]
    place = {name: rank for rank, name in enumerate(ranked(known))}
    for recipe in left:
        if recipe in urgent or not is_outdone(recipe, place):
            return recipe
    return left[0] if left and rng.random() < LATER else None


def is_outdone(recipe: Recipe, place: Mapping[str, int]) -> bool:
    """Tells whether a step's strategy did worse alone than another that could stand for it."""
    if len(recipe) == 1:
        return False
    return any(
        place[other] < place[step.strategy] and _exclude_each_other(other, step.strategy)
        for step in recipe
        if step.strategy in place
        for other in place
    )


def _exclude_each_other(one: str, other: str) -> bool:
    return one != other and registry.get(one).slot == registry.get(other).slot
