"""The wall clock is set, by an hour and more, while studies run."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest

from trimtab.controller import _cleanup, _session
from trimtab.errors import InterruptedStudyError
from trimtab.progress import growth
from trimtab_storage import LeaseHeldError, Store
from trimtab_workers.jobs import LadderJob

HOUR_S, LEASE_S = 3600.0, 0.8


class WallClock:
    """Tells the time of day, as somebody has set it; stands in for the module `time` too."""

    def __init__(self) -> None:
        self.set_by_s = 0.0

    def __call__(self) -> float:
        return time.time() + self.set_by_s

    time = __call__

    def __getattr__(self, name: str) -> Any:
        return getattr(time, name)


@pytest.fixture
def clock(bench: Any, monkeypatch: pytest.MonkeyPatch) -> WallClock:
    """The clock that all who control studies in the bench's database go by."""
    made = WallClock()
    bench.store._clock = made
    monkeypatch.setattr(_cleanup, "time", made)
    monkeypatch.setattr(_session, "LEASE_TTL_S", LEASE_S)
    return made


def test_clock_that_jumps_costs_no_lease_and_makes_no_time_negative(
    bench: Any, fake: Any, clock: WallClock, size: Callable[..., int], rng: random.Random
) -> None:
    trials = size(20, 300)

    def script(job: Any, nth: int) -> Any:
        clock.set_by_s = rng.choice([-1, 0, 1]) * HOUR_S + rng.random()
        return None

    before = datetime.now(UTC)
    bench.run(fake(script, slots=2), bench.spec(search__trials=trials, max_drop="30 pt"))
    assert bench.states() == ["complete"] * trials
    assert bench.problems() == []
    rows, study = bench.trials(), bench.study()
    assert all(row.seconds >= 0 and row.attempts == 1 for row in rows)
    assert 0 <= study.elapsed_s < 600
    assert study.lease_owner is None
    for stamp in [row.finished_at for row in rows]:
        ended = datetime.fromisoformat(stamp)
        assert ended.utcoffset() == before.utcoffset(), "UTC is stored"
        assert abs((ended - before).total_seconds()) < HOUR_S + 600
    grown = growth(rows, bench.store.points(study.id), study.limits["max_drop"])
    times = [each.at_s for each in grown]
    assert times[0] >= 0 and times == sorted(times)


@pytest.mark.parametrize("hours", [-1, 1])
def test_clock_that_jumps_takes_no_study_from_a_controller_that_lives(
    bench: Any, fake: Any, clock: WallClock, hours: int
) -> None:
    """Its lease seems to have run out until it is renewed, and that is when others come."""
    errors: list[BaseException] = []

    def script(job: Any, nth: int) -> Any:
        if isinstance(job, LadderJob) and not errors:
            clock.set_by_s = hours * HOUR_S
            with Store.open(f"sqlite:///{bench.folder}/trimtab.db", clock=clock) as other:
                before, bench.store = bench.store, other
                try:
                    bench.run(fake())
                except BaseException as error:
                    errors.append(error)
                finally:
                    bench.store = before
        return None

    bench.run(fake(script))
    assert [type(error) for error in errors] == [LeaseHeldError]
    assert bench.states() == ["complete"] * 4 and bench.problems() == []


@pytest.mark.parametrize("hours", [-1, 0, 1])
def test_study_of_a_controller_that_is_gone_is_taken_whatever_the_clock_says(
    bench: Any, fake: Any, clock: WallClock, hours: int
) -> None:
    """Of an owner elsewhere nobody knows whether it lives: its lease has to run out."""
    study = bench.store.create_study("reviews", {}, {"spec": bench.spec().identity()}, {})
    bench.store.acquire(study.id, "elsewhere/1@5.00", LEASE_S)
    clock.set_by_s = hours * HOUR_S
    if hours == -1:
        with pytest.raises(LeaseHeldError):
            bench.run(fake())
        clock.set_by_s = HOUR_S
    elif hours == 0:
        time.sleep(LEASE_S)
    bench.run(fake())
    assert bench.states() == ["complete"] * 4 and bench.problems() == []
    assert sum("looking" in note for note in bench.reporter.notes) == 1


def test_a_holder_whose_clock_is_behind_keeps_its_study_as_long_as_it_renews(
    bench: Any, fake: Any
) -> None:
    behind, over = WallClock(), threading.Event()
    behind.set_by_s = -HOUR_S
    study = bench.store.create_study("reviews", {}, {"spec": bench.spec().identity()}, {})
    with Store.open(f"sqlite:///{bench.folder}/trimtab.db", clock=behind) as other:
        lease = other.acquire(study.id, "elsewhere/1@5.00", LEASE_S)

        def live() -> None:
            while not over.wait(0.05):
                other.renew(lease, LEASE_S)

        holder = threading.Thread(target=live)
        holder.start()
        try:
            with pytest.raises(LeaseHeldError):
                bench.run(fake())
        finally:
            over.set()
            holder.join()
    assert bench.study().lease_owner == "elsewhere/1@5.00"
    assert bench.problems() == []


def test_whoever_stops_while_looking_for_a_sign_of_life_takes_nothing(
    bench: Any, fake: Any, clock: WallClock
) -> None:
    study = bench.store.create_study("reviews", {}, {"spec": bench.spec().identity()}, {})
    bench.store.acquire(study.id, "elsewhere/1@5.00", 0.0)
    with pytest.raises(InterruptedStudyError):
        bench.run(fake(), stop=lambda: True)
    assert bench.study().lease_owner == "elsewhere/1@5.00"
    assert bench.problems() == []
