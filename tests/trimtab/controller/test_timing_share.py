"""Timing keeps to its share of a study's time, and what is delivered was timed all the same."""

from __future__ import annotations

import itertools
from collections import Counter
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from trimtab.controller import _trials
from trimtab.controller._session import Session
from trimtab.controller._spending import Spending
from trimtab.controller._stopwatch import FREE_AT_MOST, SHARE_OF_TIME, Stopwatch
from trimtab_workers.jobs import BenchJob, LadderJob, TableJob

P95 = {"latency": {"p95": "60%", "batch_size": 2}}
TWO = {"latency": [{"p95": "60%", "batch_size": 2}, {"p50": "70%", "batch_size": 8}]}


@dataclass
class Timed:
    """One job that timed points: how many, and what had been spent and had passed before."""

    n_points: int
    first_key: str
    batch_size: int
    spent_s: float
    elapsed_s: float
    is_at_the_end: bool


@dataclass
class Played:
    """A study whose jobs take as long as is said, on one clock for all."""

    seconds: dict[type, float]
    held_up_s: float = 0.0
    idle_s: float = 0.0
    now: float = 0.0
    spent_s: float = 0.0
    is_at_the_end: bool = False
    kept: list[tuple[str, set[str]]] = field(default_factory=list)
    log: list[Timed] = field(default_factory=list)

    def run(self, bench: Any, executor: Any, **changes: Any) -> Any:
        submit, wait = executor.submit, executor.wait

        def submitted(job: Any, **options: Any) -> int:
            if is_of_points(job):
                what = len(job.candidates), job.candidates[0].key, job.workload.batch_size
                self.log.append(Timed(*what, self.spent_s, self.now, self.is_at_the_end))
            taken = self.seconds.get(type(job), 0.0)
            self.now += taken
            if is_of_points(job):
                self.spent_s += taken
                self.now += self.held_up_s
            return int(submit(job, **options))

        def waited(timeout_s: float) -> Any:
            found, last = wait(timeout_s), executor.sent[-1]
            self.now += 0.0 if found else self.idle_s
            seconds = self.held_up_s if is_of_points(last) else 0.0
            return [replace(outcome, held_up_s=seconds) for outcome in found]

        executor.submit, executor.wait = submitted, waited
        search = {"search__trials": 12, "search__time": "10 h", "max_drop": "30 pt"}
        return bench.run(executor, bench.spec(**{"budget": P95, **search, **changes}))


def is_of_points(job: Any) -> bool:
    return isinstance(job, BenchJob) and job.candidates[0].key != job.baseline_key


@pytest.fixture
def play(monkeypatch: pytest.MonkeyPatch, bench: Any) -> Any:
    """Starts a study at time 0: ``play({TableJob: 5.0}, held_up_s=0.0)``."""

    def played(seconds: dict[type, float], held_up_s: float = 0.0) -> Played:
        made = Played(seconds, held_up_s)
        monkeypatch.setattr(Spending.__init__, "__defaults__", (lambda: made.now,))
        monkeypatch.setattr(Session, "elapsed_s", property(lambda self: made.now))

        def settled(stopwatch: Stopwatch) -> Any:
            made.is_at_the_end, so_far, kept = True, len(made.log), stopwatch.wanted_keys()
            rows = settle(stopwatch)
            made.kept += [(timed.first_key, kept) for timed in made.log[so_far:][:1]]
            made.is_at_the_end = False  # what missed may be made smaller, and timed
            return rows

        settle = Stopwatch.settle
        monkeypatch.setattr(Stopwatch, "settle", settled)
        return made

    return played


def is_timed_and_feasible(result: Any) -> bool:
    return bool(result.choice.feasible and result.choice.point.latency["verdict"] == "stable")


def test_where_there_is_time_points_beside_the_best_are_timed(
    bench: Any, fake: Any, play: Any
) -> None:
    study = play({TableJob: 5.0, BenchJob: 1.0, LadderJob: 100.0})
    assert is_timed_and_feasible(study.run(bench, fake()))
    assert max(timed.n_points for timed in study.log) > 1


def test_what_the_table_took_is_taken_from_points(bench: Any, fake: Any, play: Any) -> None:
    study = play({TableJob: 500.0, BenchJob: 1.0, LadderJob: 100.0})
    result = study.run(bench, fake())
    assert result.timing.parts["table"] == 500.0 > SHARE_OF_TIME * study.now
    assert {timed.n_points for timed in study.log} == {1}, "only what would be delivered"
    assert is_timed_and_feasible(result)


def test_points_take_their_share_only_when_the_table_is_made_up_for(
    bench: Any, fake: Any, play: Any
) -> None:
    study = play({TableJob: 30.0, BenchJob: 1.0, LadderJob: 100.0})
    study.run(bench, fake())
    fixed_s = 31.0
    for timed in study.log:
        is_over = fixed_s + timed.spent_s > SHARE_OF_TIME * timed.elapsed_s
        assert timed.n_points == 1 or not is_over
    assert max(timed.n_points for timed in study.log) > 1


@pytest.mark.parametrize("budget", [P95, TWO])
def test_what_is_best_for_now_waits_for_the_end_where_timing_is_slow(
    bench: Any, fake: Any, play: Any, budget: Any
) -> None:
    study = play({BenchJob: 40.0, LadderJob: 10.0})
    result = study.run(bench, fake(), budget=budget)
    for timed in study.log:
        is_first_kind = timed.batch_size == 2  # others follow at once
        if is_first_kind and not timed.is_at_the_end:
            assert timed.spent_s <= 2 * SHARE_OF_TIME * timed.elapsed_s
    assert {timed.is_at_the_end for timed in study.log} == {False, True}
    assert is_timed_and_feasible(result)
    assert study.kept and all(key in keys for key, keys in study.kept), "its weights have stayed"


def test_time_that_another_run_took_is_not_taken_from_points(
    bench: Any, fake: Any, play: Any
) -> None:
    study = play({TableJob: 5.0, BenchJob: 1.0, LadderJob: 100.0}, held_up_s=50.0)
    result = study.run(bench, fake())
    assert result.timing.held_up_s > result.timing.seconds
    assert max(timed.n_points for timed in study.log[1:]) > 1


def test_who_takes_long_does_not_keep_the_others_free(
    bench: Any, fake: Any, hang: Any, play: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_trials, "GRACE_S", 0.1)
    study, n_ladders = play({TableJob: 1.0, BenchJob: 1.0, LadderJob: 100.0}), itertools.count()
    study.idle_s = 20.0

    def script(job: Any, nth: int) -> Any:
        return hang if isinstance(job, LadderJob) and next(n_ladders) == 4 else None

    result = study.run(bench, fake(script, slots=2), search__time="3 h")
    waited_s = result.timing.parts["waiting"]
    assert 0 < waited_s <= FREE_AT_MOST * study.now + study.idle_s
    trials = Counter(trial.state for trial in bench.trials())
    assert trials["complete"] == 11, trials
