"""A checkpoint that takes too long is not delivered while there is another."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from trimtab._parts import parts_of
from trimtab.controller._ranking import Setting
from trimtab.emission import LatencyCheck, LatencyMissedError, emit_what_holds
from trimtab.emission._latency import MOST_CANDIDATES, MOST_TRIES
from trimtab.errors import JobError
from trimtab.selection import Choice, Limits, choose
from trimtab_workers.latency.summary import summarise
from trimtab_workers.latency.workload import Workload

SAMPLES = {"ours": [[2.0, 2.1]], "baseline": [[4.0, 4.2]], "waited": None}


def latency(high: float, verdict: str = "stable") -> dict[str, Any]:
    return {"statistic": "p95", "high": high, "verdict": verdict}


class Study:
    """Points that are expected to take one time and whose checkpoints take another."""

    def __init__(self, real_ms: list[float], max_ms: float) -> None:
        self.real, self.max_ms = real_ms, max_ms
        self.expected = [max_ms] * len(real_ms)
        self.tried: list[tuple[int, bool]] = []

    def choose(self) -> Choice[Any]:
        fitting = [n for n, ms in enumerate(self.expected) if ms <= self.max_ms]
        nearest = min(range(len(self.real)), key=lambda n: self.expected[n])
        chosen = fitting[0] if fitting else nearest
        return Choice(SimpleNamespace(id=chosen), bool(fitting), [])

    def emit(self, choice: Choice[Any], insist: bool) -> int:
        self.tried.append((choice.point.id, insist))
        found = LatencyCheck("p95", Workload(), self.max_ms)
        seen = latency(self.real[choice.point.id])
        if insist:
            found.insist({**seen, "holds": found.holds(seen)})
        return int(choice.point.id)

    def on_miss(self, point: Any, missed: LatencyMissedError) -> None:
        self.expected[point.id] = missed.latency["high"]


def test_the_next_candidate_is_tried_until_one_holds() -> None:
    study = Study([6.0, 7.0, 4.0, 3.0], max_ms=5.0)
    assert emit_what_holds(study.choose, study.emit, study.on_miss) == 2
    assert study.tried == [(0, True), (1, True), (2, True)]


def test_when_none_holds_the_closest_is_delivered() -> None:
    study = Study([6.0, 5.5], max_ms=5.0)
    assert emit_what_holds(study.choose, study.emit, study.on_miss) == 1
    assert study.tried[-1] == (1, False)


def test_it_ends_however_many_miss() -> None:
    study = Study([6.0] * 50, max_ms=5.0)
    last = emit_what_holds(study.choose, study.emit, study.on_miss)
    assert len(study.tried) == MOST_CANDIDATES
    assert study.tried[-1] == (last, False)


@pytest.mark.parametrize(
    ("seen", "max_ms", "holds"),
    [
        (latency(5.0), 5.0, True),
        (latency(5.1), 5.0, False),
        (latency(4.0, "unstable"), 5.0, None),
        (latency(4.0), None, None),
    ],
)
def test_holding_is_judged_at_the_upper_end_and_only_where_it_can_be_told(
    seen: dict[str, Any], max_ms: float | None, holds: bool | None
) -> None:
    assert LatencyCheck("p95", Workload(), max_ms).holds(seen) is holds


TIMES = np.linspace(4.0, 6.0, 80)[:, None] * np.ones(4)


def result(verdict: str, batch_size: int = 1) -> Any:
    """A checkpoint that takes half of what the dense model does."""
    known: Any = {"batch_size": batch_size, "reference_p50_ms": DENSE.p50}
    timed = summarise(0.5 * TIMES, TIMES, "p95", **known)
    figures = {name: {**known, "verdict": verdict} for name, known in timed.figures.items()}
    latency = replace(timed, verdict=verdict, figures=figures)
    return SimpleNamespace(latency=latency, samples=SAMPLES)


DENSE = summarise(1.1 * TIMES, 1.1 * TIMES, "p95")


def test_a_checkpoint_that_cannot_be_timed_is_delivered_and_that_is_said(tmp_path: Any) -> None:
    def run(job: Any, label: str) -> Any:
        raise JobError("no memory")

    check = LatencyCheck("p95", Workload(), 5.0)
    found, samples = check.measure(SimpleNamespace(place=None, run=run), tmp_path, "dense")  # type: ignore[arg-type]
    assert samples == {}
    assert (found["value"], found["holds"], found["reason"]) == (None, None, "no memory")
    check.insist(found)


@pytest.mark.parametrize(
    ("verdicts", "n_jobs", "holds"),
    [
        (["stable"], 1, True),
        (["unstable", "stable"], 2, True),
        (["unstable"] * 9, MOST_TRIES, None),
    ],
)
def test_what_is_not_stable_is_timed_again(
    verdicts: list[str], n_jobs: int, holds: bool | None, tmp_path: Any
) -> None:
    jobs: list[Any] = []

    def run(job: Any, label: str) -> Any:
        jobs.append(job)
        return result(verdicts[len(jobs) - 1])

    allowed = 0.5 * DENSE.p95
    check = LatencyCheck("p95", Workload(), allowed, DENSE.to_plain())
    found, samples = check.measure(SimpleNamespace(place=None, run=run), tmp_path, "dense")  # type: ignore[arg-type]
    assert samples == SAMPLES
    assert found["distribution"]["low_ms"] == 2.05 and found["distribution"]["high_ms"] == 4.1
    assert (found["holds"], found["max_ms"], len(jobs)) == (holds, allowed, n_jobs)
    assert (jobs[0].folder, jobs[0].baseline_key) == (str(tmp_path), "dense")
    assert found["high"] == pytest.approx(allowed)


MANY = Workload(32)
SHARE = LatencyCheck("p95", Workload(), 0.5 * DENSE.p95, DENSE.to_plain())


def with_mean(max_ms: float) -> LatencyCheck:
    """A limit on single requests and one on the mean of large ones."""
    return replace(SHARE, others=(LatencyCheck("mean", MANY, max_ms),))


def measured(check: LatencyCheck, tmp_path: Any, verdicts: dict[int, str] = {}) -> Any:  # noqa: B006
    jobs: list[Any] = []

    def run(job: Any, label: str) -> Any:
        jobs.append(job)
        size = job.workload.batch_size
        return result(verdicts.get(size, "stable"), size)

    place = SimpleNamespace(place=None, run=run)
    found, samples = check.measure(place, tmp_path, "dense")  # type: ignore[arg-type]
    return found, samples, jobs


@pytest.mark.parametrize(
    ("max_ms", "verdicts", "each", "holds"),
    [
        (3.0, {}, [True], True),
        (2.0, {}, [False], False),
        (3.0, {32: "unstable"}, [None], None),
        (2.0, {1: "unstable"}, [False], False),
    ],
)
def test_a_checkpoint_holds_where_it_keeps_to_all_limits(
    max_ms: float, verdicts: Any, each: Any, holds: bool | None, tmp_path: Any
) -> None:
    found, samples, jobs = measured(with_mean(max_ms), tmp_path, verdicts)
    assert {job.workload.batch_size for job in jobs} == {1, 32}
    assert found["holds"] is holds and [one["holds"] for one in found["others"]] == each
    assert [one["max_ms"] for one in found["others"]] == [max_ms]
    assert (found["statistic"], found["others"][0]["statistic"]) == ("p95", "mean")
    assert list(samples) == [*SAMPLES, "others"] and len(samples["others"]) == 1


MAX_MS = SHARE.max_ms or 0.0


@pytest.mark.parametrize(
    ("drop", "was_ms", "holds", "is_feasible"),
    [
        (0.01, 2 * MAX_MS, True, True),
        (0.03, 2 * MAX_MS, True, False),
        (0.03, 0.5 * MAX_MS, True, False),
        (0.01, 2 * MAX_MS, None, False),
        (0.01, 0.5 * MAX_MS, None, True),
        (0.01, 0.5 * MAX_MS, True, True),
        (0.01, 0.5 * MAX_MS, False, False),
        (0.01, 2 * MAX_MS, False, False),
    ],
)
def test_what_was_timed_last_counts_but_makes_up_for_no_drop(
    drop: float, was_ms: float, holds: bool | None, is_feasible: bool, tmp_path: Any
) -> None:
    found, _, _ = measured(SHARE, tmp_path)
    was = {"value": was_ms, "high": was_ms, "verdict": "stable"}
    limits = Limits(max_drop=0.02, max_flops_ratio=0.6, max_latency_ms=MAX_MS)
    choice = choose([Setting(drop, 5e8, 0.5, latency=was)], limits)
    judged = SHARE.judged(choice, {**found, "holds": holds}, limits)  # type: ignore[arg-type]
    assert judged.feasible is is_feasible and bool(judged.relaxations) is not is_feasible
    if holds:
        assert not any("latency" in text for text in judged.relaxations), "it is within that"
        was_too_slow = was_ms > MAX_MS
        assert judged.point.latency == ({**found, "holds": True} if was_too_slow else was)


def test_the_limit_that_is_missed_is_named(tmp_path: Any) -> None:
    check = with_mean(2.0)
    found, _, _ = measured(check, tmp_path)
    assert SHARE.holds(found), "the first limit is kept to"
    with pytest.raises(LatencyMissedError, match=r"\(mean at batch 32\), and 2 ms are allowed"):
        check.insist(found)
    judged = check.judged(Choice(SimpleNamespace(id=1), True, []), found, Limits())  # type: ignore[type-var]
    (said,) = judged.relaxations
    assert said.startswith("raise latency mean at batch 32 from 2 ms to ") and not judged.feasible
    with_mean(3.0).insist({**found, "holds": True})


def test_statistics_of_the_same_requests_are_timed_at_once(tmp_path: Any) -> None:
    check = replace(SHARE, others=(replace(SHARE, statistic="p50", max_ms=9.0),))
    found, samples, jobs = measured(check, tmp_path)
    assert [(job.statistic, job.also) for job in jobs] == [("p95", ("p50",))]
    assert found["holds"] and found["others"][0]["value"] == pytest.approx(0.5 * DENSE.p50)
    assert samples == SAMPLES


@pytest.mark.parametrize("failing", [{1}, {32}, {1, 32}])
def test_requests_that_cannot_be_timed_leave_what_is_known_of_the_others(
    failing: set[int], tmp_path: Any
) -> None:
    def run(job: Any, label: str) -> Any:
        size = job.workload.batch_size
        if size in failing:
            raise JobError("no memory")
        return result("stable", size)

    place = SimpleNamespace(place=None, run=run)
    found, samples = with_mean(3.0).measure(place, tmp_path, "dense")  # type: ignore[arg-type]
    parts = parts_of(found)
    assert [(part["statistic"], part["batch_size"]) for part in parts] == [("p95", 1), ("mean", 32)]
    for part in parts:
        is_known = part["batch_size"] not in failing
        assert (part["reason"], part["value"] is not None) == (
            (None, True) if is_known else ("no memory", False)
        )
    assert found["holds"] is None and found["others"][0]["holds"] is (
        None if 32 in failing else True
    )
    known = [{} if size in failing else SAMPLES for size in (1, 32)]
    assert samples == ({**known[0], "others": known[1:]} if any(known) else {})


@pytest.mark.parametrize("failing", [1, 32])
def test_a_limit_that_is_missed_is_missed_though_others_could_not_be_timed(
    failing: int, tmp_path: Any
) -> None:
    def run(job: Any, label: str) -> Any:
        if job.workload.batch_size == failing:
            raise JobError("no memory")
        return result("stable", job.workload.batch_size)

    check = replace(with_mean(2.0), max_ms=2.0)
    found, _ = check.measure(SimpleNamespace(place=None, run=run), tmp_path, "dense")  # type: ignore[arg-type]
    assert found["holds"] is False
    missed = "mean at batch 32" if failing == 1 else "p95 at batch 1"
    with pytest.raises(LatencyMissedError, match=rf"\({missed}\), and 2 ms are allowed"):
        check.insist(found)


def test_limits_that_differ_in_threads_are_named_by_them(tmp_path: Any) -> None:
    first = replace(SHARE, workload=Workload(threads=1))
    fast = LatencyCheck("p95", Workload(threads=4), 2.0)
    check = replace(first, others=(fast,))
    found, _, jobs = measured(check, tmp_path)
    assert [job.workload.threads for job in jobs] == [1, 4]
    with pytest.raises(LatencyMissedError, match=r"\(p95 at batch 1 on 4 threads\)"):
        check.insist(found)
    judged = check.judged(Choice(SimpleNamespace(id=1), True, []), found, Limits())  # type: ignore[type-var]
    assert judged.relaxations[0].startswith("raise latency p95 at batch 1 on 4 threads from 2 ms ")
