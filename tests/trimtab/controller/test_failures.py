"""Steps that are known to fail: what counts against them, and that the next run knows it too."""

from __future__ import annotations

import random
from contextlib import suppress
from functools import partial
from typing import Any

import pytest

from trimtab.controller._failures import LIMITED, MOST_FAILURES, Failures
from trimtab.controller._runner import MAX_ATTEMPTS
from trimtab.errors import InterruptedStudyError
from trimtab_storage import EventRow
from trimtab_workers.executors import Failure
from trimtab_workers.jobs import LadderJob

ERROR, CRASH = Failure("error", "ValueError: no", "Traceback"), Failure("crashed", "it died", "log")
CHAINS: dict[str, Any] = {
    "search__strategies": [
        {"acc": {"epochs": 0, "calibration": 256}},
        {"early_exit": {"objective": "labels", "rows": 1024, "epochs": 5}},
    ],
    "search__trials": 12,
    "budget": {"flops": "90%"},
}


def known_after(*told: tuple[int, int, Failure]) -> tuple[int, Failure] | None:
    failures = Failures()
    for trial, attempt, failure in told:
        failures.note({"step", "other"}, trial, attempt, failure)
    return failures.known({"step", "unheard of"})


def crashes(trial: int, n: int = MAX_ATTEMPTS) -> list[tuple[int, int, Failure]]:
    return [(trial, attempt, CRASH) for attempt in range(1, n + 1)]


def test_two_trials_that_fail_make_a_step_known() -> None:
    assert known_after((3, 1, ERROR)) is None
    assert known_after((3, 1, ERROR), (5, 1, ERROR)) == (5, ERROR)


def test_one_trial_counts_once_however_often_it_is_told() -> None:
    """As when a controller is killed between the event and the end of the trial."""
    assert known_after((3, 1, ERROR), (3, 1, ERROR), (3, 2, ERROR)) is None


def test_a_dead_worker_counts_when_a_trial_has_used_up_its_attempts() -> None:
    assert known_after(*crashes(1), *crashes(2)) == (2, CRASH)
    assert known_after(*crashes(1), (2, 1, ERROR)) == (2, ERROR)
    assert known_after(*crashes(1), *crashes(2, MAX_ATTEMPTS - 1)) is None
    twice_told = (crashes(2, 1) * 2, crashes(2, MAX_ATTEMPTS - 1))
    assert known_after(*crashes(1), *(told for part in twice_told for told in part)) is None


def test_what_the_caller_stopped_never_counts() -> None:
    stopped = Failure("cancelled", "cancelled")
    assert known_after(*((trial, 1, stopped) for trial in range(9))) is None


def test_events_of_earlier_versions_tell_of_no_steps() -> None:
    data = {"trial": 1, "attempt": 1, "reason": "error: no", "detail": ""}
    events = [EventRow(n, 1, "trial-failed", {**data, "trial": n}, "2026") for n in range(4)]
    assert Failures(events).known({"step"}) is None
    told = [EventRow(e.id, 1, e.kind, {**e.data, "steps": ["step"]}, "2026") for e in events]
    assert Failures(told).known({"step"}) == (3, Failure("error", "no"))


def test_a_lack_of_memory_in_doubt_counts_as_a_dead_worker_does() -> None:
    doubt = Failure("oom_host", "no memory", "", is_in_doubt=True)
    attempts = [(trial, n, doubt) for trial in (1, 2) for n in range(1, MAX_ATTEMPTS + 1)]
    assert known_after(*attempts) == (2, doubt)
    assert known_after(*attempts[:-1]) is None


@pytest.mark.parametrize("reason", ["timeout", "oom_host", "error"])
def test_what_more_time_or_memory_may_mend_counts_only_with_the_same_limits(reason: Any) -> None:
    few, more = {"trial_timeout": "1 min"}, {"trial_timeout": "2 min"}
    data = {"attempt": 1, "reason": f"{reason}: no", "detail": "", "steps": ["step"]}
    if reason in LIMITED:
        data["limits"] = few
    events = [EventRow(n, 1, "trial-failed", {**data, "trial": n}, "2026") for n in range(2)]
    assert Failures(events, few).known({"step"}) == (1, Failure(reason, "no"))
    assert (Failures(events, more).known({"step"}) is None) == (reason in LIMITED)


# In searches


@pytest.fixture
def without_favourites(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leaves all to the estimator; else what failed is seldom proposed again."""
    monkeypatch.setattr("trimtab.controller._favourites.FREE", 1.0)
    monkeypatch.setattr("trimtab.controller._neighbours.OFTEN", 0.0)


@pytest.mark.parametrize("minutes", [10, 20])
def test_who_raises_the_limit_has_what_ran_into_it_tried_again(
    bench: Any, fake: Any, without_favourites: None, minutes: int
) -> None:
    def too_slow(job: Any, nth: int) -> Any:
        slow = isinstance(job, LadderJob) and of_acc(job)
        return Failure("timeout", "the job ran for longer than 600 s") if slow else None

    bench.run(fake(too_slow), bench.spec(**CHAINS, workers__trial_timeout="10 min"))
    more = {**CHAINS, "search__trials": 24, "workers__trial_timeout": f"{minutes} min"}
    again = fake()
    bench.run(again, bench.spec(**more))
    assert any(of_acc(job) for job in again.sent if isinstance(job, LadderJob)) == (minutes > 10)


def test_who_is_given_up_for_a_lack_of_memory_in_doubt_is_not_tried_again(
    bench: Any, fake: Any, without_favourites: None
) -> None:
    doubt = Failure("oom_host", "the machine ran out of memory", "", is_in_doubt=True)
    executor = fake(
        lambda job, nth: doubt if isinstance(job, LadderJob) and of_acc(job) else None, slots=4
    )
    bench.run(executor, bench.spec(**CHAINS))
    failed = [trial for trial in bench.trials() if trial.state == "failed"]
    given_up = [trial for trial in failed if "a step that it shares" in str(trial.reason)]
    tried = sum(of_acc(job) for job in executor.sent if isinstance(job, LadderJob))
    assert given_up and sum(trial.attempts for trial in failed) == tried + len(given_up)
    assert bench.problems() == []


def of_acc(job: Any) -> bool:
    return isinstance(job, LadderJob) and job.strategy == "acc"


def has_sent(executor: Any, most: int) -> bool:
    return len(executor.sent) > most


@pytest.mark.parametrize("failure", [ERROR, CRASH], ids=["error", "crash"])
def test_a_run_that_goes_on_avoids_the_same_steps(
    bench: Any, make_bench: Any, fake: Any, failure: Failure
) -> None:
    """The same recipes as without interruptions, though the first run saw the failures."""
    seed = random.randrange(10**6)
    print(f"seed {seed}")
    rng = random.Random(seed)

    def script(job: Any, nth: int) -> Any:
        return failure if of_acc(job) else None

    whole = make_bench("whole")
    whole.run(fake(script), whole.spec(**CHAINS))
    assert "failed" in whole.states() and "complete" in whole.states()
    sent = 0
    for _ in range(5):
        executor = fake(script)
        with suppress(InterruptedStudyError):
            bench.run(
                executor, bench.spec(**CHAINS), partial(has_sent, executor, rng.randint(1, 6))
            )
        sent += sum(map(of_acc, executor.sent))
    bench.run(fake(script), bench.spec(**CHAINS))
    assert bench.recipes() == whole.recipes() and bench.states() == whole.states()
    assert bench.problems() == []


def test_a_finished_search_that_gets_more_trials_avoids_them_too(bench: Any, fake: Any) -> None:
    def script(job: Any, nth: int) -> Any:
        return ERROR if of_acc(job) else None

    bench.run(fake(script), bench.spec(**CHAINS))
    again = fake(script)
    bench.run(again, bench.spec(**CHAINS | {"search__trials": 16}))
    assert again.count(LadderJob) == 4 and not any(map(of_acc, again.sent))


@pytest.mark.parametrize("slots", [1, 3])
def test_a_step_whose_workers_always_die_costs_no_more_than_two_trials(
    bench: Any, fake: Any, slots: int
) -> None:
    """And an attempt or two of those that were under way by then, which then give up."""
    executor = fake(lambda job, nth: CRASH if of_acc(job) else None, slots=slots)
    bench.run(executor, bench.spec(**CHAINS))
    n_others = slots - 1
    n_lost = sum(map(of_acc, executor.sent)) - MOST_FAILURES * MAX_ATTEMPTS
    assert 0 <= n_lost <= n_others * (MAX_ATTEMPTS - 1)
    failed = [trial for trial in bench.trials() if trial.state == "failed"]
    shared = [trial for trial in failed if "a step that it shares" in str(trial.reason)]
    assert len(failed) - len(shared) == MOST_FAILURES
    assert all("it died" in str(trial.reason) for trial in failed)
    assert bench.states().count("complete") == len(bench.states()) - len(failed) > 0
    assert bench.problems() == []
