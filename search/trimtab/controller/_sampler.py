"""The sampler: Optuna proposes, our tables remember.

Optuna is used through ``ask`` and ``tell`` on a study in memory that is built anew from what was
measured, so that nothing of it has to be saved, and a restarted controller proposes exactly what
an uninterrupted one would have: the random state comes from the study's seed and the trial's
number alone.
"""

from __future__ import annotations

import random
import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import optuna
from optuna.samplers import BaseSampler, RandomSampler
from optuna.trial import TrialState, create_trial

from trimtab.controller import _neighbours
from trimtab.controller._favourites import choose, one_of, ranked
from trimtab.controller._quick_tpe import ToldTrial, estimator, study_of
from trimtab.controller._recommended import best_alone, next_recommended
from trimtab.controller._space import RecipeSpace
from trimtab.selection import RecipeScores
from trimtab_strategies.recipe import Recipe, stable_key

N_STARTUP_TRIALS = 6
TPE_ATTEMPTS, RANDOM_ATTEMPTS = 10, 200
CONSTRAINT = "limits"

MOST_TOLD = 1000
"""Earlier trials that a proposal is made from; its time would grow with their number."""


@dataclass(frozen=True)
class Told:
    """One earlier trial as the sampler sees it; ``scores`` is None if it runs yet or failed."""

    recipe: Recipe
    scores: RecipeScores | None
    is_running: bool = False
    on_frontier: bool = False


@dataclass(frozen=True)
class Known:
    """What is known from elsewhere before the first trial.

    ``first`` are recipes to begin with, the best one first, and ``later`` those to try after the
    first recommended one. ``told`` are other recipes with their scores, the best one last.
    """

    first: tuple[Recipe, ...] = ()
    later: tuple[Recipe, ...] = ()
    told: tuple[Told, ...] = ()


NOTHING = Known()


def propose(
    space: RecipeSpace,
    history: Sequence[Told],
    *,
    seed: int,
    number: int,
    known: Known = NOTHING,
) -> Recipe | None:
    """Proposes the recipe of trial ``number``; None when the space seems to be used up.

    What is known to be good comes first, then the recommended recipes, but for those that promise
    little (see ``_recommended``). Then a multi-objective tree-structured Parzen estimator minimises
    the lowest cost within the allowed drop and the lowest drop within the budget, with the excess
    over the limits as a constraint, mostly within the combinations of strategies that did best (see
    ``_favourites``), and mostly near one of the best recipes (see ``_neighbours``). A recipe that
    was tried already is drawn again; so is one whose scores are known, until nothing else is left.
    """
    tried = {told.recipe for told in history}
    elsewhere = [told for told in known.told if told.recipe not in tried]
    seen = tried | {told.recipe for told in elsewhere}
    rng = random.Random(stable_key("order", seed, number))
    left = [recipe for recipe in planned(space, known, history) if recipe not in tried]
    if left:
        scored = _scored(known, history)
        urgent = [*known.first, *known.later]
        wanted = next_recommended(space, left, urgent, scored, rng)
        if wanted is not None:
            return wanted
    telling = most_telling([*elsewhere, *history])
    aim = _aim(space, telling)
    for sampler, attempts in _samplers(seed, number):
        study = _study(space, telling, sampler)
        is_uniform = isinstance(sampler, RandomSampler)
        for _ in range(attempts):
            trial = study.ask()
            recipe = space.draw(trial) if is_uniform else space.draw(trial, *aim(rng))
            if recipe not in seen:
                return recipe
            study.tell(trial, state=TrialState.FAIL)
    if left:
        return left[0]
    return elsewhere[-1].recipe if elsewhere else None


def most_telling(history: Sequence[Told], most: int | None = None) -> list[Told]:
    """Gives what a proposal is made from, in order: the frontier, and the newest of the others.

    ``most`` is how many at most, by default ``MOST_TOLD``.
    """
    limit = MOST_TOLD if most is None else most
    by_worth = sorted(
        range(len(history)), key=lambda place: (history[place].on_frontier, place), reverse=True
    )
    return [history[place] for place in sorted(by_worth[:limit])]


def planned(space: RecipeSpace, known: Known, history: Sequence[Told] = ()) -> list[Recipe]:
    """Lists what is tried before anything is drawn, but for what is known already.

    Which combinations these are depends on what did best alone so far.
    """
    usual, *others = space.anchors(best_alone(space, _scored(known, history)))
    elsewhere = {told.recipe for told in known.told}
    wanted = [*known.first, usual, *known.later, *others]
    return [recipe for recipe in dict.fromkeys(wanted) if recipe not in elsewhere]


def _scored(known: Known, history: Sequence[Told]) -> list[tuple[Recipe, RecipeScores]]:
    """Gives how recipes did: here where they were tried, or else elsewhere."""
    tried = {told.recipe for told in history}
    every = [*(told for told in known.told if told.recipe not in tried), *history]
    return [(told.recipe, told.scores) for told in every if told.scores is not None]


def _aim(
    space: RecipeSpace, telling: Sequence[Told]
) -> Callable[[random.Random], tuple[str | None, dict[str, Any]]]:
    """Gives what says where to draw next: a combination, and what is held of its parameters."""
    made = [(told, _trial(space, told.recipe, told.scores, told.is_running)) for told in telling]
    known = {
        told.recipe: (told.scores, trial)
        for told, trial in made
        if trial is not None and told.scores is not None
    }
    named = [(str(space.combination_of(recipe)), found[0]) for recipe, found in known.items()]
    names, recipes = ranked(named), ranked((recipe, found[0]) for recipe, found in known.items())

    def aim(rng: random.Random) -> tuple[str | None, dict[str, Any]]:
        if not recipes or rng.random() >= _neighbours.OFTEN:
            return choose(names, rng), {}
        recipe = one_of(recipes, rng)
        return space.combination_of(recipe), _neighbours.held(known[recipe][1], recipe, rng)

    return aim


def _samplers(seed: int, number: int) -> Iterable[tuple[BaseSampler, int]]:
    state = int(stable_key(seed, number)[:8], 16)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        yield estimator(state, N_STARTUP_TRIALS), TPE_ATTEMPTS
    # A small space is nearly used up before it is used up: uniform draws find what is left.
    yield RandomSampler(seed=state), RANDOM_ATTEMPTS


def _study(space: RecipeSpace, history: Sequence[Told], sampler: BaseSampler) -> optuna.Study:
    made = [_trial(space, told.recipe, told.scores, told.is_running) for told in history]
    return study_of([trial for trial in made if trial is not None], sampler)


@lru_cache(maxsize=2 * MOST_TOLD)
def _trial(
    space: RecipeSpace, recipe: Recipe, scores: RecipeScores | None, is_running: bool
) -> ToldTrial | None:
    """Makes a trial for the sampler, once for the same arguments; None if not of this space."""
    parameters = space.parameters(recipe)
    if parameters is None:
        return None
    values = {name: value for name, (value, _) in parameters.items()}
    distributions = {name: distribution for name, (_, distribution) in parameters.items()}
    if scores is None:
        state = TrialState.RUNNING if is_running else TrialState.FAIL
        return ToldTrial(create_trial(state=state, params=values, distributions=distributions))
    return ToldTrial(
        create_trial(
            values=[scores.cost_ratio, scores.drop],
            params=values,
            distributions=distributions,
            constraints={CONSTRAINT: scores.violation},
        )
    )
