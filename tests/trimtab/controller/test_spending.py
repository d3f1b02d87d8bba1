"""What timing costs is told in full, also by a run that goes on after another."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from trimtab.cli._show import run_plain, timing_text
from trimtab.controller import TimingCost, _run
from trimtab.controller._spending import EVENT, Spending
from trimtab.errors import InterruptedStudyError
from trimtab_storage import DiskFullError, Store
from trimtab_workers.jobs import BenchJob, DeliveredJob, TableJob

P95 = {"latency": {"p95": "60%", "batch_size": 2}}


class Clock:
    """A clock that stands still unless it is moved."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store.open(f"sqlite:///{tmp_path}/trimtab.db", controller=True) as opened:
        opened.create_study("one", {}, {}, {})
        opened.create_study("other", {}, {}, {})
        yield opened


def id_of(store: Store, name: str) -> int:
    row = store.study(name)
    assert row is not None
    return row.id


def test_parts_are_added_and_found_again(store: Store, clock: Clock) -> None:
    spending = Spending(store, id_of(store, "one"), clock)
    for part, seconds in (("baseline", 4.0), ("points", 2.0), ("points", 3.0)):
        with spending.on(part):  # type: ignore[arg-type]
            clock.now += seconds
        clock.now += 50.0
    store.log_event(id_of(store, "one"), "latency", {"points": 1000.0})
    again = Spending(store, id_of(store, "one"), clock)
    for known in (spending, again):
        assert (known.of("points"), known.of("table")) == (5.0, 0.0)
        assert known.cost(90.0) == TimingCost({"baseline": 4.0, "points": 5.0}, 90.0)
    assert Spending(store, id_of(store, "other"), clock).cost(90.0).seconds == 0.0


def test_waiting_counts_for_the_workers_that_are_kept_free(store: Store, clock: Clock) -> None:
    spending = Spending(store, id_of(store, "one"), clock)
    for busy in (4, 3, 1, 5):  # more are out than there are slots while one comes back
        with spending.waiting(busy, slots=4):
            clock.now += 8.0
    assert store.events(id_of(store, "one")) == [], "it is written with what it was for"
    with spending.on("points"):
        clock.now += 1.0
    (event,) = store.events(id_of(store, "one"), kind=EVENT)
    assert event.data == {"waiting": 8.0, "points": 1.0}


def test_what_other_runs_held_up_is_no_part_of_it(store: Store, clock: Clock) -> None:
    spending = Spending(store, id_of(store, "one"), clock)
    with spending.on("table"):
        clock.now += 70.0
        spending.hold_up(40.0)
        spending.hold_up(20.0)
    with spending.on("points"):
        clock.now += 5.0
    for known in (spending, Spending(store, id_of(store, "one"), clock)):
        assert known.cost(90.0) == TimingCost({"table": 10.0, "points": 5.0}, 90.0, 60.0)
        assert known.cost(90.0).seconds == 15.0


def test_what_is_broken_off_counts_too(store: Store, clock: Clock) -> None:
    spending = Spending(store, id_of(store, "one"), clock)
    with pytest.raises(InterruptedStudyError), spending.on("table"):
        clock.now += 7.0
        raise InterruptedStudyError("stopped")
    assert Spending(store, id_of(store, "one")).of("table") == 7.0


def test_what_went_wrong_first_is_what_is_said(
    store: Store, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> None:
        raise DiskFullError("the disk is full")

    spending = Spending(store, id_of(store, "one"), clock)
    monkeypatch.setattr(store, "log_event", fail)
    with pytest.raises(InterruptedStudyError), spending.on("table"):
        raise InterruptedStudyError("stopped")
    with pytest.raises(DiskFullError), spending.on("table"):
        pass


def test_a_cost_is_told_in_words_and_as_json() -> None:
    cost = TimingCost({"baseline": 11.2, "points": 30.0}, 480.0)
    assert timing_text(cost) == "timing took 41 s of 8 min 0 s (8.6%)"
    assert cost.to_plain() == {
        "seconds": 41.2,
        "elapsed_s": 480.0,
        "share": 0.0858,
        "parts": {"baseline": 11.2, "points": 30.0},
        "held_up_s": 0.0,
    }
    held_up = TimingCost({"points": 41.2}, 480.0, 62.0)
    assert timing_text(held_up).endswith("(8.6%), and waited 1 min 2 s for other runs")
    assert (held_up.seconds, held_up.to_plain()["held_up_s"]) == (41.2, 62.0)
    assert TimingCost({}, 0.0).share == 0.0


@pytest.fixture
def moved(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> Clock:
    """Has costs counted by a clock that the jobs of a script move."""
    monkeypatch.setattr(Spending.__init__, "__defaults__", (clock,))
    return clock


TAKES_S = {TableJob: 5.0, BenchJob: 3.0, DeliveredJob: 11.0}


def test_a_run_tells_all_that_timing_took(
    bench: Any, fake: Any, moved: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    def script(job: Any, nth: int) -> Any:
        moved.now += TAKES_S.get(type(job), 2.0)
        return "timed" if isinstance(job, DeliveredJob) else None

    def deliver(store: Any, study: Any, choice: Any, forge: Any, out: Any, **options: Any) -> Any:
        job = DeliveredJob(forge.place, "dense", str(out), options["check"].workload, "p95")
        assert forge.run(job, "timing the checkpoint") == "timed"
        return emit(store, study, choice, forge, out, **options)

    emit = _run.emit_checkpoint
    monkeypatch.setattr(_run, "emit_checkpoint", deliver)
    spec = bench.spec(budget=P95)
    executor, later = fake(script), fake(script)
    first = bench.run(executor, spec).timing
    assert 0 < first.elapsed_s <= bench.study().elapsed_s
    n_timed = executor.count(BenchJob)
    assert n_timed > 1
    assert first.parts["points"] >= 3.0 * (n_timed - 1)
    known = {name: first.parts[name] for name in ("baseline", "table", "delivery")}
    assert known == {"baseline": 3.0, "table": 5.0, "delivery": 11.0}

    again = bench.run(later, spec).timing
    assert (later.count(BenchJob), later.count(TableJob)) == (1, 0)
    assert again.parts == {**first.parts, "baseline": 6.0, "delivery": 22.0}
    assert again.elapsed_s > first.elapsed_s


def test_jobs_that_wait_for_other_runs_say_so(bench: Any, fake: Any, moved: Clock) -> None:
    executor = fake()
    wait = executor.wait

    def held_up(timeout_s: float) -> Any:
        moved.now += 9.0
        return [replace(outcome, held_up_s=7.0) for outcome in wait(timeout_s)]

    executor.wait = held_up
    cost = bench.run(executor, bench.spec(budget=P95)).timing
    n_timed = executor.count(BenchJob) + executor.count(TableJob)
    assert cost.seconds == pytest.approx(2.0 * n_timed)
    assert cost.held_up_s == pytest.approx(7.0 * n_timed)


def test_workers_that_wait_for_others_are_a_part_of_it(bench: Any, fake: Any, moved: Clock) -> None:
    executor = fake(slots=3)
    work = executor._work

    def slowly() -> None:
        moved.now += 1.0
        work()

    executor._work = slowly
    cost = bench.run(executor, bench.spec(budget=P95, search__trials=20)).timing
    assert 0 < cost.parts["waiting"] < moved.now - 100.0
    alone = bench.run(fake(), bench.spec(name="alone", budget=P95, search__trials=8)).timing
    assert alone.parts.get("waiting", 0.0) == 0.0, "a single worker waits for nobody"


def test_without_a_latency_budget_nothing_is_told(bench: Any, fake: Any) -> None:
    result = bench.run(fake(), bench.spec())
    assert result.timing is None
    assert bench.store.events(bench.study().id, kind=EVENT) == []


def test_json_has_one_key_more_where_there_is_something_to_tell(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("trimtab.cli._show.emission_plain", lambda *_: {"feasible": True})
    nothing = dict.fromkeys(("choice", "emission", "limits", "timing"))
    plain: Any = SimpleNamespace(study="one", **nothing)
    assert list(run_plain(plain)) == ["study", "feasible"]
    plain.timing = TimingCost({"table": 1.0}, 10.0)
    assert run_plain(plain)["timing"]["share"] == 0.1
