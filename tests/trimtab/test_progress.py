"""The hypervolume of a study: what it is measured from, and how it grows trial by trial."""

from __future__ import annotations

import random
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import pytest

from trimtab.progress import front_of, growth, hypervolume_of, share_of

MAX_DROP = 0.02
AREA = 0.12
"""Of the whole rectangle: ten points more than allowed, by the dense model's cost."""


def point(trial: int | None, drop: float, cost: float, **changes: Any) -> Any:
    facts = {"trial_id": trial, "drop": drop, "flops_ratio": cost, "on_flops_frontier": True}
    return SimpleNamespace(**{**facts, "recipe": [] if trial is None else [{}], **changes})


def trial(number: int, end_s: float, seconds: float | None = 10.0, state: str = "complete") -> Any:
    ended = datetime.fromtimestamp(1e9 + end_s, UTC).isoformat(timespec="microseconds")
    return SimpleNamespace(
        id=number,
        number=number,
        state=state,
        seconds=seconds,
        finished_at=None if state == "running" else ended,
    )


def test_a_model_that_costs_nothing_and_loses_nothing_covers_all() -> None:
    assert share_of([(0.0, 0.0)], MAX_DROP) == 1.0
    assert share_of([(-0.03, 0.0)], MAX_DROP) == pytest.approx(0.15 / AREA)


@pytest.mark.parametrize("hopeless", [(0.0, 1.0), (0.13, 0.0), (0.5, 0.1), (0.01, 1.2)])
def test_what_is_as_bad_as_the_reference_covers_nothing(hopeless: tuple[float, float]) -> None:
    assert share_of([hopeless], MAX_DROP) == 0.0


def test_two_points_cover_what_either_does() -> None:
    covered = 0.2 * 0.07 + 0.6 * 0.11  # from 20% to 40% only the cheap one, from there the better
    assert share_of([(0.05, 0.2), (0.01, 0.4)], MAX_DROP) == pytest.approx(covered / AREA)


def test_the_front_covers_as_much_as_all(rng: random.Random) -> None:
    for _ in range(50):
        pairs = [(rng.uniform(-0.05, 0.2), rng.random()) for _ in range(rng.randrange(30))]
        front = front_of(pairs)
        assert share_of(front, MAX_DROP) == pytest.approx(share_of(pairs, MAX_DROP))
        assert len(front_of(front)) == len(front)


def test_without_a_limit_or_a_point_there_is_no_hypervolume() -> None:
    assert hypervolume_of([], MAX_DROP) is None
    assert hypervolume_of([point(None, 0.0, 1.0)], MAX_DROP) is None, "the baseline is none"
    assert hypervolume_of([point(1, 0.0, 0.5)], None) is None
    assert hypervolume_of([point(1, 0.5, 0.5)], MAX_DROP) == 0.0
    assert hypervolume_of([point(1, 0.0, 0.5)], MAX_DROP) == 0.5


# Trial by trial


def test_trials_count_in_the_order_in_which_they_ended() -> None:
    trials = [
        trial(0, 30),
        trial(1, 20),
        trial(2, 25, state="failed"),
        trial(3, 0, None, "running"),
    ]
    points = [point(None, 0.0, 1.0), point(0, 0.0, 0.25), point(1, 0.0, 0.5)]
    grown = growth(trials, points, MAX_DROP)
    assert [(one.trial.number, one.hypervolume) for one in grown] == [(1, 0.5), (2, 0.5), (0, 0.75)]


def test_what_was_there_before_is_part_of_the_first() -> None:
    before = point(None, 0.0, 0.5)
    (only,) = growth([trial(0, 10)], [before, point(0, 0.0, 0.6)], MAX_DROP)
    assert only.hypervolume == 0.5


def test_time_is_counted_from_the_start_of_the_first_trial() -> None:
    grown = growth([trial(0, 100, 10), trial(1, 115, 12), trial(2, 120, 20)], [], MAX_DROP)
    assert [one.at_s for one in grown] == pytest.approx([10, 25, 30])


def test_breaks_between_runs_are_left_out_but_not_the_moments_between_trials() -> None:
    day = 86400
    trials = [trial(0, 10), trial(1, 25, 10), trial(2, day, 10), trial(3, day + 10, 10)]
    assert [one.at_s for one in growth(trials, [], MAX_DROP)] == pytest.approx([10, 25, 35, 45])


def test_no_trials_grow_nothing() -> None:
    assert growth([trial(0, 0, None, "running")], [], MAX_DROP) == []
