"""Neighbours of good recipes: most choices are kept, and so is the work of the steps before.

With a score of choices and a dozen trials, an estimator knows next to nothing. Near a good recipe
others are good, and a recipe that is as another up to its last step costs that step alone, as long
as the models before it are kept. So a neighbour differs in one step, mostly in the last.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

from optuna.trial import FrozenTrial

from trimtab_strategies.recipe import Recipe

OFTEN = 0.6
"""How often a neighbour is tried, once there is a good recipe."""

LAST = 0.6
"""How often it differs in the last step; else in one of those before."""

ANEW = 0.35
"""How likely each choice of that step is drawn anew; one at least is."""


def held(trial: FrozenTrial, recipe: Recipe, rng: random.Random) -> dict[str, Any]:
    """Gives those parameters of a recipe, as the sampler's trial has them, that a neighbour shares.

    Choices that leave nothing to choose, as the spec pins them, are none to differ in.
    """
    by_step = [_open_choices(trial, step.strategy) for step in recipe]
    own = _changed([names for names in by_step if names], rng)
    anew = {name for name in own if rng.random() < ANEW} or set(rng.sample(own, min(1, len(own))))
    return {name: value for name, value in trial.params.items() if name not in anew}


def _open_choices(trial: FrozenTrial, strategy: str) -> list[str]:
    return sorted(
        name
        for name, distribution in trial.distributions.items()
        if name.rpartition(".")[0] == strategy and not distribution.single()
    )


def _changed(by_step: Sequence[list[str]], rng: random.Random) -> list[str]:
    """Gives the choices of the step that differs; none where all are pinned."""
    *before, last = by_step or [[]]
    return last if not before or rng.random() < LAST else rng.choice(before)
