"""Who goes on with more rows: feasible first, then unbeaten, then by what they add."""

from __future__ import annotations

import random
import time
from typing import Any

import pytest

from trimtab.controller._ranking import (
    KEEP,
    LEAST_ROWS,
    Looked,
    Setting,
    _places,
    next_to_go_on,
    ranked,
    rows_of,
    unbeaten,
    work_of,
)
from trimtab.selection import Limits

LIMITS = Limits(max_drop=0.01, max_flops_ratio=0.5)


def looked(*pairs: tuple[float, float]) -> Looked:
    """A look that saw settings of these drops and shares of the FLOPs."""
    return Looked(0.25, tuple(Setting(drop, 100 * cost, cost) for drop, cost in pairs))


def test_what_lacks_least_comes_first() -> None:
    seen = {0: looked((0.05, 0.4)), 1: looked((0.005, 0.45)), 2: looked((0.02, 0.4))}
    assert ranked(seen, LIMITS) == [1, 2, 0]


def test_among_the_feasible_the_unbeaten_come_first() -> None:
    seen = {
        0: looked((0.008, 0.45)),
        1: looked((0.004, 0.40)),
        2: looked((0.002, 0.48)),
        3: looked((0.006, 0.30)),
    }
    places = ranked(seen, LIMITS)
    assert places[-1] == 0, "it is beaten by 1 and by 3"
    assert set(places[:3]) == {1, 2, 3}


def test_among_the_unbeaten_those_that_add_most_come_first() -> None:
    seen = {0: looked((0.004, 0.40)), 1: looked((0.0039, 0.41)), 2: looked((0.009, 0.10))}
    assert ranked(seen, LIMITS)[0] == 2


def test_places_are_those_of_taking_frontiers_away_one_by_one(rng: random.Random) -> None:
    for _ in range(100):
        pairs = {n: (rng.randrange(6), rng.randrange(6)) for n in range(rng.randrange(1, 25))}
        left, place, expected = dict(pairs), 0, dict[int, int]()
        while left:
            front = [n for n, own in left.items() if not any(beats(p, own) for p in left.values())]
            expected.update(dict.fromkeys(front, place))
            left = {n: own for n, own in left.items() if n not in front}
            place += 1
        assert _places(pairs) == expected


def beats(one: Any, other: Any) -> bool:
    return bool(one != other and one[0] <= other[0] and one[1] <= other[1])


def test_many_are_ranked_in_a_moment() -> None:
    rng = random.Random(1)
    seen = {
        n: looked(*((rng.uniform(-0.01, 0.1), rng.uniform(0.1, 0.9)) for _ in range(15)))
        for n in range(1000)
    }
    started = time.process_time()
    ranked(seen, LIMITS)
    assert time.process_time() - started < 5, "seconds, where it took minutes"


def test_the_order_does_not_hang_on_the_order_of_the_trials(rng: random.Random) -> None:
    for _ in range(50):
        seen = {
            n: looked(*((rng.uniform(-0.01, 0.1), rng.uniform(0.1, 0.9)) for _ in range(3)))
            for n in range(rng.randrange(1, 9))
        }
        shuffled = dict(rng.sample(sorted(seen.items()), len(seen)))
        assert ranked(seen, LIMITS) == ranked(shuffled, LIMITS)
        first = seen[ranked(seen, LIMITS)[0]].scores(LIMITS)
        least = min(each.scores(LIMITS).violation for each in seen.values())
        assert max(0.0, first.violation) == max(0.0, least)


@pytest.mark.parametrize(
    ("n", "gone_on", "is_last", "expected"),
    [
        (2, (), False, None),
        (3, (), False, 0),
        (3, (0,), False, None),
        (6, (0,), False, 1),
        (6, (5,), False, 0),
        (2, (), True, 0),
        (2, (0,), True, None),
        (0, (), True, None),
    ],
)
def test_the_best_third_goes_on_and_at_least_one(
    n: int, gone_on: Any, is_last: bool, expected: int | None
) -> None:
    seen = {number: looked((0.001 * (number + 1), 0.4)) for number in range(n)}
    assert next_to_go_on(seen, gone_on, LIMITS, is_last=is_last) == expected


def test_without_a_limit_on_the_drop_there_is_an_order_too() -> None:
    seen = {0: looked((0.05, 0.45)), 1: looked((0.02, 0.45)), 2: looked((0.01, 0.7))}
    assert ranked(seen, Limits(max_flops_ratio=0.5)) == [1, 0, 2]


def test_only_settings_that_nothing_beats_are_kept() -> None:
    kept = unbeaten(looked((0.01, 0.4), (0.02, 0.5), (0.0, 0.6), (0.01, 0.4)).settings)
    assert [(s.drop, s.flops_ratio) for s in kept] == [(0.01, 0.4), (0.0, 0.6)]


def test_a_look_survives_being_written_down() -> None:
    seen = looked((0.01, 0.4), (0.0, 0.6))
    assert Looked.from_plain(seen.to_plain()) == seen


@pytest.mark.parametrize(("share", "n", "expected"), [(0.1, 100, 100), (0.25, 4000, 1000)])
def test_rows_of_a_look(share: float, n: int, expected: int) -> None:
    assert rows_of(share, n) == expected
    assert rows_of(0.01, 10_000) == LEAST_ROWS


def test_work_is_that_of_the_share_that_goes_on() -> None:
    assert work_of([]) == 1.0
    assert work_of([0.25]) == pytest.approx(0.25 + KEEP)
    assert work_of([0.1, 0.3]) == pytest.approx(0.1 + 0.3 * KEEP + KEEP**2)
