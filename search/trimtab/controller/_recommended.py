"""Which recommended recipes come next: what promises little need not come before all else.

They come in the order of `RecipeSpace.anchors`, but for this: strategies that take away the same
thing exclude each other in a recipe; where one of them did worse alone than the other in every
respect, combinations with it come later, one now and then among what is drawn.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping, Sequence

from trimtab.controller._favourites import reached
from trimtab.controller._space import RecipeSpace
from trimtab.selection import RecipeScores
from trimtab_strategies import registry
from trimtab_strategies.recipe import Recipe

LATER = 0.5
"""How likely one that comes later is tried instead of one that is drawn."""


def next_recommended(
    space: RecipeSpace,
    left: Sequence[Recipe],
    urgent: Sequence[Recipe],
    scored: Iterable[tuple[Recipe, RecipeScores]],
    rng: random.Random,
) -> Recipe | None:
    """Gives the next of those left, in their order; None where one is to be drawn instead.

    ``urgent`` are recipes that never have to wait; ``scored`` those that were tried, as they did.
    """
    known = registry.names()
    alone = [(recipe[0].strategy, scores) for recipe, scores in scored if len(recipe) == 1]
    best = reached((name, scores) for name, scores in alone if name in known)
    for recipe in left:
        if recipe in urgent or not is_outdone(space, recipe, best):
            return recipe
    return left[0] if left and rng.random() < LATER else None


def is_outdone(space: RecipeSpace, recipe: Recipe, alone: Mapping[str, RecipeScores]) -> bool:
    """Tells whether the space has the same recipe with a strategy that alone did better."""
    names = [step.strategy for step in recipe]
    return len(names) > 1 and any(
        _exclude_each_other(name, other)
        and did_better(alone[other], alone[name])
        and space.has([*names[:place], other, *names[place + 1 :]])
        for place, name in enumerate(names)
        if name in alone
        for other in alone
    )


def did_better(one: RecipeScores, other: RecipeScores) -> bool:
    """Tells whether one lacks less to the limits, or is no worse in all and better in something."""
    if one.violation != other.violation:
        return one.violation < other.violation
    pairs = [(one.cost_ratio, other.cost_ratio), (one.drop, other.drop)]
    return all(a <= b for a, b in pairs) and any(a < b for a, b in pairs)


def _exclude_each_other(one: str, other: str) -> bool:
    return one != other and registry.get(one).slot == registry.get(other).slot
