"""What earlier trials tell: their recipes as they are now named, and how well they did."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from trimtab.controller._sampler import Told
from trimtab.controller._steps import CONSTRAINT, without_constraint
from trimtab.selection import Limits, RecipeScores, recipe_scores
from trimtab_storage import PointRow, TrialRow, TrialState
from trimtab_strategies import registry
from trimtab_strategies.base import completed
from trimtab_strategies.recipe import Recipe, Step, from_plain

PENDING = (TrialState.WAITING, TrialState.RUNNING)
Points = Mapping[Recipe, Sequence[PointRow]]


def told(trials: Sequence[TrialRow], points: Sequence[PointRow], limits: Limits) -> list[Told]:
    """Gives all trials as the sampler sees them."""
    sorted_in = by_recipe(points)
    return [
        Told(
            recipe := from_plain(trial.recipe),
            scores_of(trial, sorted_in, limits),
            trial.state in PENDING,
            is_on_frontier(sorted_in.get(recipe, ())),
        )
        for trial in trials
    ]


def is_on_frontier(points: Sequence[PointRow]) -> bool:
    """Tells whether any of the points is on a frontier of its study."""
    return any(point.on_flops_frontier or point.on_latency_frontier for point in points)


def scores_of(trial: TrialRow, points: Points, limits: Limits) -> RecipeScores | None:
    """Sums a trial up; None while it runs, and if it gave nothing."""
    own = points.get(from_plain(trial.recipe), ())
    if trial.state != TrialState.COMPLETE or not own:
        return None
    return recipe_scores(own, limits)


def by_recipe(points: Sequence[PointRow]) -> dict[Recipe, list[PointRow]]:
    """Sorts points by the recipe that they are a result of."""
    sorted_in: dict[Recipe, list[PointRow]] = {}
    for point in points:
        sorted_in.setdefault(_as_tried(from_plain(point.recipe)), []).append(point)
    return sorted_in


def recipe_of(trial: TrialRow) -> Recipe:
    """Gives the steps of a trial, completed where an earlier version had fewer choices."""
    return tuple(
        Step.of(
            step.strategy,
            {
                **completed(registry.get(step.strategy), without_constraint(step).choices_dict),
                **{n: v for n, v in step.choices if n == CONSTRAINT},
            },
        )
        for step in from_plain(trial.recipe)
    )


def _as_tried(recipe: Recipe) -> Recipe:
    """Takes the rung from a recipe of one step; in a longer one its cost was chosen with it."""
    return tuple(map(without_constraint, recipe)) if len(recipe) == 1 else recipe
