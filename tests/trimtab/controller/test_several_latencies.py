"""Studies with several limits on latency, whose workers are played: all of them must hold."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

import trimtab
from trimtab.controller import _baseline, _run
from trimtab.controller._ladder import ladder
from trimtab.controller._timing import measured_of
from trimtab.emission import LatencyMissedError
from trimtab.selection import excess, is_feasible
from trimtab_workers.executors import Failure
from trimtab_workers.jobs import BenchJob, LadderJob, TableJob

ONE = {"p95": "60%", "batch_size": 2}
MIXED = {"p50": "9 ms", "p95": "60%", "batch_size": 2}
TWO = [ONE, {"throughput": "2x", "batch_size": 8}]


def wanted(bench: Any, latency: Any, **changes: Any) -> Any:
    return bench.spec(**{"budget": {"latency": latency}, **changes})


def timed_points(bench: Any) -> list[Any]:
    points = bench.store.points(bench.study().id)
    return [p for p in points if p.recipe and (p.latency or {}).get("value") is not None]


def benches(executor: Any) -> list[BenchJob]:
    return [job for job in executor.sent if isinstance(job, BenchJob)]


def limits_of(bench: Any) -> list[float]:
    limits = trimtab.open_study("reviews", db=f"sqlite:///{bench.folder}/trimtab.db").limits()
    return list(limits.latencies_ms)


def with_many(play_timed: Any, ratio_of: Any, more: float, failure: Any = None) -> Any:
    """Plays models that gain less where requests are of 8 texts; or that cannot be timed there."""

    def script(job: Any, nth: int) -> Any:
        if not isinstance(job, BenchJob) or job.workload.batch_size != 8:
            return None
        if job.candidates[0].key == job.baseline_key:
            return None
        return failure or [
            play_timed(job, min(1.0, ratio_of(one.key) + more)) for one in job.candidates
        ]

    return script


def test_statistics_of_the_same_requests_share_a_timing(bench: Any, fake: Any) -> None:
    executor = fake()
    result = bench.run(executor, wanted(bench, MIXED))
    sent = benches(executor)
    assert all((job.statistic, job.also, job.is_both) == ("p50", ("p95",), True) for job in sent)
    assert executor.count(TableJob) == 1
    baseline = bench.study().baseline["latency_ms"]
    assert [baseline["statistic"]] + [o["statistic"] for o in baseline["others"]] == ["p50", "p95"]
    assert limits_of(bench) == [9.0, pytest.approx(0.6 * baseline["p95"])]
    points = timed_points(bench)
    assert points and all(len(p.latency["others"]) == 1 for p in points)
    # Each is stated as it is limited: a time by how far texts differ, a ratio by the models alone.
    for point in points:
        time, (ratio,) = point.latency, point.latency["others"]
        assert time["low"] < 0.99 * time["high"] and ratio["low"] > 0.999 * ratio["high"]
        assert time["tries"] == 1 and "predicted" in time and "predicted" in ratio
    chosen = result.choice.point
    assert result.choice.feasible
    assert chosen.latency["high"] <= 9.0
    assert chosen.latency["others"][0]["high"] <= limits_of(bench)[1]
    assert bench.problems() == []


def test_points_are_timed_on_all_requests_and_models_made_for_the_tightest_limit(
    bench: Any, fake: Any
) -> None:
    executor = fake()
    result = bench.run(executor, wanted(bench, TWO))
    sizes = [job.workload.batch_size for job in benches(executor)]
    assert sizes == [2, 8] * (len(sizes) // 2) and len(sizes) > 2
    assert executor.count(TableJob) == 2
    # Twice as many texts are half of the time, and the ladder is about that, not about 60 %.
    rungs = {cost for job in executor.sent if isinstance(job, LadderJob) for cost, _ in job.rungs}
    assert rungs == set(ladder(0.5))
    assert result.choice.feasible
    (chosen,) = bench.emitted
    parts = [chosen.latency, *chosen.latency["others"]]
    assert [(p["statistic"], p["batch_size"]) for p in parts] == [("p95", 2), ("mean", 8)]
    for part, limit in zip(parts, limits_of(bench), strict=True):
        assert part["verdict"] == "stable" and part["high"] <= limit * (1 + 1e-9)
    events = [e for e in bench.store.events(bench.study().id) if e.kind == "latency"]
    of_chosen = [e.data["workload"] for e in events if e.data["point"] == chosen.id]
    assert [workload["batch_size"] for workload in of_chosen] == [2, 8]
    assert bench.problems() == []


def test_what_meets_the_first_limit_alone_is_not_feasible(
    bench: Any, fake: Any, play_timed: Any, ratio_of: Any
) -> None:
    result = bench.run(fake(with_many(play_timed, ratio_of, 0.9)), wanted(bench, TWO))
    first, second = limits_of(bench)
    good = [p for p in timed_points(bench) if p.latency["high"] <= first and p.drop <= 0.1]
    assert good and not any(p.feasible for p in timed_points(bench))
    assert all(p.latency["others"][0]["high"] > second for p in good)
    assert not result.choice.feasible
    said = result.choice.relaxations
    assert any("latency mean at batch 8 from " in text for text in said)
    assert not any("latency p95 at batch 2" in text for text in said)


def test_requests_that_cannot_be_timed_leave_a_point_unmeasured(
    bench: Any, fake: Any, play_timed: Any, ratio_of: Any
) -> None:
    script = with_many(play_timed, ratio_of, 0.0, Failure("oom_host", "out of memory"))
    result = bench.run(fake(script), wanted(bench, TWO))
    assert bench.states() == ["complete"] * 4 and not result.choice.feasible
    assert excess(result.choice.point, result.limits) == float("inf")
    assert bench.problems() == []
    assert bench.run(fake(), wanted(bench, TWO)).choice.feasible, "the next run tries again"


def test_a_further_statistic_of_the_same_requests_needs_no_timing(bench: Any, fake: Any) -> None:
    bench.run(fake(), wanted(bench, ONE))
    was = {p.id: p.latency["value"] for p in timed_points(bench)}
    again = fake()
    bench.run(again, wanted(bench, {**ONE, "p50": "90%"}))
    assert again.count(BenchJob) == 1
    now = {p.id: p.latency for p in timed_points(bench)}
    assert {key: now[key]["others"][0]["value"] for key in was} == was
    assert all(now[key]["value"] == now[key]["p50"] for key in was)


def test_further_requests_are_timed_beside_what_is_known(bench: Any, fake: Any) -> None:
    bench.run(fake(), wanted(bench, ONE))
    was = {p.id: p.latency["value"] for p in timed_points(bench)}
    result = bench.run(fake(), wanted(bench, TWO))
    known = {p.id: p.latency for p in bench.store.points(bench.study().id)}
    assert {key: known[key]["value"] for key in was} == was
    assert result.choice.feasible
    assert result.choice.point.latency["others"][0]["verdict"] == "stable"
    assert bench.problems() == []


def test_limits_in_another_order_need_no_timing(bench: Any, fake: Any) -> None:
    bench.run(fake(), wanted(bench, TWO))
    was = {p.id: (p.latency["value"], p.latency["others"][0]["value"]) for p in timed_points(bench)}
    again = fake()
    result = bench.run(again, wanted(bench, TWO[::-1]))
    assert again.count(BenchJob) == 2, "the baseline alone, once for each kind of request"
    now = {p.id: (p.latency["others"][0]["value"], p.latency["value"]) for p in timed_points(bench)}
    assert now == was and result.choice.feasible


def test_one_limit_that_stays_is_as_if_there_had_been_no_other(
    bench: Any, make_bench: Any, fake: Any
) -> None:
    alone = make_bench("alone")
    alone.run(fake(), wanted(alone, ONE))
    bench.run(fake(), wanted(bench, TWO))
    was = {p.id: p.latency["value"] for p in timed_points(bench)}
    bench.run(fake(), wanted(bench, ONE))
    assert bench.study().limits == alone.study().limits
    assert bench.study().baseline == alone.study().baseline
    names = set(timed_points(alone)[0].latency)
    now = timed_points(bench)
    assert all(set(p.latency) == names for p in now)
    assert {p.id: p.latency["value"] for p in now if p.id in was} == was


def test_a_run_without_the_budget_between_two_with_it_costs_nothing(bench: Any, fake: Any) -> None:
    bench.run(fake(), wanted(bench, TWO))
    bench.run(fake(), bench.spec())
    assert limits_of(bench) == []
    last = fake()
    bench.run(last, wanted(bench, TWO))
    assert last.count(BenchJob) == 2 and len(limits_of(bench)) == 2


def test_another_question_is_about_the_first_limit(bench: Any, fake: Any) -> None:
    result = bench.run(fake(), wanted(bench, TWO))
    study = trimtab.open_study("reviews", db=f"sqlite:///{bench.folder}/trimtab.db")
    limits = study.read_limits(None, None, "7 ms")
    assert limits is not None and limits.latencies_ms == (7.0,)
    asked = study.frontier_points(limits, "latency")
    assert asked and all(p.latency["high"] <= 7.0 for p in asked if p.latency)
    within = study.frontier_points(result.limits, "latency")
    assert within and all(is_feasible(point, result.limits) for point in within)
    assert len(within) <= len(study.frontier_points(None, "latency"))


THREADS = [{"p95": "60%", "threads": 1}, {"p95": "9 ms", "threads": 4}]


def test_limits_that_differ_in_threads_alone_are_told_apart(
    bench: Any, fake: Any, play_timed: Any
) -> None:
    def script(job: Any, nth: int) -> Any:
        if isinstance(job, BenchJob) and job.workload.threads == 4:
            return [play_timed(job, 1.0) for _ in job.candidates]
        return None

    executor = fake(script)
    result = bench.run(executor, wanted(bench, THREADS))
    assert {job.workload.threads for job in benches(executor)} == {1, 4}
    assert not result.choice.feasible
    raised = [text for text in result.choice.relaxations if "latency" in text]
    assert any("latency p95 at batch 1 on 4 threads from 9 ms" in text for text in raised)
    points = [p for p in bench.store.points(bench.study().id) if p.latency is not None]
    named = {(p.latency["asked_threads"], p.latency["others"][0]["asked_threads"]) for p in points}
    assert named == {(1, 4)}


# A run that is killed once points are as they are wanted, and the baseline is as it was


def killed(bench: Any, fake: Any, latency: Any) -> None:
    def die(*unused: Any) -> None:
        raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_baseline, "_record", die)
        with pytest.raises(KeyboardInterrupt):
            bench.run(fake(), wanted(bench, latency))


def values_of(bench: Any) -> dict[tuple[int, Any, int], float]:
    return {
        (point.id, part["statistic"], part["batch_size"]): part["value"]
        for point in timed_points(bench)
        for part in [point.latency, *point.latency.get("others", ())]
        if part["value"] is not None
    }


@pytest.mark.parametrize("last", [TWO, TWO[::-1]])
def test_a_kill_while_limits_change_places_swaps_none(bench: Any, fake: Any, last: Any) -> None:
    bench.run(fake(), wanted(bench, TWO))
    was = values_of(bench)
    killed(bench, fake, TWO[::-1])
    again = fake()
    result = bench.run(again, wanted(bench, last))
    assert again.count(BenchJob) == 2, "the baseline alone, once for each kind of request"
    assert values_of(bench) == was and result.choice.feasible
    assert bench.problems() == []


def test_a_kill_takes_no_time_for_a_ratio(bench: Any, fake: Any) -> None:
    bench.run(fake(), wanted(bench, MIXED))
    swapped = {"p50": "60%", "p95": "9 ms", "batch_size": 2}
    killed(bench, fake, swapped)
    again = fake()
    bench.run(again, wanted(bench, swapped))
    assert again.count(BenchJob) == 1
    assert timed_points(bench)
    for point in timed_points(bench):
        ratio, time = point.latency, point.latency["others"][0]
        assert ratio["low"] > 0.999 * ratio["high"] and time["low"] < 0.99 * time["high"]


def test_a_kill_leaves_no_part_to_another_limit(bench: Any, fake: Any) -> None:
    bench.run(fake(), wanted(bench, TWO))
    killed(bench, fake, TWO[1:])
    result = bench.run(fake(), wanted(bench, TWO[:1]))
    sizes = {p.latency["batch_size"] for p in timed_points(bench)}
    assert sizes == {2} and result.choice.feasible


def test_a_part_that_stays_keeps_nothing_of_the_others(bench: Any, fake: Any) -> None:
    named = {**ONE, "threads": 4, "lengths": [8, 16]}
    bench.run(fake(), wanted(bench, [named, TWO[1]]))
    bench.run(fake(), wanted(bench, named))
    every = [p.latency for p in bench.store.points(bench.study().id) if p.latency is not None]
    gone = {"lengths", "asked_threads", "is_relative"}
    assert every and not any(
        gone & latency.keys() for latency in every if "workload" not in latency
    )
    baseline = bench.study().baseline["latency_ms"]
    assert baseline["is_relative"] and not {"lengths", "asked_threads"} & baseline.keys()


# One kind of request that cannot be timed, or is missed


def test_requests_that_cannot_be_timed_leave_the_figures_of_others(
    bench: Any, fake: Any, play_timed: Any, ratio_of: Any
) -> None:
    script = with_many(play_timed, ratio_of, 0.0, Failure("oom_host", "out of memory"))
    executor = fake(script)
    bench.run(executor, wanted(bench, TWO))
    tried = [p for p in bench.store.points(bench.study().id) if (p.latency or {}).get("tries")]
    assert tried
    for point in tried:
        assert point.latency["verdict"] == "stable" and point.latency["high"] is not None
        (many,) = point.latency["others"]
        assert (many["value"], many["statistic"], many["batch_size"]) == (None, "mean", 8)
    few = [
        one.key
        for job in benches(executor)
        if job.workload.batch_size == 2
        for one in job.candidates
    ]
    assert len(few) == len(set(few)), "what could be timed is not timed again, one by one"
    notes = [note for note in bench.reporter.notes if "could not be timed" in note]
    assert notes and all("could not be timed at batch 8: " in note for note in notes)


def test_first_requests_that_cannot_be_timed_keep_their_names(bench: Any, fake: Any) -> None:
    def script(job: Any, nth: int) -> Any:
        is_point = isinstance(job, BenchJob) and job.candidates[0].key != job.baseline_key
        few = is_point and job.workload.batch_size == 2
        return Failure("oom_host", "out of memory") if few else None

    bench.run(fake(script), wanted(bench, TWO))
    tried = [p for p in bench.store.points(bench.study().id) if (p.latency or {}).get("tries")]
    assert tried
    for point in tried:
        few, many = point.latency, point.latency["others"][0]
        assert (few["value"], few["statistic"], few["batch_size"]) == (None, "p95", 2)
        assert many["verdict"] == "stable"


def test_what_was_sure_stays_and_what_is_predicted_stands_beside() -> None:
    guess = {"p95": 6.0}
    sure = {"value": 5.0, "high": 5.1, "verdict": "stable", "predicted": guess}
    doubtful = {"value": 9.0, "high": 9.1, "verdict": "unstable", "reason": "noise"}
    only_predicted = {"value": None, "verdict": "predicted", "predicted": guess}
    known = {**sure, "tries": 1, "others": [only_predicted]}
    found = measured_of(known, {**doubtful, "others": [doubtful]})
    assert found == {**sure, "tries": 2, "others": [{**doubtful, "predicted": guess}]}
    assert measured_of(known, {"others": [{}]}) == {**known, "tries": 2}
    assert measured_of(only_predicted, {}) == {**only_predicted, "tries": 1}
    assert measured_of(None, sure) == {**sure, "tries": 1}


def test_a_checkpoint_that_misses_one_limit_leaves_what_is_known_of_another(
    bench: Any, fake: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    deliver, missed = _run.emit_checkpoint, []

    def emit(store: Any, study: Any, choice: Any, *others: Any, **options: Any) -> Any:
        if options["insist"] and not missed:
            missed.append(choice.point)
            slow = {**choice.point.latency, "value": 9.9, "high": 10.1, "holds": False}
            many = {**choice.point.latency["others"][0], "reason": "no memory", "holds": None}
            untold = {**many, "value": None, "high": None, "verdict": "unstable"}
            raise LatencyMissedError({**slow, "others": [untold]}, 6.0)
        return deliver(store, study, choice, *others, **options)

    monkeypatch.setattr(_run, "emit_checkpoint", emit)
    bench.run(fake(), wanted(bench, TWO, max_drop="20 pt"))
    (point,) = missed
    known = bench.store.point(point.id).latency
    assert known["high"] == 10.1 and known["others"] == point.latency["others"]


# What is said


def test_what_is_in_doubt_says_which_latency_it_is(
    bench: Any, fake: Any, play_timed: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def script(job: Any, nth: int) -> Any:
        if isinstance(job, BenchJob) and job.workload.batch_size == 8:
            return [play_timed(job, 0.3, verdict="unstable") for _ in job.candidates]
        return None

    deliver = _run.emit_checkpoint

    def emit(store: Any, study: Any, choice: Any, *others: Any, **options: Any) -> Any:
        made = deliver(store, study, choice, *others, **options)
        return replace(made, latency={**choice.point.latency, "holds": None})

    monkeypatch.setattr(_run, "emit_checkpoint", emit)
    bench.run(fake(script), wanted(bench, TWO))
    doubt = "mean at batch 8: it is played"
    assert f"the baseline's latency is not stable: {doubt}" in bench.reporter.notes
    said = f"the checkpoint's latency could not be confirmed: {doubt}"
    assert said in bench.reporter.notes
