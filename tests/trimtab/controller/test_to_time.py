"""What latency is expected of points, and which of them are worth timing."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from trimtab.controller._expected import Expectation, is_timed, only_predicted
from trimtab.controller._to_time import (
    MOST_TRIES,
    Prospective,
    is_settled,
    slowness,
    worth_timing,
)
from trimtab.selection import Limits

EXPECTATION = Expectation("p95", baseline_ms=10.0)
LIMITS = Limits(max_drop=0.01, max_latency_ms=5.0)
TIMED = {"value": 4.0, "high": 4.5, "verdict": "stable"}


@pytest.mark.parametrize(
    ("latency", "expected"),
    [
        (None, 3.0),  # nothing is known: as its FLOPs
        ({"verdict": "predicted", "value": None, "predicted": {"p50": 1.0, "p95": 2.0}}, 2.0),
        (TIMED, 4.5),
        ({**TIMED, "verdict": "unstable"}, 3.0),
        ({**TIMED, "verdict": "unstable", "predicted": {"p95": 2.0}}, 2.0),
        ({"value": None, "predicted": None}, 3.0),
    ],
)
def test_what_is_expected_of_a_point(latency: Any, expected: float) -> None:
    assert EXPECTATION.ms(latency, 0.3) == expected
    as_if = EXPECTATION.as_if_timed(latency, 0.3)
    assert is_timed(as_if) and as_if["high"] == expected
    assert is_timed(latency) == (latency == TIMED)


def test_what_is_only_predicted_is_not_timed() -> None:
    assert only_predicted(None) is None
    latency = only_predicted({"p50": 1.0, "p95": 2.0, "mean": 1.5})
    assert latency is not None and latency["value"] is None and not is_timed(latency)
    assert EXPECTATION.ms(latency, 0.9) == 2.0


def point(number: int, drop: float, ms: float, *, timed: bool = False, tries: int = 0) -> Any:
    return Prospective(
        id=number,
        artifact_key=f"a{number}",
        knobs={},
        metric=0.9 - drop,
        drop=drop,
        flops=ms,
        flops_ratio=ms / 10,
        latency={"value": ms, "high": ms, "verdict": "stable"},
        predicted=None,
        is_dense=number == 0,
        is_timed=timed,
        tries=tries,
    )


def ids(points: Any) -> list[int]:
    return [one.id for one in points]


def test_the_one_to_be_delivered_comes_first_then_what_is_near_the_budget() -> None:
    points = [
        point(1, 0.000, 9.0),  # over the budget, unbeaten
        point(2, 0.004, 4.8),  # the best
        point(3, 0.006, 3.0),
        point(4, 0.005, 6.0),  # beaten by 2
        point(5, 0.030, 2.5),  # over the drop
        point(6, 0.002, 5.2),  # just over the budget
    ]
    assert ids(worth_timing(points, LIMITS, 9)) == [2, 6, 3, 1, 5]
    assert ids(worth_timing(points, LIMITS, 2)) == [2, 6]
    assert not is_settled(points, LIMITS)


def test_what_was_timed_is_not_timed_again() -> None:
    points = [point(1, 0.004, 4.8, timed=True), point(2, 0.006, 3.0), point(3, 0.005, 4.9)]
    assert ids(worth_timing(points, LIMITS, 9)) == [2], "3 is beaten by what 1 was timed to be"
    assert is_settled(points, LIMITS)


def test_a_point_that_is_never_stable_is_given_up() -> None:
    points = [point(1, 0.004, 4.0, tries=MOST_TRIES), point(2, 0.006, 4.5, tries=MOST_TRIES - 1)]
    assert ids(worth_timing(points, LIMITS, 9)) == [2], "what cannot be timed beats nothing"
    assert is_settled(points[:1], LIMITS)


def test_where_nothing_is_expected_to_meet_the_limits_the_closest_is_timed() -> None:
    points = [point(0, 0.0, 10.0, timed=True), point(1, 0.004, 8.0), point(2, 0.006, 6.0)]
    assert ids(worth_timing(points, LIMITS, 1)) == [2]
    assert not is_settled(points, LIMITS)
    assert is_settled(points[:1], LIMITS), "the dense model is no answer, but all there is"


def test_without_points_nothing_is_to_be_timed() -> None:
    assert worth_timing([], LIMITS, 3) == [] and is_settled([], LIMITS)


def test_a_budget_on_flops_counts_too() -> None:
    points = [point(1, 0.004, 4.8), point(2, 0.006, 3.0)]
    both = Limits(max_drop=0.01, max_latency_ms=5.0, max_flops_ratio=0.4)
    assert ids(worth_timing(points, both, 1)) == [2]


def test_how_much_slower_models_are_is_asked_of_those_that_should_have_been_within() -> None:
    def timed(number: int, ms: float, predicted: float | None) -> Any:
        guess = None if predicted is None else {"p95": predicted}
        return replace(point(number, 0.0, ms, timed=True), predicted=guess, aims=True)

    within = timed(1, 4.4, 4.0)
    assert slowness([within], LIMITS, EXPECTATION) == [1]
    over_anyway, unknown, untimed = timed(2, 9.0, 6.0), timed(3, 9.0, None), point(4, 0.0, 9.0)
    assert slowness([within, over_anyway, unknown, untimed], LIMITS, EXPECTATION) == [1]
    assert slowness([within, timed(5, 6.0, 5.0)], LIMITS, EXPECTATION) == [pytest.approx(1.2)]
    used = timed(8, 4.7, 4.0)
    assert slowness([used, timed(5, 6.0, 5.0)], LIMITS, EXPECTATION) == [1], (
        "one uses the limit well"
    )
    of_no_use = replace(used, drop=0.5)
    by_exits = replace(timed(9, 9.0, 4.9), aims=False)
    missed = timed(5, 6.0, 5.0)
    assert slowness([of_no_use, by_exits, missed], LIMITS, EXPECTATION) == [pytest.approx(1.2)]
    # With a margin of 1.3 nobody expected 4.0 to be within 5.
    wide = replace(EXPECTATION, margin=1.3)
    assert slowness([timed(6, 6.0, 4.0)], LIMITS, wide) == [1]
