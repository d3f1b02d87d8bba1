from __future__ import annotations

import random

import pytest

from trimtab.controller._ladder import (
    GRID,
    RUNGS_ABOVE,
    RUNGS_BELOW,
    TOO_NEAR,
    budget_rung,
    ladder,
)


def test_ladder_holds_the_budget_and_its_neighbours() -> None:
    assert ladder(0.5) == (0.6, 0.5, 0.4, 0.3)
    assert ladder(0.44) == (0.5, 0.44, 0.4, 0.3)
    assert ladder(0.42) == (0.5, 0.42, 0.3, 0.2)


@pytest.mark.parametrize("budget", [None, 1.0, 1.7])
def test_without_a_budget_to_keep_the_ladder_starts_at_the_top(budget: float | None) -> None:
    assert ladder(budget) == GRID[: RUNGS_ABOVE + 1 + RUNGS_BELOW]
    assert budget_rung(budget) is None


@pytest.mark.parametrize(
    ("budget", "expected"),
    [
        (0.999, (0.999, 0.9, 0.8)),
        (0.95, (0.95, 0.9, 0.8)),
        (0.1, (0.2, 0.1)),
        (0.01, (0.1, 0.01)),
        (0.0000004, (0.1, 0.0)),
    ],
)
def test_ladder_ends_where_there_are_no_neighbours(
    budget: float, expected: tuple[float, ...]
) -> None:
    assert ladder(budget) == expected


def test_every_ladder_keeps_the_budget(rng: random.Random) -> None:
    for _ in range(2000):
        budget = rng.choice([rng.random(), rng.random() * 1e-5, rng.randint(1, 99) / 100])
        budget = min(max(budget, 1e-9), 0.999999999)
        rungs, own = ladder(budget), budget_rung(budget)
        assert own is not None and own in rungs
        assert own <= budget, "the budget's own rung must not be over the budget"
        assert budget - own <= 1e-6
        assert list(rungs) == sorted(set(rungs), reverse=True)
        assert all(0 <= rung < 1 for rung in rungs)
        assert sum(rung > own for rung in rungs) <= RUNGS_ABOVE
        assert sum(rung < own for rung in rungs) <= RUNGS_BELOW
        others = [rung for rung in rungs if rung != own]
        assert set(others) <= set(GRID)
        assert all(abs(rung - budget) > TOO_NEAR for rung in others)


def test_round_budgets_keep_their_names() -> None:
    assert [budget_rung(percent / 100) for percent in range(1, 100)] == [
        percent / 100 for percent in range(1, 100)
    ]
