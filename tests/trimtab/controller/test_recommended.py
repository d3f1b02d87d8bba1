"""In which order recommended recipes are tried: what promises little comes later."""

from __future__ import annotations

import random
from typing import Any

import pytest

from trimtab.controller._recommended import LATER, is_outdone, next_recommended, weakest
from trimtab.controller._sampler import NOTHING, Known, Told, planned, propose
from trimtab.controller._space import RecipeSpace, trains_long
from trimtab.selection import RecipeScores
from trimtab_strategies.recipe import Recipe, Step

SPACE = RecipeSpace({name: {} for name in ("fisher", "ltp", "acc", "early_exit")}, 5000)
ANCHORS = SPACE.anchors()
GOOD, BAD = RecipeScores(0.4, 0.01, -0.5), RecipeScores(0.6, 0.1, 4.0)
BETTER = RecipeScores(0.3, 0.005, -0.6)


def names_of(recipe: Recipe) -> tuple[str, ...]:
    return tuple(step.strategy for step in recipe)


def after_singles(**scores: RecipeScores | None) -> list[Told]:
    """Gives what is known once each strategy was tried alone."""
    alone = [recipe for recipe in ANCHORS if len(recipe) == 1]
    return [Told(recipe, scores.get(recipe[0].strategy, GOOD)) for recipe in alone]


@pytest.mark.parametrize(("worse", "better"), [("acc", "ltp"), ("ltp", "acc")])
def test_combinations_with_what_did_worse_come_among_what_is_drawn(
    worse: str, better: str, seed: int
) -> None:
    drawn_between = [
        _has_drawn_between(_proposed(worse, better, seed + more), worse) for more in range(10)
    ]
    assert any(drawn_between), "by chance they come at once in one search of a hundred, not in ten"


def _proposed(worse: str, better: str, seed: int) -> list[Recipe]:
    """Gives what is proposed once each strategy was tried alone, and one did worse."""
    told = after_singles(**{worse: BAD})
    found: list[Recipe] = []
    for number in range(len(told), 60):
        recipe = propose(SPACE, told, seed=seed, number=number)
        assert recipe is not None
        found.append(recipe)
        told.append(Told(recipe, GOOD if better in names_of(recipe) else BAD))
    return found


def _has_drawn_between(found: list[Recipe], worse: str) -> bool:
    combined = [recipe for recipe in ANCHORS if len(recipe) > 1]
    promising = [recipe for recipe in combined if worse not in names_of(recipe)]
    at_once = [recipe for recipe in promising if not trains_long(recipe)]
    assert found[: len(at_once)] == at_once, "first, and in their order"
    later = [recipe for recipe in combined if recipe not in promising]
    tried = [recipe for recipe in found if recipe in combined]
    assert tried == [*promising, *later], "all are tried, in their order"
    return max(found.index(recipe) for recipe in tried) >= len(tried)


def test_nothing_comes_later_while_nobody_knows_who_is_better() -> None:
    told = after_singles(acc=None, ltp=None, fisher=BAD, early_exit=BAD)
    left = [recipe for recipe in ANCHORS if len(recipe) > 1]
    assert next_recommended(SPACE, left, [], scored(told), random.Random(0)) == left[0]
    for place in range(len(left)):
        assert (
            next_recommended(SPACE, left[place:], [], scored(told), random.Random(0)) == left[place]
        )


def test_how_often_one_that_comes_later_is_tried(rng: random.Random) -> None:
    left = [recipe for recipe in ANCHORS if "acc" in names_of(recipe) and len(recipe) > 1]
    told = scored(after_singles(acc=BAD))
    found = [next_recommended(SPACE, left, [], told, rng) for _ in range(2000)]
    assert set(found) == {left[0], None}
    assert abs(sum(one is not None for one in found) / 2000 - LATER) < 0.05


def test_what_is_known_to_be_good_never_waits() -> None:
    told = after_singles(acc=BAD)
    chain = next(recipe for recipe in ANCHORS if names_of(recipe) == ("acc", "early_exit"))
    first = propose(SPACE, told, seed=0, number=9, known=Known(first=(chain,)))
    assert first == chain


def outdone(alone: dict[str, RecipeScores], space: RecipeSpace = SPACE) -> set[tuple[str, ...]]:
    """Names the combinations that are outdone, given how each strategy did as it is recommended."""
    by_step = {usual(name): scores for name, scores in alone.items()}
    return {names_of(recipe) for recipe in ANCHORS if is_outdone(space, recipe, by_step)}


def usual(name: str, *, trains: bool = True) -> Step:
    """Gives a strategy's first recommended step; of two forms the one that trains, or does not."""
    every = [recipe[0] for recipe in ANCHORS if names_of(recipe) == (name,)]
    is_form = {step: (step.choices_dict.get("thresholds") != "manual") == trains for step in every}
    return next(step for step in every if is_form[step])


WITH_ACC = {("fisher", "acc"), ("acc", "early_exit"), ("fisher", "acc", "early_exit")}


@pytest.mark.parametrize(
    ("acc", "expected"),
    [
        (BAD, WITH_ACC),
        (RecipeScores(0.5, 0.01, -0.5), WITH_ACC),
        (GOOD, set()),
        (RecipeScores(0.5, 0.0, -0.5), set()),
    ],
    ids=["lacks more", "dearer", "alike", "better in one"],
)
def test_only_who_is_worse_in_all_respects_is_outdone(
    acc: RecipeScores, expected: set[tuple[str, ...]]
) -> None:
    alone = {"ltp": GOOD, "early_exit": GOOD, "fisher": BAD, "acc": acc}
    assert outdone(alone) == expected
    assert outdone({"acc": acc}) == outdone({"ltp": GOOD}) == set(), "of one nothing is known yet"


@pytest.mark.parametrize("is_trained_better", [True, False])
def test_of_two_forms_of_a_strategy_the_worse_one_comes_later(is_trained_better: bool) -> None:
    better, worse = (
        usual("ltp", trains=trains) for trains in (is_trained_better, not is_trained_better)
    )
    alone = {better: GOOD, worse: BAD}
    waiting = [recipe for recipe in ANCHORS if is_outdone(SPACE, recipe, alone)]
    assert len(waiting) == 3 and all(worse in recipe for recipe in waiting)
    assert not any(is_outdone(SPACE, recipe, {worse: BAD}) for recipe in ANCHORS)


@pytest.mark.parametrize("is_trained_better", [True, False])
def test_combinations_are_made_of_what_did_best_alone(is_trained_better: bool) -> None:
    better, worse = (
        usual("ltp", trains=is_it) for is_it in (is_trained_better, not is_trained_better)
    )
    told = [Told((better,), GOOD), Told((worse,), BAD)]
    combined = [one for one in planned(SPACE, NOTHING, told) if len(one) > 1]
    forms = {step for one in combined for step in one if step.strategy == "ltp"}
    assert forms == {better, usual("ltp", trains=False)}, "the best one, and what trains least"
    elsewhere = planned(SPACE, Known(told=tuple(told)))
    assert [one for one in elsewhere if len(one) > 1] == combined, "from another study as well"


def test_what_was_drawn_is_not_what_combinations_are_made_of() -> None:
    step = usual("early_exit")
    told = [Told((step,), BAD), Told((step.with_choices(epochs=40),), GOOD)]
    assert planned(SPACE, NOTHING, told) == planned(SPACE, NOTHING, told[:1]) == ANCHORS


def test_combinations_are_tried_again_when_another_setting_did_better() -> None:
    """What hardly trains is combined first; once training did better alone, so is that."""
    manual, learned = (usual("ltp", trains=trains) for trains in (False, True))
    told = [Told((manual,), GOOD)]
    assert not any(learned in one for one in planned(SPACE, NOTHING, told) if len(one) > 1)
    told.append(Told((learned,), BETTER))
    again = [one for one in planned(SPACE, NOTHING, told) if len(one) > 1]
    assert sum(learned in one for one in again) == sum(manual in one for one in again) == 3


def test_combinations_begin_with_those_whose_weakest_step_did_best_alone() -> None:
    told = after_singles(early_exit=BAD)
    first = propose(SPACE, told, seed=0, number=len(told))
    assert first is not None and names_of(first) == ("fisher", "ltp"), "the last in their order"
    in_order = propose(SPACE, after_singles(), seed=0, number=len(told))
    assert in_order is not None and names_of(in_order) == ("fisher", "early_exit")


def test_what_was_drawn_outdoes_no_other_setting_of_its_strategy() -> None:
    step = usual("early_exit")
    alone = {step: GOOD, step.with_choices(epochs=40): BETTER}
    assert not any(is_outdone(SPACE, recipe, alone) for recipe in ANCHORS)


def test_how_a_recipe_did_here_counts_and_not_how_elsewhere() -> None:
    manual, learned = (usual("ltp", trains=trains) for trains in (False, True))
    elsewhere = Known(told=(Told((manual,), BETTER), Told((learned,), GOOD)))
    assert planned(SPACE, elsewhere, [Told((manual,), BAD)]) != planned(SPACE, elsewhere)
    failed = planned(SPACE, elsewhere, [Told((manual,), None)])
    assert any(learned in one for one in failed if len(one) > 1)


def test_what_is_over_the_limits_alone_is_combined_last() -> None:
    """But not where all are: then it tells nothing."""
    manual, cheap = usual("ltp", trains=False), [one for one in ANCHORS if not trains_long(one)]
    told = [Told(one, BAD if manual in one else GOOD) for one in cheap if len(one) == 1]
    order = next_two(told)
    assert order == [("fisher", "early_exit"), ("ltp",)], "single ones before what is with LTP"
    told = [Told(one, BAD) for one in cheap if len(one) == 1]
    assert next_two(told) == [("fisher", "ltp", "early_exit"), ("fisher", "ltp")], "their order"


def next_two(told: list[Told]) -> list[tuple[str, ...]]:
    found = []
    for number in range(len(told), len(told) + 2):
        recipe = propose(SPACE, told, seed=0, number=number)
        assert recipe is not None
        found.append(names_of(recipe))
        told = [*told, Told(recipe, BAD)]
    return found


def test_a_step_that_was_not_tried_alone_is_thought_good() -> None:
    fisher, ltp, exits = (usual(name) for name in ("fisher", "ltp", "early_exit"))
    alone = {fisher: GOOD, exits: BAD, ltp: BETTER}
    assert weakest((fisher, exits), alone) == (4.0, 0.6)
    assert weakest((fisher.with_choices(constraint=0.5), ltp), alone) == (0.0, 0.4)
    assert weakest((usual("acc"), ltp), alone) == (0.0, 0.3)
    assert weakest((usual("acc"),), alone) == (0.0, 0.0)


def test_what_trains_long_shares_its_turns_with_neighbours(rng: random.Random) -> None:
    """But not before anything is within the limits, nor what is wanted in any case."""
    cheap = [one for one in ANCHORS if not trains_long(one)]
    dear = [one for one in ANCHORS if trains_long(one) and len(one) > 1]
    for told, expected in (([(cheap[0], BAD)], 1.0), ([(cheap[0], GOOD)], LATER)):
        found = [next_recommended(SPACE, dear, [], told, rng) for _ in range(2000)]
        assert len(set(found) - {None}) == 1 and set(found) <= {*dear, None}
        assert abs(sum(one is not None for one in found) / 2000 - expected) < 0.05
    told = [(cheap[0], GOOD)]
    assert all(next_recommended(SPACE, dear, dear, told, rng) == dear[0] for _ in range(20))
    assert all(next_recommended(SPACE, ANCHORS, [], told, rng) == cheap[0] for _ in range(20))


def test_what_the_space_has_no_counterpart_of_is_not_outdone() -> None:
    space = RecipeSpace({name: {} for name in ("fisher", "ltp", "acc")}, 5000, [("fisher", "ltp")])
    assert not outdone({"ltp": GOOD, "acc": BAD}, space) & {("fisher", "acc")}


def test_what_other_studies_told_counts() -> None:
    """A single strategy that is known from elsewhere is not tried again, but judged by."""
    known = Known(told=tuple(after_singles(acc=BAD)))
    told: list[Told] = []
    found = []
    for number in range(4):
        recipe = propose(SPACE, told, seed=0, number=number, known=known)
        assert recipe is not None
        found.append(names_of(recipe))
        told.append(Told(recipe, GOOD))
    assert found == [
        ("fisher", "early_exit"),
        ("fisher", "ltp", "early_exit"),
        ("fisher", "ltp"),
        ("ltp", "early_exit"),
    ]


def test_a_space_that_is_used_up_still_gives_what_comes_later() -> None:
    pins: dict[str, Any] = {
        "ltp": {"thresholds": ("manual",), "last_threshold": (0.01,), "normaliser": ("fixed",)},
        "acc": {},
        "early_exit": {},
    }
    space = RecipeSpace(pins, 5000)
    told = [Told(recipe, GOOD) for recipe in space.anchors() if "acc" not in names_of(recipe)]
    alone = [recipe for recipe in space.anchors() if names_of(recipe) == ("acc",)]
    told += [Told(recipe, BAD) for recipe in alone]
    proposed = {propose(space, told, seed=seed, number=20) for seed in range(12)}
    assert any(recipe in space.anchors() for recipe in proposed)


def test_strategies_of_other_versions_are_nobodys_counterpart() -> None:
    told = [((Step.of("gone", {}),), GOOD), *scored(after_singles(acc=BAD))]
    left = [recipe for recipe in ANCHORS if len(recipe) > 1]
    assert next_recommended(SPACE, left, [], told, random.Random(0)) is not None


def scored(told: list[Told]) -> list[tuple[Recipe, RecipeScores]]:
    return [(one.recipe, one.scores) for one in told if one.scores is not None]
