from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from trimtab.selection import (
    Limits,
    best,
    choose,
    closest,
    deciding,
    excess,
    is_feasible,
    recipe_scores,
)

DENSE_FLOPS = 2.0e9


@dataclass(frozen=True)
class Point:
    id: int
    drop: float
    flops_ratio: float
    latency: dict[str, Any] | None = None

    @property
    def flops(self) -> float:
        return self.flops_ratio * DENSE_FLOPS

    @property
    def metric(self) -> float:
        return 0.9 - self.drop


def timed(id: int, drop: float, ratio: float, high: float, verdict: str = "stable") -> Point:
    return Point(id, drop, ratio, {"value": high - 0.5, "high": high, "verdict": verdict})


TASK = Limits(max_drop=0.01, max_flops_ratio=0.4)

points_lists = st.lists(
    st.builds(
        timed,
        st.integers(1, 99),
        st.one_of(st.sampled_from([-0.002, 0.0, 0.01]), st.floats(-0.05, 0.5)),
        st.one_of(st.sampled_from([0.4, 1.0]), st.floats(0.01, 1.2)),
        st.floats(0.1, 300),
    ),
    min_size=1,
    max_size=12,
)
any_limits = st.builds(
    Limits,
    max_drop=st.none() | st.sampled_from([0.0, 0.001, 0.01]) | st.floats(0, 0.1),
    max_flops_ratio=st.none() | st.sampled_from([0.25, 0.4]) | st.floats(0.05, 1),
    max_flops=st.none() | st.floats(1e7, 2e9),
    max_latency_ms=st.none() | st.floats(0.5, 200),
)


def test_a_point_exactly_at_its_limits_is_feasible():
    at_limit = Point(1, 0.91 - 0.90, math.nextafter(0.4, 1))  # a few bits above both
    assert at_limit.drop > 0.01 and at_limit.flops_ratio > 0.4
    assert is_feasible(at_limit, TASK)
    assert excess(at_limit, TASK) == 0


def test_a_point_just_over_a_limit_is_not_feasible():
    assert not is_feasible(Point(1, 0.0100001, 0.3), TASK)
    assert not is_feasible(Point(1, 0.0, 0.4000001), TASK)


def test_a_point_without_any_drop_meets_a_limit_of_zero():
    limits = Limits(max_drop=0.0)
    assert is_feasible(Point(1, 1e-17, 0.5), limits)
    assert excess(Point(1, 0.005, 0.5), limits) == pytest.approx(0.5)  # half of one point


def test_excess_is_the_worst_of_all_limits():
    assert excess(Point(1, 0.015, 0.6), TASK) == pytest.approx(0.5)
    assert excess(Point(1, 0.03, 0.6), TASK) == pytest.approx(2.0)
    assert excess(Point(1, 0.005, 0.3), TASK) == pytest.approx(-0.25)
    assert excess(Point(1, 0.005, 0.3), Limits()) == -math.inf


def test_latency_is_held_against_the_upper_end_of_a_stable_interval():
    limits = Limits(max_latency_ms=8)
    assert is_feasible(timed(1, 0.0, 0.5, high=8.0), limits)
    assert not is_feasible(timed(1, 0.0, 0.5, high=8.2), limits)  # its value is 7.7
    assert excess(Point(1, 0.0, 0.5), limits) == math.inf
    for verdict in ("unstable", "predicted"):
        assert excess(timed(1, 0.0, 0.5, high=5.0, verdict=verdict), limits) == math.inf
        assert not is_feasible(timed(1, 0.0, 0.5, high=5.0, verdict=verdict), limits)
    only_value = Point(1, 0.0, 0.5, {"value": 5.0, "verdict": "stable"})
    assert not is_feasible(only_value, limits)


def test_best_has_the_smallest_drop_and_then_the_lowest_cost():
    points = [Point(1, 0.004, 0.2), Point(2, 0.002, 0.39), Point(3, 0.002, 0.35)]
    assert best([*points, Point(4, -0.01, 0.41)], TASK) == points[2]
    assert best([Point(4, -0.01, 0.41)], TASK) is None


def test_best_without_a_budget_is_the_lowest_cost_within_the_drop():
    points = [Point(1, 0.004, 0.2), Point(2, 0.002, 0.39), Point(3, 0.02, 0.1)]
    assert best(points, Limits(max_drop=0.01)) == points[0]


def test_best_under_a_latency_alone_breaks_ties_by_latency():
    points = [timed(1, 0.0, 0.2, high=7), timed(2, 0.0, 0.3, high=6)]
    assert best(points, Limits(max_drop=0.01, max_latency_ms=8)) == points[1]


def test_closest_breaks_ties_by_drop_and_then_by_cost():
    over = [Point(1, 0.02, 0.4), Point(2, 0.01, 0.8), Point(3, 0.0, 0.8), Point(4, 0.0, 0.8)]
    assert closest(over, TASK) == over[2]
    cheaper = Point(5, 0.02, 0.3)
    assert closest([over[0], cheaper], TASK) == cheaper


def test_choose_names_one_relaxation_for_each_limit():
    points = [Point(12, 0.0136, 0.398), Point(9, 0.008, 0.4561), Point(3, 0.05, 0.2)]
    choice = choose(points, TASK)
    assert not choice.feasible
    assert choice.point == points[1]
    assert choice.relaxations == [
        "raise flops from 40% to 45.7% (point 9: drop 0.8 pt)",
        "raise max_drop from 1 pt to 1.36 pt (point 12: 39.8% FLOPs)",
    ]


def test_choose_relaxes_absolute_flops_and_latency_in_their_own_units():
    limits = Limits(max_drop=0.01, max_flops=0.5e9, max_latency_ms=8)
    points = [timed(1, 0.004, 0.25, high=8.123), timed(2, 0.002, 0.5004, high=7)]
    assert choose(points, limits).relaxations == [
        "raise latency from 8 ms to 8.13 ms (point 1: drop 0.4 pt, 25% FLOPs)",
        "raise flops from 500 MFLOPs to 1010 MFLOPs (point 2: drop 0.2 pt)",
    ]


def test_choose_relaxes_two_limits_together_where_one_is_not_enough():
    choice = choose([Point(1, 0.02, 0.5)], TASK)
    assert choice.relaxations == [
        "raise max_drop from 1 pt to 2 pt and flops from 40% to 50% (point 1)"
    ]


def test_choose_has_nothing_to_relax_when_the_best_is_feasible_or_nothing_was_measured():
    assert choose([Point(1, 0.0, 0.3)], TASK).relaxations == []
    assert choose([Point(1, 0.0, 0.3)], TASK).feasible
    assert choose([Point(1, 0.0, 0.3)], Limits(max_latency_ms=8)).relaxations == []


def relaxed(limits: Limits, sentence: str) -> Limits:
    """Sets the limits that a relaxation asks for, read from its own words."""
    values = {name: getattr(limits, name) for name in Limits.__dataclass_fields__}
    for word, number, unit in re.findall(
        r"(\w+) from \S+?(?: \w+)? to ([\d.-]+) ?(%|\w+)", sentence
    ):
        name, size = {
            "pt": ("max_drop", 0.01),
            "%": ("max_flops_ratio", 0.01),
            "GFLOPs": ("max_flops", 1e9),
            "MFLOPs": ("max_flops", 1e6),
            "ms": ("max_latency_ms", 1.0),
        }[unit]
        assert word in name
        assert float(number) * size > values[name]
        values[name] = float(number) * size
    return Limits(**values)


@given(points_lists, any_limits)
def test_every_relaxation_really_admits_the_point_that_it_names(points, limits):
    points = [Point(i, p.drop, p.flops_ratio, p.latency) for i, p in enumerate(points)]
    choice = choose(points, limits)
    assert choice.feasible == is_feasible(choice.point, limits)
    assert bool(choice.relaxations) != choice.feasible
    for sentence in choice.relaxations:
        named = points[int(re.search(r"\(point (\d+)", sentence)[1])]
        assert is_feasible(named, relaxed(limits, sentence)), sentence


@given(points_lists, any_limits)
def test_best_and_closest_agree_with_their_definitions(points, limits):
    feasible = [p for p in points if is_feasible(p, limits)]
    winner = best(points, limits)
    assert (winner is None) == (not feasible)
    if winner is not None and limits.has_budget:
        assert winner.drop == min(p.drop for p in feasible)
    if winner is not None and not limits.has_budget:
        assert winner.flops_ratio == min(p.flops_ratio for p in feasible)
    assert excess(closest(points, limits), limits) == min(excess(p, limits) for p in points)


def test_recipe_scores_come_from_different_points_of_a_ladder():
    ladder = [
        Point(1, 0.002, 0.6),
        Point(2, 0.008, 0.45),
        Point(3, 0.012, 0.4),
        Point(4, 0.05, 0.3),
    ]
    scores = recipe_scores(ladder, TASK)
    assert scores == (0.45, 0.012, pytest.approx(0.125))  # closest: point 2, 5 % over the FLOPs


def test_recipe_scores_take_the_closest_point_where_nothing_is_within():
    hopeless = [Point(1, 0.03, 0.5), Point(2, 0.02, 0.9)]
    assert recipe_scores(hopeless, TASK) == (0.9, 0.02, pytest.approx(1.25))


def test_recipe_scores_of_a_feasible_recipe_have_no_violation():
    scores = recipe_scores([Point(1, 0.005, 0.3), Point(2, 0.002, 0.36)], TASK)
    assert scores == (0.3, 0.002, pytest.approx(-0.1))


@given(points_lists, any_limits)
def test_recipe_scores_can_always_be_told_to_a_sampler(points, limits):
    scores = recipe_scores(points, limits)
    assert all(math.isfinite(value) for value in scores)
    assume(limits.has_budget)
    assert (scores.violation <= 0) == choose(points, limits).feasible


@given(points_lists, points_lists, any_limits)
def test_deciding_points_stand_for_all_that_they_were_taken_from(before, later, limits):
    everything = recipe_scores([*before, *later], limits)
    assert recipe_scores([*deciding(before, limits), *later], limits) == everything


@pytest.mark.parametrize("call", [closest, choose, recipe_scores])
def test_choosing_among_nothing_is_refused(call):
    with pytest.raises(ValueError, match="at least one measured point"):
        call([], TASK)


@pytest.mark.parametrize(
    "wrong",
    [
        {"max_drop": math.nan},
        {"max_flops_ratio": 0.0},
        {"max_flops": -1.0},
        {"max_latency_ms": math.inf},
    ],
)
def test_limits_that_mean_nothing_are_refused(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        Limits(**wrong)


def timed_twice(id: int, drop: float, high: float, other: float, **changes: Any) -> Point:
    """A point that was timed on single texts and on batches of 32."""
    kind = {"statistic": "p95", "batch_size": 1, "value": high - 0.5, "high": high}
    more = {"statistic": "mean", "batch_size": 32, "value": other - 5, "high": other}
    stable = {"verdict": "stable"}
    return Point(id, drop, 0.3, {**kind, **stable, "others": [{**more, **stable, **changes}]})


BOTH = Limits(max_drop=0.01, max_latency_ms=8, other_latencies_ms=(100,))


@pytest.mark.parametrize(
    ("point", "feasible"),
    [
        (timed_twice(1, 0.0, 8, 100), True),
        (timed_twice(1, 0.0, 8.1, 90), False),
        (timed_twice(1, 0.0, 7, 101), False),
        (timed_twice(1, 0.0, 7, 90, verdict="unstable"), False),
        (timed_twice(1, 0.0, 7, 90, verdict="predicted"), False),
        (timed(1, 0.0, 0.3, high=7), False),
        (Point(1, 0.0, 0.3), False),
    ],
)
def test_every_limit_on_latency_must_be_met_by_what_was_measured(point: Point, feasible: bool):
    assert is_feasible(point, BOTH) is feasible
    assert math.isinf(excess(point, BOTH)) == (point.latency is None or not _is_known(point))


def _is_known(point: Point) -> bool:
    others = (point.latency or {}).get("others") or [{"verdict": "unstable"}]
    return all(other["verdict"] == "stable" for other in others)


def test_the_relaxation_names_the_limit_that_is_missed():
    points = [timed_twice(1, 0.004, 7, 123), timed_twice(2, 0.002, 9.5, 90)]
    assert choose(points, BOTH).relaxations == [
        "raise latency p95 at batch 1 from 8 ms to 9.5 ms (point 2: drop 0.2 pt, 30% FLOPs)",
        "raise latency mean at batch 32 from 100 ms to 123 ms (point 1: drop 0.4 pt, 30% FLOPs)",
    ]
    together = choose([timed_twice(3, 0.002, 9, 120, lengths=[16, 64])], BOTH).relaxations
    assert together == [
        "raise latency p95 at batch 1 from 8 ms to 9 ms and latency mean at batch 32 of 16 to 64 "
        "tokens from 100 ms to 120 ms (point 3: drop 0.2 pt, 30% FLOPs)"
    ]


def test_the_closest_is_so_by_the_worst_of_all_limits():
    points = [timed_twice(1, 0.0, 7, 200), timed_twice(2, 0.0, 8.4, 110)]
    assert closest(points, BOTH) == points[1]
    assert best(points, Limits(max_latency_ms=8)) == points[0]


@pytest.mark.parametrize("others", [(0.0,), (5.0, math.inf), (-1.0,)])
def test_further_limits_must_be_positive_and_finite(others: tuple[float, ...]):
    with pytest.raises(ValueError, match="other_latencies_ms must be positive and finite"):
        Limits(max_latency_ms=8, other_latencies_ms=others)


def test_further_limits_come_with_a_first():
    with pytest.raises(ValueError, match="must come with max_latency_ms"):
        Limits(other_latencies_ms=(5.0,))
