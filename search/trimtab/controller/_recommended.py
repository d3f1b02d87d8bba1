"""Which recommended recipes come next: what promises little need not come before all else.

They come in the order of `RecipeSpace.anchors`, combinations made of what did best alone; of these,
those come first whose weakest step did best alone. Two kinds come later, one now and then among
what is drawn. Combinations with a step that did worse alone, in every respect, than another that
takes away the same thing: by another strategy, or by the same one at another recommended setting.
And once a recipe is within the limits, combinations that train for an epoch, which takes the time
of ten neighbours of that recipe, or with a step that alone is over the limits.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence

from trimtab.controller._favourites import ranked, reached
from trimtab.controller._space import RecipeSpace, trains_long
from trimtab.controller._steps import without_constraint
from trimtab.selection import RecipeScores
from trimtab_strategies import registry
from trimtab_strategies.recipe import Recipe, Step

LATER = 0.5
"""How likely one that comes later is tried instead of one that is drawn."""


def next_recommended(
    space: RecipeSpace,
    left: Sequence[Recipe],
    urgent: Sequence[Recipe],
    scored: Sequence[tuple[Recipe, RecipeScores]],
    rng: random.Random,
) -> Recipe | None:
    """Gives the most promising of those left; None where one is to be drawn instead.

    ``left`` is not empty. ``urgent`` are recipes that never have to wait; ``scored`` is how those
    did that were tried.
    """
    alone, is_met = _known_alone(scored), any(own.violation <= 0 for _, own in scored)
    promising = [each for each in left if each in urgent or not is_outdone(space, each, alone)]
    if any(each in urgent for each in promising):
        return promising[0]
    wanted = min(promising, key=lambda each: rank(each, alone, is_met), default=None)
    comes_later = wanted is None or (is_met and rank(wanted, alone, is_met) >= WAITING)
    if comes_later and rng.random() >= LATER:
        return None
    return wanted or left[0]


WAITING = (3, 0.0, 0.0)
"""The rank from which on a recipe takes turns with what is drawn."""


def rank(
    recipe: Recipe, alone: Mapping[Step, RecipeScores], is_met: bool
) -> tuple[int, float, float]:
    """Gives the place of a recipe among the promising ones, and of the combinations its weakest.

    First what hardly trains, then single strategies that do, then combinations that do, and last
    those with a step that alone is over the limits, if anything is within them.
    """
    long = trains_long(recipe)
    if len(recipe) == 1:
        return (2 if long else 0, 0.0, 0.0)
    lack, cost = weakest(recipe, alone)
    return ((3 if long else 1) + (2 if is_met and lack > 0 else 0), lack, cost)


def _known_alone(scored: Sequence[tuple[Recipe, RecipeScores]]) -> dict[Step, RecipeScores]:
    """Gives how steps did that were tried alone, but for those of strategies nobody knows."""
    single = [(without_constraint(recipe[0]), own) for recipe, own in scored if len(recipe) == 1]
    known = registry.names()
    return reached((step, own) for step, own in single if step.strategy in known)


def weakest(recipe: Recipe, alone: Mapping[Step, RecipeScores]) -> tuple[float, float]:
    """Gives what the step that did worst alone lacks to the limits, and its lowest cost.

    Of a step that was not tried alone the best is assumed.
    """
    known = [alone[step] for step in map(without_constraint, recipe) if step in alone]
    return max(((max(0.0, own.violation), own.cost_ratio) for own in known), default=(0.0, 0.0))


def best_alone(
    space: RecipeSpace, scored: Sequence[tuple[Recipe, RecipeScores]]
) -> dict[str, Step]:
    """Gives, of each strategy's recommended settings that were tried alone, the one that did best.

    Combinations are made of these: what is best alone differs from task to task.
    """
    alone, found = _known_alone(scored), {}
    for name in space.strategies:
        known = [(step, alone[step]) for step in space.settings(name) if step in alone]
        if known:
            found[name] = ranked(known)[0]
    return found


def is_outdone(space: RecipeSpace, recipe: Recipe, alone: Mapping[Step, RecipeScores]) -> bool:
    """Tells whether the space has the same recipe with a step that alone did better."""
    steps = [without_constraint(step) for step in recipe]
    return len(steps) > 1 and any(
        takes_its_place(space, steps, place, other) and did_better(scores, alone[step])
        for place, step in enumerate(steps)
        if step in alone
        for other, scores in alone.items()
    )


def takes_its_place(space: RecipeSpace, steps: Sequence[Step], place: int, other: Step) -> bool:
    """Tells whether a step takes away the same thing as one of a recipe, and can be in it."""
    own = steps[place]
    if other == own or _slot(other) != _slot(own):
        return False
    if other.strategy == own.strategy:  # no combination is made of what was drawn
        return other in space.settings(own.strategy)
    names = [step.strategy for step in steps]
    return space.has([*names[:place], other.strategy, *names[place + 1 :]])


def did_better(one: RecipeScores, other: RecipeScores) -> bool:
    """Tells whether one lacks less to the limits, or is no worse in all and better in something."""
    if one.violation != other.violation:
        return one.violation < other.violation
    pairs = [(one.cost_ratio, other.cost_ratio), (one.drop, other.drop)]
    return all(a <= b for a, b in pairs) and any(a < b for a, b in pairs)


def _slot(step: Step) -> str:
    return registry.get(step.strategy).slot
