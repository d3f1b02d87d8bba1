"""Which recipes are tried near a good one: those that share most of its choices and its work."""

from __future__ import annotations

import random
from collections import Counter
from typing import Any

import optuna
import pytest
from optuna.samplers import RandomSampler

from trimtab.controller import _neighbours
from trimtab.controller._sampler import Told, _trial, propose
from trimtab.controller._space import RecipeSpace
from trimtab.selection import RecipeScores
from trimtab_strategies import registry
from trimtab_strategies.base import default_choices
from trimtab_strategies.recipe import Recipe, Step

SPACE = RecipeSpace({name: {} for name in ("fisher", "ltp", "acc", "early_exit")}, 5000)


def drawn(space: RecipeSpace, n: int, seed: int) -> list[Recipe]:
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = optuna.create_study(sampler=RandomSampler(seed=seed))
    return [space.draw(study.ask()) for _ in range(n)]


def trial_of(recipe: Recipe, space: RecipeSpace = SPACE) -> Any:
    """Gives a recipe as the sampler has it."""
    trial = _trial(space, recipe, RecipeScores(0.5, 0.0, -0.1), False)
    assert trial is not None
    return trial


def neighbour(recipe: Recipe, rng: random.Random, space: RecipeSpace = SPACE) -> Recipe:
    study = optuna.create_study(sampler=RandomSampler(seed=rng.randrange(2**32)))
    kept = _neighbours.held(trial_of(recipe, space), recipe, rng)
    return space.draw(study.ask(), space.combination_of(recipe), kept)


def test_a_neighbour_differs_in_one_step_at_most_and_is_of_the_space(seed: int) -> None:
    rng = random.Random(seed)
    n_same = 0
    for recipe in drawn(SPACE, 100, seed):
        other = neighbour(recipe, rng)
        assert [step.strategy for step in other] == [step.strategy for step in recipe]
        differing = sum(one != two for one, two in zip(recipe, other, strict=True))
        assert differing <= 1 and SPACE.parameters(other) is not None
        n_same += differing == 0
    assert n_same < 40, "choices drawn anew may come out as they were, but mostly do not"


def changed_in(recipe: Recipe, rng: random.Random, space: RecipeSpace = SPACE) -> set[str]:
    trial = trial_of(recipe, space)
    return trial.params.keys() - _neighbours.held(trial, recipe, rng).keys()


def test_the_last_step_differs_most_often(rng: random.Random) -> None:
    recipe = next(one for one in drawn(SPACE, 200, 0) if len(one) == 3)
    counts: Counter[str] = Counter()
    for _ in range(2000):
        (strategy,) = {name.split(".")[0] for name in changed_in(recipe, rng)}
        counts[strategy] += 1
    assert abs(counts[recipe[-1].strategy] / 2000 - _neighbours.LAST) < 0.05
    before = {step.strategy for step in recipe[:-1]}
    assert all(counts[name] > 2000 * (1 - _neighbours.LAST) / 4 for name in before)


def test_what_is_pinned_is_nothing_to_differ_in(rng: random.Random, seed: int) -> None:
    exits: Any = {
        name: (value,)
        for name, value in default_choices(registry.get("early_exit")).items()
        if name != "width"
    }
    space = RecipeSpace({"fisher": {}, "early_exit": exits}, 5000)
    recipe = next(one for one in drawn(space, 50, seed) if len(one) == 2)
    changes = [changed_in(recipe, rng, space) for _ in range(300)]
    assert all(changes) and not any("fisher.cost" in one for one in changes)
    assert {name for one in changes for name in one if "early_exit" in name} == {"early_exit.width"}
    pinned = RecipeSpace({"early_exit": {**exits, "width": (64,)}}, 5000)
    (only,) = pinned.anchors()
    assert changed_in(only, rng, pinned) == set(), "and the whole is drawn again"


def test_what_becomes_open_with_a_choice_is_drawn() -> None:
    (exits,) = (one for one in SPACE.anchors() if [s.strategy for s in one] == ["early_exit"])
    kept = {**trial_of(exits).params, "early_exit.objective": "joint"}
    study = optuna.create_study(sampler=RandomSampler(seed=0))
    (step,) = SPACE.draw(study.ask(), "early_exit", kept)
    assert {"joint_epochs", "joint_lr"} <= step.choices_dict.keys()
    assert step.choices_dict["width"] == exits[0].choices_dict["width"]


def test_a_small_space_is_used_up_nearly_to_the_end() -> None:
    """Who only looked beside the best ones would not find what is left."""
    pins: Any = {
        "fisher": {
            name: (value,) for name, value in default_choices(registry.get("fisher")).items()
        },
        "early_exit": {
            name: (value,)
            for name, value in default_choices(registry.get("early_exit")).items()
            if name not in ("width", "positions")
        },
    }
    pins["early_exit"].pop("joint_epochs", None)
    space = RecipeSpace(pins, 5000)
    every = set(drawn(space, 3000, 0))
    told: list[Told] = []
    while (recipe := propose(space, told, seed=1, number=len(told))) is not None:
        told.append(Told(recipe, scores_of(recipe)))
    assert len(told) >= 0.95 * len(every), f"{len(told)} of {len(every)}"


def test_a_search_shares_steps_with_its_best_recipes(
    seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A third of what is drawn goes on behind steps that there are, more or less."""

    def n_shared() -> int:
        told: list[Told] = []
        shared = 0
        for number in range(60):
            recipe = propose(SPACE, told, seed=seed, number=number)
            assert recipe is not None
            is_drawn = recipe not in SPACE.anchors()
            known = {one.recipe[:place] for one in told for place in range(1, len(one.recipe))}
            shared += is_drawn and recipe[:-1] in known
            told.append(Told(recipe, scores_of(recipe)))
        return shared

    with_neighbours = n_shared()
    monkeypatch.setattr(_neighbours, "OFTEN", 0.0)
    assert with_neighbours >= 6 and with_neighbours > 2 * n_shared()


def scores_of(recipe: Recipe) -> RecipeScores:
    """Better with every step, and a little by what is chosen."""
    luck = random.Random(repr(recipe)).random()
    return RecipeScores(0.6 - 0.1 * len(recipe) + 0.05 * luck, 0.01, -0.5)


def test_neighbours_are_found_beside_recipes_of_other_versions() -> None:
    """What this space has no name for is no recipe to go on from."""
    other: Any = (Step.of("fisher", {"gone": 1}),)
    told = [Told(other, RecipeScores(0.01, 0.0, -1.0))]
    told += [Told(recipe, None) for recipe in SPACE.anchors()]
    for number in range(20):
        recipe = propose(SPACE, told, seed=0, number=number)
        assert recipe is not None and SPACE.parameters(recipe) is not None
