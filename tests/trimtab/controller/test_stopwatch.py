"""Studies with a latency budget, whose workers are played: what is timed, when, and what for."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Any

import pytest

from trimtab.controller import _run
from trimtab.controller._runner import MAX_ATTEMPTS
from trimtab.controller._to_time import MOST_TRIES
from trimtab.controller._trials import MOST_CORRECTIONS, N_EXTENDED
from trimtab.emission import LatencyMissedError
from trimtab_workers.executors import Failure
from trimtab_workers.jobs import BenchJob, LadderJob, TableJob

P95 = {"latency": {"p95": "60%", "batch_size": 2}}


def wanted(bench: Any, **changes: Any) -> Any:
    return bench.spec(**{"budget": P95, **changes})


def timed_points(bench: Any) -> list[Any]:
    points = bench.store.points(bench.study().id)
    return [p for p in points if p.recipe and (p.latency or {}).get("value") is not None]


def test_what_is_delivered_was_timed_and_keeps_to_the_budget(bench: Any, fake: Any) -> None:
    executor = fake()
    result = bench.run(executor, wanted(bench))
    row = bench.study()
    baseline = row.baseline["latency_ms"]
    assert baseline["statistic"] == "p95" and baseline["ratio"] == 1.0
    assert row.limits["max_latency_ms"] == pytest.approx(0.6 * baseline["value"])
    assert result.choice.feasible
    (chosen,) = bench.emitted
    assert chosen.latency["verdict"] == "stable"
    assert chosen.latency["high"] <= row.limits["max_latency_ms"]
    # 60 % of the time at 0.1 + 0.9 x cost is a cost of 0.55, and the table says so before.
    rungs = [cost for job in executor.sent if isinstance(job, LadderJob) for cost, _ in job.rungs]
    assert any(0.5 <= cost <= 0.6 for cost in rungs)
    assert bench.problems() == []


def test_samples_and_predictions_are_kept(bench: Any, fake: Any) -> None:
    bench.run(fake(), wanted(bench))
    points = timed_points(bench)
    events = [e for e in bench.store.events(bench.study().id) if e.kind == "latency"]
    of_points = {e.data["point"] for e in events if e.data["what"] == "point"}
    assert of_points == {p.id for p in points}
    assert [e.data["what"] for e in events].count("baseline") == 1
    assert all(len(e.data["samples_ms"]["ours"]) == 80 for e in events)
    assert all(p.latency["tries"] == 1 for p in points)
    frontier = bench.store.frontier(bench.study().id, "latency")
    assert len(frontier) > 1 and all(p.latency["value"] for p in frontier)


def test_models_that_are_slower_than_predicted_are_made_smaller(
    bench: Any, fake: Any, play_timed: Any, ratio_of: Any
) -> None:
    def script(job: Any, nth: int) -> Any:
        if isinstance(job, BenchJob) and job.candidates[0].key != job.baseline_key:
            return [play_timed(job, 1.15 * ratio_of(one.key)) for one in job.candidates]
        return None

    executor = fake(script)
    result = bench.run(executor, wanted(bench, max_drop="30 pt"))
    rungs = {cost for job in executor.sent if isinstance(job, LadderJob) for cost, _ in job.rungs}
    # 60 % of the time at 1.15 x (0.1 + 0.9 x cost) is a cost of 0.47, and not of the grid.
    assert {rung for rung in rungs if 0.42 <= rung <= 0.48}, sorted(rungs)
    assert result.choice.feasible
    assert 0.4 < result.choice.point.flops_ratio < 0.5
    assert bench.problems() == []


def test_a_smaller_model_whose_worker_is_always_lost_is_given_up(
    bench: Any, fake: Any, play_timed: Any, ratio_of: Any
) -> None:
    def script(job: Any, nth: int) -> Any:
        if isinstance(job, LadderJob) and any(0.42 <= cost <= 0.48 for cost, _ in job.rungs):
            return Failure("crashed", "the worker was lost")
        if isinstance(job, BenchJob) and job.candidates[0].key != job.baseline_key:
            return [play_timed(job, 1.15 * ratio_of(one.key)) for one in job.candidates]
        return None

    executor = fake(script)
    result = bench.run(executor, wanted(bench, max_drop="30 pt"))
    lost = [job for job in executor.sent if isinstance(job, LadderJob) and len(job.rungs) == 1]
    assert 0 < len(lost) <= 2 * N_EXTENDED * MOST_CORRECTIONS * MAX_ATTEMPTS
    assert result.choice.feasible and bench.problems() == []


def test_one_table_serves_all_runs(bench: Any, fake: Any) -> None:
    first, second = fake(), fake()
    bench.run(first, wanted(bench))
    bench.run(second, wanted(bench, search__trials=6))
    assert (first.count(TableJob), second.count(TableJob)) == (1, 0)


@pytest.mark.parametrize("slots", [1, 3])
def test_nothing_else_runs_while_points_are_timed(bench: Any, fake: Any, slots: int) -> None:
    beside: list[int] = []

    def script(job: Any, nth: int) -> Any:
        if isinstance(job, BenchJob):
            beside.append(len(executor._queue))
        return None

    executor = fake(script, slots=slots)
    bench.run(executor, wanted(bench, search__trials=20))
    assert len(beside) > 2 and set(beside) == {0}


def test_what_is_never_stable_is_tried_some_times_and_not_delivered_as_feasible(
    bench: Any, fake: Any, play_timed: Any
) -> None:
    def script(job: Any, nth: int) -> Any:
        if isinstance(job, BenchJob) and job.candidates[0].key != job.baseline_key:
            return [play_timed(job, 0.3, verdict="unstable") for _ in job.candidates]
        return None

    executor = fake(script)
    result = bench.run(executor, wanted(bench))
    sent = [job for job in executor.sent if isinstance(job, BenchJob)]
    times = Counter(one.key for job in sent for one in job.candidates)
    del times[sent[0].baseline_key]
    assert times and max(times.values()) <= MOST_TRIES
    assert not result.choice.feasible
    assert bench.problems() == []


def test_a_search_goes_on_where_timing_fails(bench: Any, fake: Any) -> None:
    def script(job: Any, nth: int) -> Any:
        if isinstance(job, BenchJob) and job.candidates[0].key != job.baseline_key:
            return Failure("oom_host", "out of memory")
        return None

    result = bench.run(fake(script), wanted(bench))
    assert bench.states() == ["complete"] * 4 and not result.choice.feasible
    assert any("could not be timed" in note for note in bench.reporter.notes)
    assert bench.problems() == []
    assert bench.run(fake(), wanted(bench)).choice.feasible, "the next run tries again"


def test_a_checkpoint_that_misses_gives_way_to_the_next(
    bench: Any, fake: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    deliver, missed = _run.emit_checkpoint, []

    def emit(store: Any, study: Any, choice: Any, *others: Any, **options: Any) -> Any:
        assert options["check"].max_ms == bench.study().limits["max_latency_ms"]
        if options["insist"] and len(missed) < 2:
            missed.append(choice.point)
            slow = {**choice.point.latency, "value": 9.9, "high": 10.1, "holds": False}
            raise LatencyMissedError(slow, 6.0)
        return deliver(store, study, choice, *others, **options)

    monkeypatch.setattr(_run, "emit_checkpoint", emit)
    result = bench.run(fake(), wanted(bench, max_drop="20 pt"))
    (chosen,) = bench.emitted
    assert chosen.id not in {point.id for point in missed} and len(missed) == 2
    assert result.choice.feasible and result.choice.point.id == chosen.id
    slow = [bench.store.point(point.id) for point in missed]
    assert [(p.latency["high"], p.feasible) for p in slow] == [(10.1, False)] * 2


def at_speed(play_timed: Any, ratio_of: Any, speed: float, verdict: Any = None) -> Any:
    """Plays a machine on which everything takes so many times longer."""

    def script(job: Any, nth: int) -> Any:
        if isinstance(job, BenchJob):
            played = {"speed": speed, "verdict": verdict}
            return [play_timed(job, ratio_of(one.key), **played) for one in job.candidates]
        return None

    return script


MS = {"latency": {"p95": "9 ms", "batch_size": 2}}


def test_a_machine_of_another_speed_has_points_timed_again(
    bench: Any, fake: Any, play_timed: Any, ratio_of: Any
) -> None:
    bench.run(fake(), wanted(bench, budget=MS))
    before = {p.id: p.latency["value"] for p in timed_points(bench)}
    same, other = fake(), fake(at_speed(play_timed, ratio_of, 2.0))
    bench.run(same, wanted(bench, budget=MS))
    assert same.count(BenchJob) == 1, "the baseline alone, to see whether all is as it was"
    assert {p.id: p.latency["value"] for p in timed_points(bench)} == before
    result = bench.run(other, wanted(bench, budget=MS))
    after = {p.id: p.latency["value"] for p in timed_points(bench)}
    assert after and not result.choice.feasible
    assert all(ms == pytest.approx(2 * before[key]) for key, ms in after.items() if key in before)
    assert bench.study().baseline["latency_ms"]["p50"] == pytest.approx(20.0)


def test_ratios_hold_at_any_speed(bench: Any, fake: Any, play_timed: Any, ratio_of: Any) -> None:
    bench.run(fake(), wanted(bench))
    before = {p.id: p.latency for p in timed_points(bench)}
    other = fake(at_speed(play_timed, ratio_of, 2.0))
    bench.run(other, wanted(bench))
    assert other.count(BenchJob) == 1
    assert {p.id: p.latency for p in timed_points(bench)} == before


@pytest.mark.parametrize("budget", [P95, MS])
def test_a_noisy_moment_at_the_start_of_a_run_spoils_nothing(
    bench: Any, fake: Any, play_timed: Any, ratio_of: Any, budget: Any
) -> None:
    bench.run(fake(), wanted(bench, budget=budget))
    before = {p.id: p.latency for p in timed_points(bench)}
    baseline, limits = bench.study().baseline, bench.study().limits
    bench.run(fake(at_speed(play_timed, ratio_of, 3.0, "unstable")), wanted(bench, budget=budget))
    assert {p.id: p.latency for p in timed_points(bench)} == before
    assert (bench.study().baseline, bench.study().limits) == (baseline, limits)


def test_a_noisy_first_run_is_made_up_for_by_the_next(
    bench: Any, fake: Any, play_timed: Any, ratio_of: Any
) -> None:
    noisy = at_speed(play_timed, ratio_of, 3.0, "unstable")
    assert not bench.run(fake(noisy), wanted(bench)).choice.feasible
    again = bench.run(fake(), wanted(bench))
    assert again.choice.feasible and bench.study().limits["max_latency_ms"] is not None
    assert bench.study().baseline["latency_ms"]["p50"] == pytest.approx(10.0)


def test_times_and_ratios_are_not_mixed(bench: Any, fake: Any) -> None:
    bench.run(fake(), wanted(bench))
    ratios = timed_points(bench)
    assert ratios and all(p.latency["low"] > 0.999 * p.latency["high"] for p in ratios)
    bench.run(fake(), wanted(bench, budget=MS))
    timed = timed_points(bench)
    assert timed and all(p.latency["low"] < 0.99 * p.latency["high"] for p in timed)


def test_a_run_without_the_budget_between_two_with_it_costs_nothing(bench: Any, fake: Any) -> None:
    bench.run(fake(), wanted(bench))
    bench.run(fake(), bench.spec())
    last = fake()
    bench.run(last, wanted(bench))
    assert last.count(BenchJob) == 1


def test_what_takes_too_long_and_is_delivered_all_the_same_is_said_to(
    bench: Any, fake: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each candidate misses, until there are none to try."""
    deliver = _run.emit_checkpoint

    def emit(store: Any, study: Any, choice: Any, *others: Any, **options: Any) -> Any:
        latency = {**choice.point.latency, "value": 9.9, "high": 10.1, "holds": False}
        if options["insist"]:
            raise LatencyMissedError(latency, 6.0)
        made = deliver(store, study, choice, *others, **options)
        judged = options["check"].judged(choice, latency, options["limits"])
        return replace(made, choice=judged, latency=latency)

    monkeypatch.setattr(_run, "emit_checkpoint", emit)
    result = bench.run(fake(), wanted(bench, max_drop="90 pt", search__trials=12))
    assert not result.choice.feasible and result.choice.relaxations
    assert not bench.store.point(result.choice.point.id).feasible


def test_what_was_too_slow_in_the_search_and_is_fast_enough_when_delivered_holds(
    bench: Any, fake: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What lies there counts, and the tables say so."""
    deliver = _run.emit_checkpoint

    def emit(store: Any, study: Any, choice: Any, *others: Any, **options: Any) -> Any:
        latency = {**choice.point.latency, "value": 0.1, "low": 0.1, "high": 0.1, "holds": True}
        made = deliver(store, study, choice, *others, **options)
        judged = options["check"].judged(choice, latency, options["limits"])
        return replace(made, choice=judged, latency=latency)

    monkeypatch.setattr(_run, "emit_checkpoint", emit)
    tight = {"latency": {"p95": "1%", "batch_size": 2}}
    result = bench.run(fake(), wanted(bench, budget=tight, max_drop="90 pt"))
    assert result.choice.feasible and not result.choice.relaxations
    point = bench.store.point(result.choice.point.id)
    assert point.feasible and point.latency["value"] == 0.1 == result.choice.point.latency["value"]


def test_another_statistic_needs_no_timing(bench: Any, fake: Any) -> None:
    bench.run(fake(), wanted(bench))
    was = {p.id: p.latency["p50"] for p in timed_points(bench)}
    again = fake()
    bench.run(again, wanted(bench, budget={"latency": {"p50": "60%", "batch_size": 2}}))
    now = {p.id: p.latency for p in timed_points(bench)}
    assert {key: now[key]["value"] for key in was} == was
    assert {now[key]["statistic"] for key in was} == {"p50"}


def test_another_workload_is_timed_anew(bench: Any, fake: Any) -> None:
    bench.run(fake(), wanted(bench))
    bench.run(fake(), wanted(bench, budget={"latency": {"p95": "60%", "batch_size": 4}}))
    assert {p.latency["batch_size"] for p in timed_points(bench)} == {4}


def test_a_budget_that_comes_later_trains_nothing(bench: Any, fake: Any) -> None:
    bench.run(fake(), bench.spec())
    assert timed_points(bench) == []
    later = fake()
    result = bench.run(later, wanted(bench))
    made = [job for job in later.sent if isinstance(job, LadderJob)]
    assert result.choice.point.latency["verdict"] == "stable"
    assert all(len(job.rungs) == 1 for job in made), "at most a rung for the new budget"


def test_both_budgets_hold_together(bench: Any, fake: Any) -> None:
    both = {"flops": "40%", **P95}
    result = bench.run(fake(), wanted(bench, budget=both))
    chosen = result.choice.point
    assert result.choice.feasible and chosen.flops_ratio <= 0.4
    assert chosen.latency["high"] <= bench.study().limits["max_latency_ms"]
