"""The space of recipes: every strategy's declared choices, narrowed by what the spec pins.

One conditional space: the strategy is drawn first, then its choices; a choice that has no meaning
beside the others is not drawn at all.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from optuna import Trial
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
)

from trimtab_strategies import registry
from trimtab_strategies.base import Choice, Value, active_choices, completed
from trimtab_strategies.recipe import Recipe, Step

Pins = Mapping[str, Mapping[str, Sequence[Value]]]
"""For each strategy that may be used, the values that the spec allows for some of its choices."""

STRATEGY = "strategy"


class RecipeSpace:
    """All recipes that a study may try.

    ``n_train`` is the number of training rows: choices counted in rows stop at the first value
    that already takes all of them, since larger ones would only repeat its work.
    """

    def __init__(self, pins: Pins, n_train: int) -> None:
        self._choices = {
            name: tuple(
                _bounded(_pinned(choice, pinned.get(choice.name)), n_train)
                for choice in registry.get(name).choices
            )
            for name, pinned in pins.items()
        }

    def anchors(self) -> list[Recipe]:
        """Gives the recipes to try first: each strategy as it is recommended."""
        return [
            self._recipe(name, {choice.name: choice.default for choice in choices})
            for name, choices in self._choices.items()
        ]

    def draw(self, trial: Trial) -> Recipe:
        """Draws one recipe."""
        names = tuple(self._choices)
        name = str(trial.suggest_categorical(STRATEGY, names)) if len(names) > 1 else names[0]
        drawn: dict[str, Value] = {}
        for choice in self._choices[name]:
            drawn[choice.name] = choice.default
            if choice.is_active(drawn):
                drawn[choice.name] = _draw(trial, f"{name}.{choice.name}", choice)
        return self._recipe(name, drawn)

    def parameters(self, recipe: Recipe) -> dict[str, tuple[Value, BaseDistribution]] | None:
        """Gives a recipe as the sampler's parameters; None if this space does not hold it.

        A study whose pins were never changed holds all its recipes; the check keeps a table that
        was written by another version from confusing the sampler.
        """
        if len(recipe) != 1 or recipe[0].strategy not in self._choices:
            return None
        name, values = recipe[0].strategy, recipe[0].choices_dict
        choices = {choice.name: choice for choice in self._choices[name]}
        if not all(key in choices and choices[key].admits(value) for key, value in values.items()):
            return None
        if completed(registry.get(name), values) != values:
            return None
        named = {
            f"{name}.{key}": (value, _distribution(choices[key])) for key, value in values.items()
        }
        if len(self._choices) > 1:
            named[STRATEGY] = (name, CategoricalDistribution(tuple(self._choices)))
        return named

    def _recipe(self, name: str, drawn: Mapping[str, Value]) -> Recipe:
        return (Step.of(name, active_choices(registry.get(name), drawn)),)


def _pinned(choice: Choice, values: Sequence[Value] | None) -> Choice:
    if values is None:
        return choice
    # A row count comes as near to the recommended one as it can; of names, the first is preferred.
    instead = max(values, key=_as_number) if choice.counts_rows else values[0]
    default = choice.default if choice.default in values else instead
    return replace(choice, values=tuple(values), low=None, high=None, default=default)


def _as_number(value: Value) -> float:
    return float(value)


def _bounded(choice: Choice, n_train: int) -> Choice:
    if not choice.counts_rows or choice.values is None:
        return choice
    ordered = sorted(int(value) for value in choice.values)
    enough = next((value for value in ordered if value >= n_train), ordered[-1])
    values = tuple(value for value in ordered if value <= enough)
    return replace(choice, values=values, default=min(int(choice.default), enough))


def _draw(trial: Trial, name: str, choice: Choice) -> Value:
    if choice.values is not None:
        drawn: Value = trial.suggest_categorical(name, choice.values)  # type: ignore[assignment]
        return drawn
    assert choice.low is not None and choice.high is not None
    return trial.suggest_float(name, choice.low, choice.high, log=choice.log)


def _distribution(choice: Choice) -> BaseDistribution:
    if choice.values is not None:
        return CategoricalDistribution(choice.values)
    assert choice.low is not None and choice.high is not None
    return FloatDistribution(choice.low, choice.high, log=choice.log)
