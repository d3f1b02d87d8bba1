"""A budget is a promise: never more trials, hardly more time, and always a model."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from typing import Any

from trimtab_workers.jobs import LadderJob


def test_whatever_cannot_be_met_the_closest_model_is_delivered(
    bench: Any, fake: Any, size: Callable[..., int], rng: random.Random
) -> None:
    """Among random limits that nothing meets; the results of the trials are the same for all."""
    for number in range(size(20, 100)):
        impossible = rng.choice(["budget", "drop", "both"])
        # The dense model is at no drop and all its cost; every rung costs some drop.
        flops = rng.uniform(10, 95) if impossible == "drop" else rng.uniform(0.0001, 0.9)
        drop = rng.uniform(0, 20) if impossible == "budget" else 0.0
        spec = bench.spec(
            name=f"hard-{number}",
            budget__flops=f"{flops:.5f}%",
            max_drop=f"{drop:.3f} pt",
            search__trials=(trials := rng.randint(1, 3)),
        )
        result = bench.run(fake(slots=rng.randint(1, 3)), spec)
        assert not result.choice.feasible and result.choice.relaxations, (impossible, flops, drop)
        assert bench.emitted[-1] == result.choice.point
        assert len(bench.trials(spec.name)) == trials
        assert bench.problems(spec.name) == []


def test_time_and_trials_are_not_overrun(
    bench: Any,
    fake: Any,
    hang: object,
    size: Callable[..., int],
    monkeypatch: Any,
    rng: random.Random,
) -> None:
    """Of slow trials those that began in time may end; those that hang are given the grace."""
    from trimtab.controller import _trials

    grace_s = 0.5
    monkeypatch.setattr(_trials, "GRACE_S", grace_s)
    for number in range(size(4, 30)):
        slow_s, hangs_at = rng.uniform(0.01, 0.2), rng.randrange(3, 8)
        began: list[float] = []

        def script(job: Any, nth: int, began: Any = began, at: int = hangs_at) -> Any:
            if isinstance(job, LadderJob):
                began.append(time.monotonic())
                time.sleep(slow_s)  # noqa: B023
                return hang if len(began) == at else None
            return None

        spec = bench.spec(name=f"late-{number}", search__trials=100, search__time="1 s")
        bench.run(fake(script, slots=2), spec)
        ended, study = time.monotonic(), bench.study(spec.name)
        states = bench.states(spec.name)
        assert states.count("complete") >= 1 and len(states) < 100
        # Counted from the last trial that was sent, for a slow machine may be late with that.
        assert ended - began[-1] < 1.0 + grace_s + 30
        assert study.lease_owner is None and "running" not in states
        assert bench.problems(spec.name) == []
