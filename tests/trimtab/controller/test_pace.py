"""How well the time that is left is estimated."""

from __future__ import annotations

import heapq
import random

import pytest

from trimtab.controller._pace import Pace


def ends(rng: random.Random, n: int, slots: int) -> list[float]:
    """Plays trials of very different lengths on some workers; gives when they ended."""
    free, ended = [0.0] * slots, []
    for _ in range(n):
        at = heapq.heappop(free) + rng.lognormvariate(0, 0.8)
        ended.append(at)
        heapq.heappush(free, at)
    return sorted(ended)


@pytest.mark.parametrize("slots", [1, 4])
def test_it_is_a_quarter_off_at_most_after_a_fifth(slots: int) -> None:
    seed, n = random.randrange(2**32), 100
    print(f"seed {seed}")
    rng, errors = random.Random(seed), []
    for _ in range(200):
        ended, pace = ends(rng, n, slots), Pace()
        assert pace.left_s(0.0, 0, slots, n) is None
        for done, at in enumerate(ended[:-1], 1):
            left = pace.left_s(at, done, slots, n)
            if done >= n / 5:
                assert left is not None
                errors.append(abs(left + at - ended[-1]) / ended[-1])
    assert sorted(errors)[int(0.95 * len(errors))] <= 0.25


def test_it_says_nothing_from_too_little_and_counts_this_run_alone() -> None:
    pace = Pace()
    # Of 10 trials, 4 had ended before this run, which makes one every 10 s.
    said = [pace.left_s(now, 4 + now // 10, 1, 10) for now in range(0, 61, 10)]
    assert said == [None, None, None, 30.0, 20.0, 10.0, None]


def test_it_goes_down_while_a_trial_runs_and_does_not_say_nothing_is_left() -> None:
    pace = Pace()
    for now in range(0, 40, 10):
        pace.left_s(now, now // 10, 1, 4)
    assert [pace.left_s(now, 3, 1, 4) for now in (30, 36, 40, 99)] == [10.0, 4.0, None, None]


def test_it_waits_for_the_first_trial() -> None:
    pace = Pace()
    # The baseline takes 100 s, each of 5 trials 1 s.
    assert [pace.left_s(now, 0, 0, 5) for now in (0.0, 100.0)] == [None, None]
    said = [pace.left_s(100.0 + n, n, 1, 5) for n in range(5)]
    assert said == [None, None, None, 2.0, 1.0]
