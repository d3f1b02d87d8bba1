"""Which combinations of strategies are proposed: mostly those that did best."""

from __future__ import annotations

import random
from collections import Counter

from trimtab.controller._favourites import FREE, NEXT, choose, ranked
from trimtab.controller._sampler import Told, propose
from trimtab.controller._space import RecipeSpace
from trimtab.selection import RecipeScores


def test_what_is_feasible_comes_first_and_then_what_lacks_least() -> None:
    results = [
        ("far", RecipeScores(0.1, 0.0, 0.9)),
        ("near", RecipeScores(0.4, 0.02, 0.1)),
        ("near", RecipeScores(0.2, 0.01, 0.8)),
        ("good", RecipeScores(0.5, 0.02, -0.1)),
    ]
    assert ranked(results) == ["good", "near", "far"]


def test_cost_and_drop_count_alike_and_cost_decides() -> None:
    results = [
        ("cheap", RecipeScores(0.2, 0.03, -1.0)),
        ("true", RecipeScores(0.4, 0.01, -1.0)),
        ("worse", RecipeScores(0.5, 0.04, -1.0)),
        ("both", RecipeScores(0.3, 0.05, -1.0)),
        ("both", RecipeScores(0.9, 0.005, -1.0)),
    ]
    # Places in cost and in drop: 0 + 2, 2 + 1, 3 + 3, 1 + 0.
    assert ranked(results) == ["both", "cheap", "true", "worse"]


def test_nothing_measured_leaves_all_to_the_estimator() -> None:
    assert ranked([]) == [] and choose([], random.Random(0)) is None


def test_the_best_is_chosen_most_often_and_none_never(rng: random.Random) -> None:
    n = 20_000
    counts = Counter(choose(["a", "b", "c"], rng) for _ in range(n))
    wanted = {None: FREE, "a": (1 - FREE) * (1 - NEXT), "b": (1 - FREE) * NEXT * (1 - NEXT)}
    wanted["c"] = 1 - sum(wanted.values())
    assert all(abs(counts[name] / n - share) < 0.02 for name, share in wanted.items())


def test_a_search_turns_to_the_combination_that_pays(seed: int) -> None:
    """Of ten combinations one is much better, whatever its choices are."""
    space = RecipeSpace({name: {} for name in ("fisher", "ltp", "acc", "early_exit")}, 5000)
    told: list[Told] = []
    for number in range(60):
        recipe = propose(space, told, seed=seed, number=number)
        assert recipe is not None
        is_good = space.combination_of(recipe) == "ltp+early_exit"
        told.append(Told(recipe, RecipeScores(0.2 if is_good else 0.6, 0.01, -0.5)))
    drawn = told[len(space.anchors()) :]
    n_good = sum(one.scores is not None and one.scores.cost_ratio == 0.2 for one in drawn)
    assert n_good > 0.4 * len(drawn), f"{n_good} of {len(drawn)}"
