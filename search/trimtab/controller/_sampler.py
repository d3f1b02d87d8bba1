"""The sampler: Optuna proposes, our tables remember.

Optuna is used through ``ask`` and ``tell`` on a study in memory that is built anew from what was
measured, so that nothing of it has to be saved, and a restarted controller proposes exactly what
an uninterrupted one would have: the random state comes from the study's seed and the trial's
number alone.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import optuna
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler, RandomSampler, TPESampler
from optuna.trial import FrozenTrial, TrialState

from trimtab.controller._space import RecipeSpace
from trimtab.selection import RecipeScores
from trimtab_strategies.base import Value
from trimtab_strategies.recipe import Recipe, stable_key

N_STARTUP_TRIALS = 6
TPE_ATTEMPTS, RANDOM_ATTEMPTS = 10, 200
CONSTRAINT = "limits"


@dataclass(frozen=True)
class Told:
    """One earlier trial as the sampler sees it; ``scores`` is None if it runs yet or failed."""

    recipe: Recipe
    scores: RecipeScores | None
    is_running: bool = False


def propose(
    space: RecipeSpace, history: Sequence[Told], *, seed: int, number: int
) -> Recipe | None:
    """Proposes the recipe of trial ``number``; None when the space seems to be used up.

    The recommended recipes come first. Then a multi-objective tree-structured Parzen estimator
    minimises the lowest cost within the allowed drop and the lowest drop within the budget, with
    the excess over the limits as a constraint. A recipe that was tried already is drawn again.
    """
    tried = {told.recipe for told in history}
    for anchor in space.anchors():
        if anchor not in tried:
            return anchor
    for sampler, attempts in _samplers(seed, number):
        study = _study(space, history, sampler)
        for _ in range(attempts):
            trial = study.ask()
            recipe = space.draw(trial)
            if recipe not in tried:
                return recipe
            study.tell(trial, state=TrialState.FAIL)
    return None


def _samplers(seed: int, number: int) -> Iterable[tuple[BaseSampler, int]]:
    state = int(stable_key(seed, number)[:8], 16)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        yield TPESampler(seed=state, n_startup_trials=N_STARTUP_TRIALS), TPE_ATTEMPTS
    # A small space is nearly used up before it is used up: uniform draws find what is left.
    yield RandomSampler(seed=state), RANDOM_ATTEMPTS


def _study(space: RecipeSpace, history: Sequence[Told], sampler: BaseSampler) -> optuna.Study:
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = optuna.create_study(directions=["minimize", "minimize"], sampler=sampler)
    for told in history:
        parameters = space.parameters(told.recipe)
        if parameters is not None:
            study.add_trial(_frozen(told, parameters))
    return study


def _frozen(told: Told, parameters: dict[str, tuple[Value, BaseDistribution]]) -> FrozenTrial:
    values = {name: value for name, (value, _) in parameters.items()}
    distributions = {name: distribution for name, (_, distribution) in parameters.items()}
    if told.scores is None:
        state = TrialState.RUNNING if told.is_running else TrialState.FAIL
        return optuna.trial.create_trial(state=state, params=values, distributions=distributions)
    return optuna.trial.create_trial(
        values=[told.scores.cost_ratio, told.scores.drop],
        params=values,
        distributions=distributions,
        constraints={CONSTRAINT: told.scores.violation},
    )
