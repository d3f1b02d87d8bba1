"""Recipes that are looked at with few rows, with workers that are played by a script."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from trimtab.controller._history import is_only_looked_at, looks_of
from trimtab.errors import InterruptedStudyError
from trimtab_workers.executors import Failure
from trimtab_workers.jobs import LadderJob, MeasureJob

PENALTY = 0.04
"""By how much worse a model is that learned from few rows."""


@pytest.fixture
def play(value_of: Any) -> Any:
    """Plays workers whose models are the better, the nearer their learning rate is to a best."""

    def script(job: Any, nth: int) -> Any:
        if not isinstance(job, LadderJob) or job.strategy != "acc":
            return None
        (result,) = value_of(job)
        rate = float(dict(job.choices)["lr"])
        metric = 0.9 - 2000 * abs(rate - 5e-5) - (PENALTY if job.look else 0.0)
        measured = replace(result.measurement, metric=metric, flops=0.4e6)
        return [replace(result, measurement=measured)]

    return script


def spec_of(bench: Any, **changes: Any) -> Any:
    pins = {"epochs": 1}
    search = {"search__strategies": [{"acc": pins}], "search__trials": 10}
    return bench.spec(**{**search, "search__looks": ["25%"], **changes})


def jobs(executor: Any, *, looks: bool) -> list[LadderJob]:
    return [j for j in executor.sent if isinstance(j, LadderJob) and (j.look is not None) == looks]


def test_the_best_third_of_what_was_looked_at_gets_all_rows(
    bench: Any, fake: Any, play: Any
) -> None:
    executor = fake(play)
    result = bench.run(executor, spec_of(bench))
    looked, whole = jobs(executor, looks=True), jobs(executor, looks=False)
    trials = bench.trials()
    assert bench.states() == ["complete"] * 10
    assert {job.look.share for job in looked} == {0.25}
    exempt = len(trials) - len(looked)
    assert 0 < exempt < 5, "recommended recipes get all rows at once"
    assert len(whole) == exempt + len(looked) // 3
    for trial in trials:
        words = "so far looked at with 25% of the training rows only"
        assert trial.reason == (words if is_only_looked_at(trial) else None)
    went_on = [t for t in trials if looks_of(t) and not is_only_looked_at(t)]
    set_aside = [t for t in trials if is_only_looked_at(t)]
    assert len(went_on) == len(looked) // 3

    def far(trial: Any) -> float:
        return abs(float(trial.recipe[0]["choices"]["lr"]) - 5e-5)

    assert min(map(far, went_on)) <= min(map(far, set_aside))
    points = bench.store.points(bench.study().id)
    owners = {point.trial_id for point in points}
    assert owners.isdisjoint(trial.id for trial in set_aside), "a look is no point"
    assert owners.issuperset(trial.id for trial in went_on)
    assert all(point.n == 100 for point in points)
    assert not [row for row in bench.store.kept_artifacts() if "look" in row.meta]
    assert any("look" in row.meta for row in bench.store.artifacts())
    assert result.choice.feasible and bench.problems() == []


def test_a_look_is_judged_against_the_dense_model_on_the_same_rows(
    bench: Any, fake: Any, play: Any, make_survey: Any, value_of: Any
) -> None:
    def script(job: Any, nth: int) -> Any:
        if isinstance(job, MeasureJob):
            return replace(value_of(job), metric=0.8, n=job.n_rows)
        return play(job, nth)

    executor = fake(script)
    bench.run(executor, spec_of(bench))
    (measured,) = [job for job in executor.sent if isinstance(job, MeasureJob)]
    assert measured.n_rows == 100
    for trial in bench.trials():
        for seen in looks_of(trial):
            rate = float(trial.recipe[0]["choices"]["lr"])
            expected = 0.8 - (0.9 - 2000 * abs(rate - 5e-5) - PENALTY)
            assert [s.drop for s in seen.settings] == pytest.approx([expected])


def test_without_looks_all_rows_are_used_at_once(bench: Any, fake: Any, play: Any) -> None:
    executor = fake(play)
    bench.run(executor, spec_of(bench, search__looks=[]))
    assert jobs(executor, looks=True) == [] and len(jobs(executor, looks=False)) == 10


def test_what_does_not_train_is_not_looked_at(bench: Any, fake: Any) -> None:
    executor = fake()
    bench.run(executor, bench.spec(search__looks=["25%"], search__trials=8))
    assert jobs(executor, looks=True) == []


def test_several_looks_narrow_down_step_by_step(bench: Any, fake: Any, play: Any) -> None:
    executor = fake(play)
    bench.run(executor, spec_of(bench, search__looks=["10%", "30%"], search__trials=22))
    shares = [job.look.share for job in jobs(executor, looks=True)]
    first, second = shares.count(0.1), shares.count(0.3)
    assert second == first // 3
    thrice = [trial for trial in bench.trials() if len(looks_of(trial)) == 2]
    assert len(thrice) == second
    assert sum(not is_only_looked_at(trial) for trial in thrice) == max(1, second // 3)
    assert bench.problems() == []


@pytest.mark.parametrize("slots", [1, 3])
def test_an_interrupted_search_goes_on_as_if_it_had_not_been(
    bench: Any, make_bench: Any, fake: Any, play: Any, slots: int
) -> None:
    other = make_bench("other")
    other.run(fake(play, slots=slots), spec_of(other, search__trials=12))
    n_stops = 0
    for n_jobs in range(2, 40, 3):
        executor = fake(play, slots=slots)
        try:
            bench.run(
                executor,
                spec_of(bench, search__trials=12),
                stop=lambda sent=executor.sent, n=n_jobs: len(sent) > n,
            )
            break
        except InterruptedStudyError:
            n_stops += 1
    assert n_stops >= 2
    assert bench.states() == ["complete"] * 12 and bench.problems() == []
    n_whole = [sum(not is_only_looked_at(t) for t in each.trials()) for each in (bench, other)]
    if slots == 1:
        assert bench.recipes() == other.recipes()
        assert n_whole[0] == n_whole[1]


def test_what_fails_with_all_rows_keeps_its_look(bench: Any, fake: Any, play: Any) -> None:
    def script(job: Any, nth: int) -> Any:
        if isinstance(job, LadderJob) and job.look is None and len(looked) >= 3:
            return Failure("error", "no room")
        if isinstance(job, LadderJob) and job.look is not None:
            looked.append(job)
        return play(job, nth)

    looked: list[Any] = []
    executor = fake(script)
    bench.run(executor, spec_of(bench))
    assert bench.states() == ["complete"] * 10
    tried = jobs(executor, looks=False)
    assert len(tried) == len({job.rungs for job in tried}), "none is tried for ever"
    failed = [t for t in bench.trials() if (t.reason or "").startswith("failed with all")]
    assert failed and all("error: no room" in trial.reason for trial in failed)
    assert any("--replay" in note and "failed with all" in note for note in bench.reporter.notes)
    assert bench.problems() == []
    again = fake(script)
    bench.run(again, spec_of(bench))
    assert jobs(again, looks=False) == [], "nor by the next run"


def test_looks_may_change_while_a_study_goes_on(bench: Any, fake: Any, play: Any) -> None:
    bench.run(fake(play), spec_of(bench))
    executor = fake(play)
    bench.run(executor, spec_of(bench, search__looks=["50%"], search__trials=14))
    looks = jobs(executor, looks=True)
    assert {job.look.share for job in looks} == {0.5}
    twice = [trial for trial in bench.trials() if len(looks_of(trial)) == 2]
    assert bench.states() == ["complete"] * 14 and bench.problems() == []
    before = len(bench.trials()) - len(twice)
    bench.run(fake(play), spec_of(bench, search__looks=None, search__trials=16))
    assert before and bench.states() == ["complete"] * 16


def test_what_was_looked_at_goes_on_where_nothing_is_looked_at_any_more(
    bench: Any, fake: Any, play: Any
) -> None:
    stop_at: list[int] = [8]
    executor = fake(play)
    with pytest.raises(InterruptedStudyError):
        bench.run(executor, spec_of(bench), stop=lambda: len(executor.sent) > stop_at[0])
    seen = [trial for trial in bench.trials() if is_only_looked_at(trial)]
    assert seen
    bench.run(fake(play), spec_of(bench, search__looks=[]))
    went_on = [t for t in bench.trials() if looks_of(t) and not is_only_looked_at(t)]
    assert went_on and bench.states() == ["complete"] * 10 and bench.problems() == []


def test_a_trial_ends_when_its_last_rows_were_used(bench: Any, fake: Any, play: Any) -> None:
    bench.run(fake(play), spec_of(bench))
    trials = bench.trials()
    last = max(trials, key=lambda trial: trial.finished_at or "")
    assert looks_of(last) and not is_only_looked_at(last), "who goes on last ends last"


def test_another_budget_ranks_the_same_looks_anew(bench: Any, fake: Any, play: Any) -> None:
    bench.run(fake(play), spec_of(bench))
    executor = fake(play)
    bench.run(executor, spec_of(bench, budget={"flops": "45%"}))
    assert jobs(executor, looks=True) == [], "nothing is looked at twice"
    assert bench.problems() == []
