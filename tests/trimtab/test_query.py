"""Choosing among a study's points by reading few of them."""

from __future__ import annotations

import random
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from trimtab.frontier import non_dominated
from trimtab.query import choose_among, choose_of_study
from trimtab.selection import Limits

N_STUDIES = 300


@dataclass(frozen=True)
class Point:
    """A point without latency; the baseline is the one without a recipe."""

    id: int
    drop: float
    flops_ratio: float
    recipe: list[Any] = field(default_factory=lambda: [{"strategy": "fisher"}])
    latency: dict[str, Any] | None = None

    @property
    def metric(self) -> float:
        return 0.9 - self.drop

    @property
    def flops(self) -> float:
        return 1e6 * self.flops_ratio


@dataclass
class Rows:
    """A reader of one study, which notes whether all points were read."""

    rows: list[Point]
    has_read_all: bool = False

    def frontier(self, study_id: int) -> list[Point]:
        flags = non_dominated([p.drop for p in self.rows], [p.flops_ratio for p in self.rows])
        return [point for point, flag in zip(self.rows, flags, strict=True) if flag]

    def points(self, study_id: int) -> list[Point]:
        self.has_read_all = True
        return self.rows


def study(rng: random.Random) -> Rows:
    """Costs and drops on a coarse grid, so that there are ties, around those of the baseline."""
    n = rng.choice([0, 1, 2, 5, 40])
    drops, costs = (-0.01, 0.0, 0.01, 0.02, 0.3), (0.2, 0.5, 0.9, 1.0, 1.1)
    made = [Point(2 + i, rng.choice(drops), rng.choice(costs)) for i in range(n)]
    return Rows([Point(1, 0.0, 1.0, []), *made])


def limits(rng: random.Random) -> Limits:
    return Limits(
        max_drop=rng.choice([None, -0.02, 0.0, 0.01, 0.5]),
        max_flops_ratio=rng.choice([None, 0.1, 0.5, 1.0]),
    )


def worth(choice: Any) -> Any:
    """What a choice says but for the point's number, which differs where points are equal."""
    return choice.point.drop, choice.point.flops_ratio, choice.point.recipe, choice.feasible


def test_few_points_give_the_choice_of_all() -> None:
    rng = random.Random(5)
    few = 0
    for number in range(N_STUDIES):
        rows, wanted = study(rng), limits(rng)
        found = choose_of_study(rows, 1, wanted)  # type: ignore[arg-type]
        expected = choose_among(rows.rows, wanted)
        assert worth(found) == worth(expected), f"seed 5, study {number}: {rows.rows}, {wanted}"
        assert len(found.relaxations) == len(expected.relaxations)
        few += not rows.has_read_all
    assert few > N_STUDIES / 3


def test_a_limit_on_latency_looks_at_all() -> None:
    rows = Rows([Point(1, 0.0, 1.0, []), Point(2, 0.0, 0.5), Point(3, 0.01, 0.6)])
    fast = {"value": 1.0, "low": 0.9, "high": 1.1, "verdict": "stable"}
    rows.rows[2] = replace(rows.rows[2], latency=fast)
    found = choose_of_study(rows, 1, Limits(max_latency_ms=2.0))  # type: ignore[arg-type]
    assert found is not None and found.point.id == 3 and rows.has_read_all


@pytest.mark.parametrize("given", [Limits(), Limits(max_drop=0.1)])
def test_without_points_there_is_no_choice(given: Limits) -> None:
    assert choose_of_study(Rows([]), 1, given) is None  # type: ignore[arg-type]
