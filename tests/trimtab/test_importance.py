"""Which choice mattered: found again where one was made to matter."""

from __future__ import annotations

import random
from types import SimpleNamespace
from typing import Any

import pytest

from trimtab.errors import InputError
from trimtab.importance import LEAST_TRIALS, OVER_BUDGET, importance_of, rank_of
from trimtab.selection import Limits
from trimtab_strategies import registry

LIMITS = Limits(max_drop=0.02, max_flops_ratio=0.5)
CALIBRATIONS = (128, 256, 512, 1024)
RIDGE = next(choice for choice in registry.get("fisher").choices if choice.name == "ridge")
LOW, HIGH = float(RIDGE.low or 0), float(RIDGE.high or 0)


def study(n: int, seed: int, drop: Any, state: str = "complete") -> tuple[list[Any], list[Any]]:
    """Trials of Fisher pruning with drawn choices; ``drop`` says how each of them did."""
    draw, trials, points = random.Random(seed), [], []
    for number in range(n):
        choices = {
            "calibration": draw.choice(CALIBRATIONS),
            "importance": draw.choice(["predictions", "labels"]),
            "tuning": "projection",
            "ridge": LOW * (HIGH / LOW) ** draw.random(),
        }
        recipe = [{"strategy": "fisher", "choices": choices}]
        trials.append(SimpleNamespace(number=number, recipe=recipe, state=state))
        points.append(point(recipe, drop(choices, number)))
    return trials, points


def point(recipe: Any, drop: float, ratio: float = 0.4) -> Any:
    return SimpleNamespace(
        recipe=recipe, drop=drop, flops_ratio=ratio, flops=ratio, metric=0.9 - drop, latency=None
    )


@pytest.mark.parametrize("name", ["calibration", "importance", "ridge"])
def test_the_choice_that_decides_is_named_first(name: str, seed: int) -> None:
    best = {"calibration": 1024, "importance": "labels"}

    def drop(choices: Any, number: int) -> float:
        is_good = choices[name] > HIGH / 10 if name == "ridge" else choices[name] == best[name]
        return 0.01 if is_good else 0.1 + 0.001 * number

    found = importance_of("reviews", *study(60, seed, drop), LIMITS)
    assert next(iter(found.shares)) == f"fisher.{name}"
    assert sum(found.shares.values()) == pytest.approx(1)
    assert (found.n_trials, found.n_best) == (60, 6)


def test_what_never_differed_does_not_matter() -> None:
    trials, points = study(30, 1, lambda choices, number: 0.1 / choices["calibration"])
    shares = importance_of("reviews", trials, points, LIMITS).shares
    assert shares["fisher.tuning"] == 0
    assert "strategies" in shares and shares["strategies"] == 0


def test_too_few_trials_are_said_so() -> None:
    trials, points = study(LEAST_TRIALS - 1, 1, lambda choices, number: 0.1)
    with pytest.raises(InputError, match="from 10 complete trials on, and study 'reviews' has 9"):
        importance_of("reviews", trials, points, LIMITS)


def test_only_complete_trials_count() -> None:
    trials, points = study(20, 1, lambda choices, number: 0.1, state="failed")
    with pytest.raises(InputError, match="has 0: raise search.trials"):
        importance_of("reviews", trials, points, LIMITS)


def test_recipes_that_all_do_equally_well_tell_nothing() -> None:
    trials, points = study(20, 1, lambda choices, number: 0.01)
    with pytest.raises(InputError, match="no choice made a difference"):
        importance_of("reviews", trials, points, LIMITS)


def test_a_recipe_over_the_budget_comes_behind_all_within_it() -> None:
    good, dear, dearer = point([], 0.3, 0.5), point([], 0.0, 0.6), point([], 0.0, 0.9)
    assert rank_of([good, dear], LIMITS) == 0.3
    assert OVER_BUDGET < rank_of([dear, dearer], LIMITS) < rank_of([dearer], LIMITS)
