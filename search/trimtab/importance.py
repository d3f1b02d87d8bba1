"""Which choice mattered: how much each one decided over being among the best recipes.

By PED-ANOVA, in the form for choices that exist only beside others: of each choice it asks how
differently its values are spread among the best recipes and among all of them. A recipe is the
better, the lower its drop within the budget, which is what the sampler is told as well; one that
has no point within the budget comes behind all that have.
"""

from __future__ import annotations

import math
import warnings
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache

from trimtab.errors import InputError
from trimtab.selection import Limits, excess, is_feasible
from trimtab_storage import PointRow, TrialRow, TrialState
from trimtab_strategies import registry
from trimtab_strategies.base import Choice, Value
from trimtab_strategies.recipe import Recipe

LEAST_TRIALS, LEAST_BEST, BEST_SHARE = 10, 5, 0.1
STRATEGIES = "strategies"
"""What the choice of the combination itself is called."""

OVER_BUDGET = 10.0
"""A drop that no metric can have: recipes over the budget are ranked by their excess from here."""


@dataclass(frozen=True)
class Importance:
    """The share of each choice, largest first; together they are 1.

    ``n_best`` of ``n_trials`` complete trials are the best ones.
    """

    shares: Mapping[str, float]
    n_trials: int
    n_best: int


@dataclass(frozen=True)
class Tried:
    """A recipe's choices by name, and what it is ranked by: the less, the better."""

    choices: Mapping[str, Value]
    rank: float


def importance_of(
    study: str, trials: Sequence[TrialRow], points: Sequence[PointRow], limits: Limits
) -> Importance:
    """Measures how much each choice mattered in a study so far.

    Raises:
        InputError: if there are too few complete trials, or they do not differ.
    """
    tried = _tried(trials, points, limits)
    if len(tried) < LEAST_TRIALS:
        raise InputError(
            f"which choice mattered shows from {LEAST_TRIALS} complete trials on, and study "
            f"{study!r} has {len(tried)}: raise search.trials and run it again"
        )
    n_best = max(LEAST_BEST, round(BEST_SHARE * len(tried)))
    found = _measured(tried, n_best / len(tried))
    whole = sum(found.values())
    if whole <= 0:
        raise InputError(
            f"no choice made a difference in study {study!r}: its best recipes choose as all do"
        )
    ordered = sorted(found.items(), key=lambda item: (-item[1], item[0]))
    return Importance({name: value / whole for name, value in ordered}, len(tried), n_best)


def _tried(trials: Sequence[TrialRow], points: Sequence[PointRow], limits: Limits) -> list[Tried]:
    from trimtab.controller._history import by_recipe, recipe_of  # Optuna

    sorted_in = by_recipe(points)
    found = []
    for trial in trials:
        own = sorted_in.get(recipe_of(trial), [])
        if trial.state == TrialState.COMPLETE and own:
            found.append(Tried(choices_of(recipe_of(trial)), rank_of(own, limits)))
    return found


def choices_of(recipe: Recipe) -> dict[str, Value]:
    """Names all that was chosen for a recipe: its strategies, and what each was told."""
    named: dict[str, Value] = {STRATEGIES: " + ".join(step.strategy for step in recipe)}
    for step in recipe:
        named |= {f"{step.strategy}.{name}": value for name, value in step.choices}
    return named


def rank_of(points: Sequence[PointRow], limits: Limits) -> float:
    """Gives the lowest drop within the budget, or more than any drop where nothing is within it."""
    budget = replace(limits, max_drop=None)
    within = [point.drop for point in points if is_feasible(point, budget)]
    return min(within) if within else OVER_BUDGET + min(excess(point, budget) for point in points)


def _measured(tried: Sequence[Tried], best_share: float) -> dict[str, float]:
    import optuna
    from optuna.distributions import BaseDistribution, CategoricalDistribution
    from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances
    from optuna.trial import create_trial

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study, told = optuna.create_study(), _told(tried)
    values: dict[str, set[Value]] = {}
    for choices in told:
        for name, value in choices.items():
            values.setdefault(name, set()).add(value)
    spreads = {
        name: CategoricalDistribution(sorted(seen, key=str)) for name, seen in values.items()
    }
    for one, choices in zip(tried, told, strict=True):
        own: dict[str, BaseDistribution] = {name: spreads[name] for name in choices}
        study.add_trial(create_trial(value=one.rank, params=choices, distributions=own))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that few trials are few is said in the picture
        evaluator = PedAnovaImportanceEvaluator(target_quantile=best_share)
        return get_param_importances(study, evaluator=evaluator, normalize=False)


def _told(tried: Sequence[Tried]) -> list[dict[str, Value]]:
    """Gives each recipe's choices, those from a range by its thirds, without the rare ones.

    Of few trials a density over a whole range would follow the single values.
    """
    counts = Counter(name for one in tried for name in one.choices)
    return [
        {
            name: _third(name, value)
            for name, value in one.choices.items()
            if counts[name] >= LEAST_BEST
        }
        for one in tried
    ]


def _third(name: str, value: Value) -> Value:
    choice = _ranges().get(name)
    if choice is None or choice.low is None or choice.high is None:
        return value
    scale = math.log if choice.log else float
    low, high, here = scale(choice.low), scale(choice.high), scale(float(value))
    return ("low", "middle", "high")[min(2, max(0, int(3 * (here - low) / (high - low))))]


@cache
def _ranges() -> dict[str, Choice]:
    return {
        f"{name}.{choice.name}": choice
        for name in registry.names()
        for choice in registry.get(name).choices
        if choice.values is None
    }
