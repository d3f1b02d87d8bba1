"""Neighbours of good recipes: most choices are kept, and so is the work of the steps before.

With a score of choices and a dozen trials, an estimator knows next to nothing. Near a good recipe
others are good, and a recipe that is as another up to its last step costs that step alone, which
for exits is a tenth of the whole. So a neighbour differs in one step, mostly in the last.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Any

from trimtab_strategies.recipe import Recipe

OFTEN = 0.6
"""How often a neighbour is tried, once there is a good recipe."""

LAST = 0.6
"""How often it differs in the last step; else in one of those before."""

ANEW = 0.35
"""How likely each choice of that step is drawn anew; one at least is."""


def held(recipe: Recipe, parameters: Mapping[str, Any], rng: random.Random) -> dict[str, Any]:
    """Gives those of a recipe's parameters, by name, that its neighbour shares."""
    changed = _changed(len(recipe), rng)
    own = sorted(name for name in parameters if _is_of(recipe[changed].strategy, name))
    anew = {name for name in own if rng.random() < ANEW} or set(rng.sample(own, min(1, len(own))))
    return {name: value for name, value in parameters.items() if name not in anew}


def _changed(n_steps: int, rng: random.Random) -> int:
    """Gives the place of the step that differs."""
    last = n_steps - 1
    return last if n_steps == 1 or rng.random() < LAST else rng.randrange(last)


def _is_of(strategy: str, name: str) -> bool:
    return name.startswith(f"{strategy}.")
