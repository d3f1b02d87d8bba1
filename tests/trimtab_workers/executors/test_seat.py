from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import ray

from trimtab_workers.executors._seat import Seat, is_hog

KILLED = ray.exceptions.OutOfMemoryError


def said(**gigabytes: float) -> str:
    """What Ray writes of the workers that it chose from; `p7` has the number 7."""
    lines = [
        f"Selected to kill: (Actor(99): task name=Worker.__init__, pid={name[1:]}, "
        f"actual memory used={used:.2f}GB, worker ID=ac)"
        for name, used in gigabytes.items()
    ]
    return "\n".join(["2 worker(s) were killed", "Considered workers: [", *lines, "]"])


def seat(pid: int, node: str = "here") -> Seat:
    news: Any = SimpleNamespace(pid=pid, node_id=node, host="192.0.2.1", log="")
    return Seat(None, None, news=news)


def test_one_is_to_blame_that_used_far_more_than_the_others() -> None:
    for used, hogs in (
        ({"p7": 5.0, "p8": 0.1, "p9": 2.4}, [7]),
        ({"p7": 5.0, "p8": 3.0}, []),
        ({"p7": 5.0}, [7]),
        ({}, []),
    ):
        assert [pid for pid in (7, 8, 9) if is_hog(said(**used), pid)] == hogs


@pytest.mark.parametrize(
    ("pid", "was_alone", "in_doubt"),
    [(7, False, False), (7, True, False), (8, False, True), (8, True, False)],
)
def test_of_who_was_killed_beside_others_the_cause_is_in_doubt(
    pid: int, was_alone: bool, in_doubt: bool
) -> None:
    failure = seat(pid).obituary(KILLED(said(p7=5.0, p8=0.1)), was_alone=was_alone)
    assert (failure.reason, failure.is_in_doubt) == ("oom_host", in_doubt)
    assert failure.is_worth_another_try is in_doubt and "\n" not in failure.message


def test_neighbours_are_those_on_the_same_machine() -> None:
    one, two, far = seat(7), seat(8), seat(8, "there")
    assert one.is_beside(two) and not one.is_beside(one) and not one.is_beside(far)
    assert not one.is_beside(Seat(None, None))
