"""Steps that recipes share: made once, kept for the next, and not tried again when broken."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from trimtab.controller import _underway
from trimtab.controller._failures import MOST_FAILURES
from trimtab_workers.executors import Failure
from trimtab_workers.jobs import LadderJob, MeasureJob, StatisticsJob

CHAINS: dict[str, Any] = {
    "search__strategies": [
        {"acc": {"epochs": 0, "calibration": 256}},
        {"early_exit": {"objective": "labels", "rows": 1024}},
    ],
    "search__trials": 6,
    "budget": {"flops": "90%"},
}
"""Anchors: acc, early_exit, acc+early_exit; there is one model of ACC for all of them."""


def made_by(executor: Any, strategy: str) -> list[Any]:
    """The jobs of one strategy that were sent, each named by what it was to make."""
    sent = [job for job in executor.sent if isinstance(job, LadderJob) and job.strategy == strategy]
    return [job.rungs for job in sent]


@pytest.mark.parametrize("slots", [1, 2, 4])
def test_no_model_is_made_twice_whoever_wants_it(bench: Any, fake: Any, slots: int) -> None:
    executor = fake(slots=slots)
    bench.run(executor, bench.spec(**CHAINS))
    assert bench.states() == ["complete"] * 6
    for strategy in ("acc", "early_exit"):
        made = made_by(executor, strategy)
        assert len(set(made)) == len(made)
    assert bench.problems() == []


def test_who_wants_a_model_that_another_makes_waits_without_a_slot(bench: Any, fake: Any) -> None:
    """ACC alone and ACC below exits start together; exits, which need nothing, come between."""
    executor = fake(slots=3)
    bench.run(executor, bench.spec(**CHAINS | {"search__trials": 3}))
    order = [job.strategy for job in executor.sent if isinstance(job, LadderJob)]
    assert order == ["early_exit", "acc", "early_exit"]


def test_what_was_measured_on_the_way_is_a_point(bench: Any, fake: Any) -> None:
    spec = bench.spec(
        search__strategies=[{"fisher": {"calibration": 256}}, "early_exit"], search__trials=3
    )
    bench.run(fake(), spec)
    chain = next(trial for trial in bench.trials() if len(trial.recipe) == 2)
    own = [point for point in bench.store.points(bench.study().id) if point.recipe]
    prefix = [p for p in own if p.recipe == [chain.recipe[0]]]
    assert prefix and all(len(point.recipe) in (1, 2) for point in own)
    assert chain.shared_points or any(p.trial_id == chain.id for p in prefix)


def test_a_model_that_is_just_like_its_parent_has_a_point(
    bench: Any, fake: Any, value_of: Any
) -> None:
    """Else a trial of nothing but such models would have no result, which ends the whole run."""

    def script(job: Any, nth: int) -> Any:
        if not isinstance(job, LadderJob):
            return None
        dense = value_of(MeasureJob(job.place, "any", "search"))
        return [replace(result, measurement=dense) for result in value_of(job)]

    bench.run(fake(script), bench.spec(**CHAINS | {"search__trials": 2}))
    assert bench.states() == ["complete"] * 2
    assert len([point for point in bench.store.points(bench.study().id) if point.recipe]) == 2


def test_prefixes_keep_their_weights_up_to_a_number(
    bench: Any, fake: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With none kept the same model is made again and again; with a few it is made once."""
    exits = {"early_exit": {"rows": 1024}}
    chains = bench.spec(
        search__strategies=[{"acc": {"epochs": 0}}, exits], search__trials=8, name="kept"
    )
    executor = fake()
    bench.run(executor, chains)
    kept = made_by(executor, "acc")
    assert len(kept) == len(set(kept))
    on_disk = {row.key for row in bench.store.artifacts() if row.kind == "model" and row.path}
    frontier = bench.store.frontier(bench.study("kept").id)
    wanted = {point.artifact_key for point in frontier}
    assert len(on_disk - wanted) <= _underway.MOST_PREFIXES + len(wanted)


@pytest.mark.parametrize("reason", ["error", "oom_host", "timeout"])
def test_a_step_that_failed_twice_costs_no_more_trials(bench: Any, fake: Any, reason: Any) -> None:
    """Recipes with it are passed over, so that the others get the trials that are left."""
    failure = Failure(reason, "no", "Traceback …")
    executor = fake(
        lambda job, nth: failure if isinstance(job, LadderJob) and job.strategy == "acc" else None
    )
    bench.run(executor, bench.spec(**CHAINS | {"search__trials": 8}))
    assert len(made_by(executor, "acc")) == MOST_FAILURES
    assert sorted(bench.states()) == ["complete"] * 6 + ["failed"] * 2
    assert bench.problems() == []


def test_those_who_wait_for_a_step_that_is_broken_fail_with_its_reason(
    bench: Any, fake: Any
) -> None:
    error = Failure("error", "ValueError: no", "Traceback …")
    executor = fake(
        lambda job, nth: error if isinstance(job, LadderJob) and job.strategy == "acc" else None,
        slots=4,
    )
    bench.run(executor, bench.spec(**CHAINS))
    failed = [str(trial.reason) for trial in bench.trials() if trial.state == "failed"]
    assert len(made_by(executor, "acc")) == MOST_FAILURES
    assert len(failed) >= 2 and all("ValueError: no" in reason for reason in failed)


def test_who_waits_for_what_is_given_up_goes_on(bench: Any, fake: Any) -> None:
    """Another study takes a prefix away while one makes statistics on it and one waits for them."""
    lost: list[str] = []

    def script(job: Any, nth: int) -> Any:
        dense = (bench.study().baseline or {}).get("artifact")
        of_acc = isinstance(job, StatisticsJob) and job.strategy == "acc"
        if of_acc and job.parent_key != dense and not lost:
            lost.append(job.parent_key)
            bench.store.drop_files(job.place.files, job.parent_key)
            return Failure("error", "FileNotFoundError: gone")
        again = lost and isinstance(job, LadderJob) and job.strategy == "fisher"
        return Failure("timeout", "too slow") if again and len(job.rungs) == 1 else None

    strategies = [{"fisher": {"calibration": 256}}, {"acc": {"calibration": 256}}]
    spec = bench.spec(search__strategies=strategies, search__trials=9, search__time="60 s")
    bench.run(fake(script, slots=3), spec)
    assert lost, "the prefix was taken away"
    assert set(bench.states()) <= {"complete", "failed"} and len(bench.states()) == 9
    assert bench.problems() == []


@pytest.mark.parametrize("where", ["acc", "early_exit"])
def test_what_cannot_be_stored_fails_its_trial_alone(
    bench: Any, fake: Any, value_of: Any, where: str
) -> None:
    """A number that is none, in what is noted of a prefix or of a result."""

    def script(job: Any, nth: int) -> Any:
        if not isinstance(job, LadderJob) or job.strategy != where or nth:
            return None
        return [replace(result, notes={"loss": float("nan")}) for result in value_of(job)]

    bench.run(fake(script), bench.spec(**CHAINS | {"search__trials": 4}))
    assert set(bench.states()) == {"complete", "failed"} and len(bench.states()) == 4
    assert bench.problems() == []


def test_reuse_counts_no_work_of_the_same_trial(bench: Any, fake: Any) -> None:
    """A worker that dies between two steps does not make the first one somebody else's."""
    crash = Failure("crashed", "the worker died")
    executor = fake(lambda job, nth: crash if isinstance(job, LadderJob) and nth == 0 else None)
    spec = bench.spec(search__strategies=[{"fisher": {"calibration": 256}}], search__trials=1)
    bench.run(executor, spec)
    (trial,) = bench.trials()
    assert (trial.state, trial.attempts, trial.reused) == ("complete", 2, 0)


def test_a_crashed_step_is_no_verdict_on_it(bench: Any, fake: Any) -> None:
    crash = Failure("crashed", "the worker died")
    executor = fake(
        lambda job, nth: (
            crash if isinstance(job, LadderJob) and job.strategy == "acc" and nth < 2 else None
        )
    )
    bench.run(executor, bench.spec(**CHAINS | {"search__trials": 3}))
    assert bench.states() == ["complete"] * 3
