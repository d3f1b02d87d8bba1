"""The space of recipes: every strategy's declared choices, narrowed by what the spec pins.

One conditional space: the combination of strategies is drawn first, then the choices of each; a
choice that has no meaning beside the others is not drawn at all. A combination takes at most one
strategy for each thing that can be taken away, in the order in which they may follow each other.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from itertools import combinations, product

from optuna import Trial
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
)

from trimtab.controller._steps import CONSTRAINT, without_constraint
from trimtab_strategies import registry
from trimtab_strategies.base import Choice, Value, active_choices, completed
from trimtab_strategies.recipe import Recipe, Step

Pins = Mapping[str, Mapping[str, Sequence[Value]]]
"""For each strategy that may be used, the values that the spec allows for some of its choices."""

STRATEGY = "strategy"
CONSTRAINTS = (0.8, 0.7, 0.6, 0.5, 0.4, 0.3)
"""What a strategy that can aim leaves, as a fraction of the cost, where others come after it."""
FIRST_CONSTRAINT = 0.6
ONE_EPOCH = 3.0
"""Of training, in forward passes over every row."""


class RecipeSpace:
    """All recipes that a study may try.

    ``n_train`` is the number of training rows: choices counted in rows stop at the first value
    that already takes all of them, since larger ones would only repeat its work. ``left_out`` are
    combinations of strategies that it does without, such as those that cannot meet the budget.
    ``timed`` tells whether latency is budgeted, so that steps may count in it.
    """

    def __init__(
        self,
        pins: Pins,
        n_train: int,
        left_out: Collection[tuple[str, ...]] = (),
        *,
        timed: bool = False,
    ) -> None:
        self._choices = {
            name: tuple(
                _bounded(_pinned(choice, pinned.get(choice.name), timed), n_train)
                for choice in registry.get(name).choices
            )
            for name, pinned in pins.items()
        }
        # In the registry's order, whatever order the spec names them in.
        names = [name for name in registry.names() if name in self._choices]
        sound = [chosen for chosen in sound_combinations(names) if chosen not in left_out]
        self._combinations = {"+".join(chosen): chosen for chosen in sound}

    @property
    def strategies(self) -> tuple[str, ...]:
        """Names the strategies that may be used, in the spec's order."""
        return tuple(self._choices)

    def anchors(self, best: Mapping[str, Step] | None = None) -> list[Recipe]:
        """Gives the recipes to try first: each combination as it is recommended.

        First each strategy alone, and its other settings that are worth a trial of their own. Then
        the combinations, of each strategy's ``best`` setting where one is named; long ones first,
        as they tend to do best, and then again in the form that trains least. Those of equal length
        come in the order in which the spec names their strategies. What hardly trains comes before
        all that does, in the same order: it takes a tenth of the time, and is often good enough.
        """
        named = list(self._choices)

        def place(chosen: tuple[str, ...]) -> tuple[int, list[int]]:
            return -len(chosen), sorted(named.index(name) for name in chosen)

        combinations = sorted(self._combinations.values(), key=place)
        single = [self.settings(chosen[0]) for chosen in combinations if len(chosen) == 1]
        several = [chosen for chosen in combinations if len(chosen) > 1]
        every = [
            *((usual,) for usual, *_ in single),
            *((other,) for _, *others in single for other in others),
            *(self._combined(chosen, best or {}) for chosen in several),
            *(self._least_trained(chosen, best or {}) for chosen in several),
        ]
        return sorted(dict.fromkeys(every), key=trains_long)

    def recommended(self) -> list[Recipe]:
        """Gives what may be among the anchors: each combination of each strategy's settings."""
        return [
            self._combined(chosen, dict(zip(chosen, steps, strict=True)))
            for chosen in self._combinations.values()
            for steps in product(*map(self.settings, chosen))
        ]

    def settings(self, name: str) -> list[Step]:
        """Gives the recommended settings of a strategy alone: the usual one, then the others.

        These are as the usual one but for one choice, at each of its anchors.
        """
        usual = self._defaults((name,))[name]
        others = [
            {**usual, choice.name: value}
            for choice in self._choices[name]
            for value in choice.anchors
            if value != choice.default and choice.admits(value)
        ]
        return [self._recipe((name,), {name: drawn})[0] for drawn in (usual, *others)]

    def _combined(self, chosen: tuple[str, ...], steps: Mapping[str, Step]) -> Recipe:
        """Gives a combination as it is recommended, but for the steps that are named."""
        found = self._defaults(chosen)
        for name in chosen:
            if name in steps:
                found[name] |= steps[name].choices_dict
        return self._recipe(chosen, found)

    def _least_trained(self, chosen: tuple[str, ...], best: Mapping[str, Step]) -> Recipe:
        """Gives a combination with each strategy at that of its settings that trains least."""
        least = {}
        for name in chosen:
            first = [best[name]] if name in best else []
            least[name] = min([*first, *self.settings(name)], key=lambda step: _passes((step,)))
        return self._combined(chosen, least)

    def has(self, strategies: Sequence[str]) -> bool:
        """Tells whether strategies, in any order, are a combination of this space."""
        return set(strategies) in [set(chosen) for chosen in self._combinations.values()]

    def combination_of(self, recipe: Recipe) -> str | None:
        """Names the strategies of a recipe; None if they are no combination of this space."""
        name = "+".join(step.strategy for step in recipe)
        return name if name in self._combinations else None

    def draw(
        self,
        trial: Trial,
        combination: str | None = None,
        held: Mapping[str, Value] | None = None,
    ) -> Recipe:
        """Draws one recipe, of a combination if one is named, with the parameters that are held."""
        names = tuple(self._combinations)
        drawn = combination or names[0]
        if combination is None and len(names) > 1:
            drawn = str(trial.suggest_categorical(STRATEGY, names))
        chosen = self._combinations[drawn]
        made = {name: self._draw(trial, name, chosen, held or {}) for name in chosen}
        return self._recipe(chosen, made)

    def parameters(self, recipe: Recipe) -> dict[str, tuple[Value, BaseDistribution]] | None:
        """Gives a recipe as the sampler's parameters; None if this space does not hold it.

        A study whose pins were never changed holds all its recipes; the check keeps a table that
        was written by another version from confusing the sampler.
        """
        combination = self.combination_of(recipe)
        if combination is None:
            return None
        named: dict[str, tuple[Value, BaseDistribution]] = {}
        for step in recipe:
            found = self._parameters_of(step, self._combinations[combination])
            if found is None:
                return None
            named |= found
        if len(self._combinations) > 1:
            named[STRATEGY] = (combination, CategoricalDistribution(tuple(self._combinations)))
        return named

    def _parameters_of(
        self, step: Step, chosen: tuple[str, ...]
    ) -> dict[str, tuple[Value, BaseDistribution]] | None:
        name, values = step.strategy, without_constraint(step).choices_dict
        choices = {choice.name: choice for choice in self._choices[name]}
        if not all(key in choices and choices[key].admits(value) for key, value in values.items()):
            return None
        if completed(registry.get(name), values) != values:
            return None
        own = step.choices_dict.get(CONSTRAINT)
        if (own in CONSTRAINTS) != _needs_constraint(name, chosen):
            return None
        named: dict[str, tuple[Value, BaseDistribution]] = {
            f"{name}.{key}": (value, _distribution(choices[key])) for key, value in values.items()
        }
        if own is not None:
            named[f"{name}.{CONSTRAINT}"] = (own, CategoricalDistribution(CONSTRAINTS))
        return named

    def _defaults(self, chosen: tuple[str, ...]) -> dict[str, dict[str, Value]]:
        found: dict[str, dict[str, Value]] = {}
        for name in chosen:
            found[name] = {choice.name: choice.default for choice in self._choices[name]}
            if _needs_constraint(name, chosen):
                found[name][CONSTRAINT] = FIRST_CONSTRAINT
        return found

    def _draw(
        self, trial: Trial, name: str, chosen: tuple[str, ...], held: Mapping[str, Value]
    ) -> dict[str, Value]:
        drawn: dict[str, Value] = {}
        for choice in self._choices[name]:
            drawn[choice.name] = choice.default
            if choice.is_active(drawn):
                own = f"{name}.{choice.name}"
                drawn[choice.name] = held[own] if own in held else _draw(trial, own, choice)
        if _needs_constraint(name, chosen):
            own = f"{name}.{CONSTRAINT}"
            left = held[own] if own in held else trial.suggest_categorical(own, CONSTRAINTS)
            drawn[CONSTRAINT] = float(left)
        return drawn

    def _recipe(self, chosen: tuple[str, ...], drawn: Mapping[str, Mapping[str, Value]]) -> Recipe:
        steps = []
        for name in chosen:
            choices = active_choices(registry.get(name), drawn[name])
            own = {key: value for key, value in drawn[name].items() if key == CONSTRAINT}
            steps.append(Step.of(name, {**choices, **own}))
        return tuple(steps)


def trains_long(recipe: Recipe) -> bool:
    """Tells whether a recipe trains for an epoch or more; what does not takes a tenth of that."""
    return _passes(recipe) >= ONE_EPOCH


def _passes(recipe: Recipe) -> float:
    return sum(registry.get(step.strategy).passes(step.choices_dict) for step in recipe)


def sound_combinations(names: Sequence[str]) -> list[tuple[str, ...]]:
    """Lists what may be combined of strategies given in the order in which they may follow."""
    found = []
    for size in range(1, len(names) + 1):
        for chosen in combinations(names, size):
            slots = [registry.get(name).slot for name in chosen]
            if len(set(slots)) == len(slots):
                found.append(chosen)
    return found


def _needs_constraint(name: str, chosen: tuple[str, ...]) -> bool:
    """Tells whether a strategy's cost is chosen with it: where it can aim and is not the last."""
    return registry.get(name).aims and name != chosen[-1]


def _pinned(choice: Choice, pinned: Sequence[Value] | None, timed: bool) -> Choice:
    values = choice.values if pinned is None else pinned
    if values is None:
        return choice
    if not timed:
        values = [value for value in values if value not in choice.timed]
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
