"""In which order recommended recipes are tried: what promises little comes later."""

from __future__ import annotations

import random
from typing import Any

import pytest

from trimtab.controller._recommended import LATER, is_outdone, next_recommended
from trimtab.controller._sampler import Known, Told, propose
from trimtab.controller._space import RecipeSpace
from trimtab.selection import RecipeScores
from trimtab_strategies.recipe import Recipe, Step

SPACE = RecipeSpace({name: {} for name in ("fisher", "ltp", "acc", "early_exit")}, 5000)
ANCHORS = SPACE.anchors()
GOOD, BAD = RecipeScores(0.4, 0.01, -0.5), RecipeScores(0.6, 0.1, 4.0)


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
    told = after_singles(**{worse: BAD})
    found: list[Recipe] = []
    for number in range(len(told), 60):
        recipe = propose(SPACE, told, seed=seed, number=number)
        assert recipe is not None
        found.append(recipe)
        told.append(Told(recipe, GOOD if better in names_of(recipe) else BAD))
    combined = [recipe for recipe in ANCHORS if len(recipe) > 1]
    promising = [recipe for recipe in combined if worse not in names_of(recipe)]
    assert found[: len(promising)] == promising, "first, and in their order"
    later = [recipe for recipe in combined if worse in names_of(recipe)]
    places = [found.index(recipe) for recipe in later]
    assert places == sorted(places) and len(places) == 3, "all are tried, in their order"
    drawn_between = [
        recipe for recipe in found[len(promising) : max(places)] if recipe not in later
    ]
    assert drawn_between or max(places) < len(promising) + 3


def test_nothing_comes_later_while_nobody_knows_who_is_better() -> None:
    told = after_singles(acc=None, ltp=None)
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
    return {names_of(recipe) for recipe in ANCHORS if is_outdone(space, recipe, alone)}


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
