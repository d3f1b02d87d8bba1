"""The trial loop with workers that are played by a script."""

from __future__ import annotations

import random
import time
from dataclasses import replace
from typing import Any

import pytest

from trimtab.controller import _trials
from trimtab.controller._ladder import ladder
from trimtab.controller._runner import MAX_ATTEMPTS
from trimtab.controller._session import Session
from trimtab.errors import InterruptedStudyError, NothingFinishedError
from trimtab_strategies import registry
from trimtab_workers.executors import Failure
from trimtab_workers.jobs import BaselineJob, LadderJob, StatisticsJob

CRASH = Failure("crashed", "the worker died", "the end of its log")


SHARED = {"calibration": 512, "importance": "predictions"}
"""All that the statistics depend on: recipes that agree on it share them."""
FOUR = {**SHARED, "calibration": [256, 512], "head_weight": 1.0, "tuning": "none"}
"""Pins that leave four recipes."""


def ladders(executor: Any) -> list[LadderJob]:
    return [job for job in executor.sent if isinstance(job, LadderJob)]


def calibration(job: Any) -> int:
    return int(dict(job.choices)["calibration"])


def deciding(choices: Any) -> tuple[int, str]:
    """What the statistics of a recipe depend on."""
    named = dict(choices)
    return named["calibration"], named["importance"]


def test_search_runs_every_trial_once_and_records_its_ladder(bench: Any, fake: Any) -> None:
    executor = fake()
    result = bench.run(executor)
    trials = bench.trials()
    assert bench.states() == ["complete"] * 4
    assert [trial.attempts for trial in trials] == [1] * 4
    assert [trial.number for trial in trials] == [0, 1, 2, 3]
    points = bench.store.points(bench.study().id)
    assert len(points) == 1 + 4 * len(ladder(0.5)), "the baseline and four ladders"
    assert [p.drop for p in points if p.trial_id is None] == [0.0]
    for trial in trials:
        costs = [p.flops_ratio for p in points if p.trial_id == trial.id]
        assert costs == list(ladder(0.5))
    assert len({job.rungs for job in ladders(executor)}) == 4
    assert result.choice.point == bench.emitted[0] and result.choice.feasible
    assert (bench.study().state, bench.study().lease_owner) == ("finished", None)
    assert executor.closed and bench.problems() == []


def test_jobs_carry_the_time_limit_of_a_trial(bench: Any, fake: Any) -> None:
    executor = fake()
    bench.run(executor, bench.spec(workers__trial_timeout="7 min"))
    limits = dict(zip(map(type, executor.sent), executor.timeouts, strict=True))
    assert limits[LadderJob] == limits[StatisticsJob] == 420
    assert limits[BaselineJob] is None


@pytest.mark.parametrize("slots", [1, 2, 4])
def test_statistics_are_made_once_for_all_that_share_them(
    bench: Any, fake: Any, slots: int
) -> None:
    spec = bench.spec(search__strategies=[{"fisher": SHARED}], search__trials=6)
    executor = fake(slots=slots)
    bench.run(executor, spec)
    assert executor.count(StatisticsJob) == 1 and executor.count(LadderJob) == 6
    made = executor.sent.index(next(j for j in executor.sent if isinstance(j, StatisticsJob)))
    assert all(executor.sent.index(job) > made for job in ladders(executor))
    assert bench.states() == ["complete"] * 6
    assert sum(trial.reused for trial in bench.trials()) == 5, "all but the first reuse them"


def test_different_statistics_are_made_for_each(bench: Any, fake: Any) -> None:
    spec = bench.spec(search__strategies=[{"fisher": {"calibration": [256, 512]}}])
    executor = fake()
    bench.run(executor, spec)
    wanted = {deciding(trial.recipe[0]["choices"]) for trial in bench.trials()}
    made = [deciding(job.choices) for job in executor.sent if isinstance(job, StatisticsJob)]
    assert sorted(made) == sorted(wanted) and len({size for size, _ in made}) == 2
    assert {signal for _, signal in made} == {"predictions", "labels"}


def test_those_who_wait_for_statistics_take_no_slot(bench: Any, fake: Any) -> None:
    """But no more of them are collected than there are slots."""
    crowds: list[int] = []

    def script(job: Any, nth: int) -> Any:
        if isinstance(job, StatisticsJob | LadderJob):
            crowds.append(bench.states().count("running"))
        return None

    spec = bench.spec(search__strategies=[{"fisher": SHARED}], search__trials=9)
    executor = fake(script, slots=2)
    bench.run(executor, spec)
    assert crowds[0] == 1 and max(crowds) == 4
    assert bench.states() == ["complete"] * 9


@pytest.mark.parametrize("failure", [CRASH, Failure("error", "ValueError: no")])
def test_when_statistics_fail_the_next_who_waits_makes_them(
    bench: Any, fake: Any, failure: Failure
) -> None:
    spec = bench.spec(search__strategies=[{"fisher": SHARED}], search__trials=4)
    executor = fake(
        lambda job, nth: failure if isinstance(job, StatisticsJob) and nth == 0 else None, slots=3
    )
    bench.run(executor, spec)
    if failure.reason == "crashed":
        assert bench.states() == ["complete"] * 4
    else:
        assert sorted(bench.states()) == ["complete"] * 3 + ["failed"]
    assert executor.count(StatisticsJob) == 2
    assert bench.problems() == []


def test_crashed_trial_is_tried_three_times(bench: Any, fake: Any) -> None:
    executor = fake(lambda job, nth: CRASH if isinstance(job, LadderJob) and nth < 2 else None)
    bench.run(executor)
    assert bench.states() == ["complete"] * 4
    assert [trial.attempts for trial in bench.trials()] == [3] * 4
    assert executor.count(LadderJob) == 12


def test_who_is_killed_beside_those_that_eat_the_memory_comes_through(
    bench: Any, fake: Any
) -> None:
    """Five are too large and take others with them, and it is not always known who it was."""
    own = Failure("oom_host", "the machine ran out of memory")
    doubtful = replace(own, is_in_doubt=True)
    hogs: dict[Any, Failure] = {}

    def script(job: Any, nth: int) -> Any:
        if not isinstance(job, LadderJob):
            return doubtful if isinstance(job, StatisticsJob) and nth == 0 else None
        if len(hogs) < 5 or job in hogs:
            return hogs.setdefault(job, doubtful if len(hogs) % 2 else own)
        return doubtful if nth == 0 else None

    bench.run(fake(script, slots=3), bench.spec(search__trials=15))
    failed = [trial for trial in bench.trials() if trial.state == "failed"]
    assert len(failed) == 5 and bench.states().count("complete") == 10
    assert all(trial.reason.startswith("oom_host: ") for trial in failed)
    assert max(trial.attempts for trial in bench.trials()) <= MAX_ATTEMPTS
    assert any("memory ran out with others at work; it is" in x for x in bench.reporter.notes)
    assert bench.study().state == "finished" and bench.problems() == []


def test_trial_that_always_crashes_fails_after_three_attempts(bench: Any, fake: Any) -> None:
    executor = fake(
        lambda job, nth: CRASH if isinstance(job, LadderJob) and calibration(job) == 2048 else None
    )
    spec = bench.spec(search__strategies=[{"fisher": {"calibration": [512, 2048]}}])
    bench.run(executor, spec)
    failed = [trial for trial in bench.trials() if trial.state == "failed"]
    assert failed and len(failed) < 4
    for trial in failed:
        assert trial.attempts == 3 and trial.reason == "crashed: the worker died"
    assert len(ladders(executor)) == 3 * len(failed) + (4 - len(failed))
    events = bench.store.events(bench.study().id)
    assert [event.kind for event in events] == ["trial-failed"] * 3 * len(failed)
    assert events[0].data["detail"] == "the end of its log"
    assert bench.study().state == "finished" and bench.problems() == []


@pytest.mark.parametrize("reason", ["error", "timeout", "oom_host", "oom_device", "input"])
def test_other_failures_end_a_trial_at_once(bench: Any, fake: Any, reason: Any) -> None:
    failure = Failure(reason, "it is bad")
    first: list[Any] = []

    def script(job: Any, nth: int) -> Any:
        if not isinstance(job, LadderJob):
            return None
        first.append(job)
        return failure if job == first[0] else None

    executor = fake(script)
    bench.run(executor)
    failed, *others = bench.trials()
    assert (failed.state, failed.attempts) == ("failed", 1)
    assert failed.reason == f"{reason}: it is bad" and failed.seconds is not None
    assert [trial.state for trial in others] == ["complete"] * 3
    assert any(f"failed: {reason}: it is bad" in note for note in bench.reporter.notes)


def test_impossible_measurement_fails_its_trial_alone(bench: Any, fake: Any, value_of: Any) -> None:
    def script(job: Any, nth: int) -> Any:
        if isinstance(job, LadderJob) and calibration(job) == 2048:
            first, *others = value_of(job)
            bad = replace(first.measurement, metric=float("nan"))
            return [replace(first, measurement=bad), *others]
        return None

    spec = bench.spec(search__strategies=[{"fisher": {"calibration": [512, 2048]}}])
    bench.run(fake(script), spec)
    failed = [trial for trial in bench.trials() if trial.state == "failed"]
    assert failed and "must be a finite number" in failed[0].reason
    assert "complete" in bench.states() and bench.problems() == []


def test_nothing_finished_when_all_trials_fail(bench: Any, fake: Any) -> None:
    bad = Failure("error", "ValueError: no")
    executor = fake(lambda job, nth: bad if isinstance(job, LadderJob) else None)
    with pytest.raises(NothingFinishedError, match=r"4 failed.*larger search\.trials") as caught:
        bench.run(executor)
    assert caught.value.exit_code == 4
    assert bench.states() == ["failed"] * 4 and bench.study().lease_owner is None
    assert bench.problems() == []


def test_failed_trials_count_and_repeated_recipes_do_not(bench: Any, fake: Any) -> None:
    """A space of four recipes gives four trials, however many are asked for."""
    spec = bench.spec(search__strategies=[{"fisher": FOUR}], search__trials=30)
    bench.run(fake(lambda job, nth: None), spec)
    assert bench.states() == ["complete"] * 4
    assert bench.study().state == "finished"


# Reuse


def test_second_study_reuses_all_work_of_the_first(bench: Any, fake: Any) -> None:
    """In a space of four recipes there is nothing else to try."""
    spec = bench.spec(search__strategies=[{"fisher": FOUR}])
    bench.run(fake(), spec)
    executor = fake()
    again = bench.spec(search__strategies=[{"fisher": FOUR}], name="again")
    bench.run(executor, again)
    assert [type(job).__name__ for job in executor.sent] == ["SurveyJob"]
    keys = [{trial.recipe_key for trial in bench.trials(name)} for name in ("reviews", "again")]
    assert keys[0] == keys[1] and len(keys[0]) == 4
    assert [trial.reused for trial in bench.trials("again")] == [len(ladder(0.5))] * 4
    ours, theirs = (bench.store.points(bench.study(name).id) for name in ("reviews", "again"))
    assert {(p.artifact_key, p.drop) for p in ours} == {(p.artifact_key, p.drop) for p in theirs}
    assert bench.problems("again") == []


def test_second_study_makes_only_what_is_missing(bench: Any, fake: Any) -> None:
    spec = {"search__strategies": [{"fisher": FOUR}]}
    bench.run(fake(), bench.spec(**spec))
    executor = fake()
    bench.run(executor, bench.spec(**spec, name="again", budget__flops="40%"))
    assert executor.count(StatisticsJob) == executor.count(BaselineJob) == 0
    missing = [rung for rung in ladder(0.4) if rung not in ladder(0.5)]
    assert bench.states("again") == ["complete"] * 4
    for trial in bench.trials("again"):
        made = [job for job in ladders(executor) if _is_of(job, trial)]
        assert [cost for job in made for cost, _ in job.rungs] == missing


def _is_of(job: LadderJob, trial: Any) -> bool:
    return bool(dict(job.choices) == trial.recipe[0]["choices"])


def test_finished_study_sends_no_trials_again(bench: Any, fake: Any) -> None:
    bench.run(fake())
    before = bench.contents()
    executor = fake()
    bench.run(executor)
    assert [type(job).__name__ for job in executor.sent] == ["SurveyJob"]
    after = bench.contents()
    assert after[1:] == before[1:]
    assert len(bench.emitted) == 2 and bench.emitted[0] == bench.emitted[1]


def test_more_trials_go_on_where_the_search_ended(bench: Any, make_bench: Any, fake: Any) -> None:
    whole = make_bench("whole")
    whole.run(fake(), whole.spec(search__trials=7))
    bench.run(fake())
    bench.run(fake(), bench.spec(search__trials=7))
    assert bench.recipes() == whole.recipes()


def test_a_study_of_an_earlier_version_goes_on(
    bench: Any, fake: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    fisher = type(registry.get("fisher"))
    earlier = ("calibration", "rearrange", "damping")
    with monkeypatch.context() as then:
        choices = [c for c in fisher.choices if c.name in earlier]
        then.setattr(fisher, "choices", tuple(replace(c, requires=()) for c in choices))
        then.setattr(fisher, "statistics_choices", ("calibration",))
        executor = fake()
        with pytest.raises(InterruptedStudyError):
            bench.run(executor, stop=lambda: executor.count(LadderJob) == 3)
        assert bench.states() == ["complete"] * 2 + ["waiting"]
    again = fake()
    bench.run(again, bench.spec(budget__flops="43%"))
    assert set(bench.states()) == {"complete"}
    assert all("importance" in dict(job.choices) for job in again.sent if hasattr(job, "choices"))


def test_fewer_trials_start_nothing_more(bench: Any, fake: Any) -> None:
    executor = fake()
    with pytest.raises(InterruptedStudyError):
        bench.run(executor, stop=lambda: executor.count(LadderJob) == 3)
    assert bench.states() == ["complete"] * 2 + ["waiting"]
    again = fake()
    bench.run(again, bench.spec(search__trials=2))
    assert again.count(LadderJob) == 0 and bench.states() == ["complete"] * 2 + ["waiting"]


@pytest.mark.parametrize("n_extended", [_trials.N_EXTENDED])
def test_changed_budget_only_extends_the_best(bench: Any, fake: Any, n_extended: int) -> None:
    bench.run(fake(), bench.spec(search__trials=6))
    before = bench.trials()
    executor = fake()
    bench.run(executor, bench.spec(search__trials=6, budget__flops="45%"))
    assert {type(job).__name__ for job in executor.sent} == {"SurveyJob", "LadderJob"}
    assert [cost for job in ladders(executor) for cost, _ in job.rungs] == [0.45] * n_extended
    points = bench.store.points(bench.study().id)
    rung = {p.trial_id: p.drop for p in points if p.flops_ratio == 0.5}
    best = sorted(before, key=lambda trial: rung[trial.id])[:n_extended]
    extended = {p.trial_id for p in points if p.flops_ratio == 0.45}
    assert extended == {trial.id for trial in best}
    after = bench.trials()
    assert [(t.recipe, t.attempts, t.result) for t in after] == [
        (t.recipe, t.attempts, t.result) for t in before
    ]
    assert bench.problems() == []
    assert bench.emitted[-1].flops_ratio == 0.45


def test_another_budget_makes_nothing_that_there_is(bench: Any, fake: Any) -> None:
    """Also of the trials that are added, whose steps other recipes share."""
    spec = {"search__strategies": ["fisher", {"ltp": {"thresholds": "manual"}}, "early_exit"]}
    first, second = fake(), fake()
    bench.run(first, bench.spec(**spec, search__trials=9))
    bench.run(second, bench.spec(**spec, search__trials=14, budget__flops="33%"))
    before, after = made_by(first), made_by(second)
    assert bench.states() == ["complete"] * 14 and after
    assert len(before) == len(set(before)) and not set(before) & set(after)
    assert second.count(BaselineJob) == 0 and bench.problems() == []


def made_by(executor: Any) -> list[str]:
    """The keys of all that was sent out to be made."""
    rungs = [key for job in ladders(executor) for _, key in job.rungs]
    return rungs + [job.key for job in executor.sent if isinstance(job, StatisticsJob)]


def test_extension_is_made_once(bench: Any, fake: Any) -> None:
    spec = bench.spec(budget__flops="45%")
    bench.run(fake())
    bench.run(fake(), spec)
    executor = fake()
    bench.run(executor, spec)
    assert executor.count(LadderJob) == 0


def test_extension_that_fails_leaves_its_trial_complete(bench: Any, fake: Any) -> None:
    bench.run(fake())
    executor = fake(lambda job, nth: CRASH if isinstance(job, LadderJob) else None)
    bench.run(executor, bench.spec(budget__flops="45%"))
    assert bench.states() == ["complete"] * 4
    attempts = _trials.N_EXTENDED * MAX_ATTEMPTS
    assert len(ladders(executor)) == attempts, "a crash is tried again, but not for ever"
    assert any("could not be extended" in note for note in bench.reporter.notes)
    assert bench.problems() == []


# The end


def test_no_more_trials_than_asked_for(bench: Any, fake: Any, rng: random.Random) -> None:
    answers = [None, None, CRASH, Failure("error", "no")]
    for number in range(6):
        trials, slots = rng.randint(1, 7), rng.randint(1, 4)
        executor = fake(
            lambda job, nth: rng.choice(answers) if isinstance(job, LadderJob) else None,
            slots=slots,
        )
        name = f"study-{number}"
        try:
            bench.run(executor, bench.spec(name=name, search__trials=trials, search__seed=number))
        except NothingFinishedError:
            assert bench.states(name) == ["failed"] * trials
        assert len(bench.states(name)) == trials
        assert set(bench.states(name)) <= {"complete", "failed"}
        assert bench.problems(name) == []


def slowly(seconds: float) -> Any:
    def script(job: Any, nth: int) -> Any:
        if isinstance(job, LadderJob):
            time.sleep(seconds)
        return None

    return script


def test_time_up_starts_nothing_more(bench: Any, fake: Any) -> None:
    started = time.monotonic()
    executor = fake(slowly(0.25))
    bench.run(executor, bench.spec(search__trials=200, search__time="1 s"))
    assert time.monotonic() - started < 5
    assert 1 <= len(bench.states()) < 10
    assert set(bench.states()) == {"complete"}
    assert any("time is up" in note for note in bench.reporter.notes)
    n = executor.count(LadderJob)
    bench.run(executor, bench.spec(search__trials=200, search__time="1 s"))
    assert executor.count(LadderJob) == n, "the time is used up for later runs too"


def test_time_up_cuts_off_what_does_not_end_in_the_grace(
    bench: Any, fake: Any, hang: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_trials, "GRACE_S", 0.3)
    hanging: list[object] = []

    def script(job: Any, nth: int) -> Any:
        if isinstance(job, LadderJob) and len(bench.states()) > 2:
            hanging.append(job)
            return hang
        return None

    # The time is up when both slots hang, on a slow machine too.
    left_s = property(lambda session: 0.0 if len(hanging) == 2 else 60.0)
    monkeypatch.setattr(Session, "remaining_s", left_s)
    started = time.monotonic()
    result = bench.run(fake(script, slots=2), bench.spec(search__trials=9))
    assert 0.3 < time.monotonic() - started < 20
    assert bench.states() == ["complete"] * 2 + ["waiting"] * 2
    assert [trial.attempts for trial in bench.trials()] == [1, 1, 0, 0]
    assert (bench.study().state, bench.study().lease_owner) == ("interrupted", None)
    assert result.choice.point == bench.emitted[0], "what there is is delivered"
    hanging.clear()
    bench.run(fake(), bench.spec(search__trials=4))
    assert bench.states() == ["complete"] * 4 and bench.study().state == "finished"


def test_first_result_is_waited_for_longer_than_the_grace(
    bench: Any, fake: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_trials, "GRACE_S", 0.0)
    bench.run(fake(slowly(1.3)), bench.spec(search__time="1 s"))
    assert bench.states() == ["complete"]


def test_baseline_that_takes_all_the_time_leaves_room_for_one_trial(bench: Any, fake: Any) -> None:
    def script(job: Any, nth: int) -> Any:
        if isinstance(job, BaselineJob):
            time.sleep(1.1)
        return None

    bench.run(fake(script, slots=2), bench.spec(search__time="1 s"))
    assert bench.states() == ["complete"] and len(bench.emitted) == 1


def test_infeasible_limits_still_deliver_the_closest(bench: Any, fake: Any) -> None:
    for number, (budget, drop) in enumerate([("1%", "0 pt"), ("0.001%", "5 pt"), ("50%", "0 pt")]):
        name = f"hard-{number}"
        result = bench.run(fake(), bench.spec(name=name, budget__flops=budget, max_drop=drop))
        assert not result.choice.feasible and result.choice.relaxations
        assert bench.emitted[-1] == result.choice.point


def test_many_recorded_trials_do_not_slow_the_next_down(bench: Any, fake: Any) -> None:
    """The points are read once a proposal, not once for each trial."""
    reads: list[int] = []
    points = bench.store.points

    def counted(*arguments: Any, **named: Any) -> Any:
        reads.append(1)
        return points(*arguments, **named)

    bench.store.points = counted
    bench.run(fake(), bench.spec(search__trials=12))
    assert len(reads) < 4 * 12
