from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest

from trimtab.controller._runner import MAX_ATTEMPTS, JobRunner
from trimtab.errors import InputError, JobError
from trimtab_storage import ArtifactError, DiskFullError
from trimtab_workers.executors import Failure, Outcome


@dataclass(frozen=True)
class Job:
    name: str = "one"

    def run(self, context: Any) -> str:
        raise AssertionError("the script answers")


CRASH = Failure("crashed", "the worker died")


def test_value_comes_back(fake: Any) -> None:
    executor = fake(lambda job, nth: 42)
    assert JobRunner(executor, lambda: None).run(Job(), "thinking") == 42


@pytest.mark.parametrize("crashes", [1, MAX_ATTEMPTS - 1])
def test_crashed_job_is_tried_again(fake: Any, crashes: int) -> None:
    executor = fake(lambda job, nth: CRASH if nth < crashes else "done")
    assert JobRunner(executor, lambda: None).run(Job(), "thinking") == "done"
    assert len(executor.sent) == crashes + 1


def test_job_that_may_have_been_killed_for_another_is_tried_again(fake: Any) -> None:
    doubtful = Failure("oom_host", "the machine ran out of memory", is_in_doubt=True)
    executor = fake(lambda job, nth: doubtful if nth < 1 else "done")
    assert JobRunner(executor, lambda: None).run(Job(), "thinking") == "done"


def test_job_that_crashes_every_time_is_given_up(fake: Any) -> None:
    executor = fake(lambda job, nth: CRASH)
    with pytest.raises(JobError, match=r"thinking failed \(crashed\): the worker died"):
        JobRunner(executor, lambda: None).run(Job(), "thinking")
    assert len(executor.sent) == MAX_ATTEMPTS == 3


def test_fault_in_the_users_files_is_said_in_its_own_words(fake: Any) -> None:
    executor = fake(lambda job, nth: Failure("input", "dev.tsv: no column 'text'", "traceback"))
    with pytest.raises(InputError) as caught:
        JobRunner(executor, lambda: None).run(Job(), "reading")
    assert str(caught.value) == "dev.tsv: no column 'text'"
    assert caught.value.exit_code == 2 and len(executor.sent) == 1


@pytest.mark.parametrize("reason", ["error", "timeout", "oom_host", "oom_device", "cancelled"])
def test_other_failures_are_not_tried_again(fake: Any, reason: Any) -> None:
    executor = fake(lambda job, nth: Failure(reason, "it is bad", "the traceback"))
    with pytest.raises(JobError, match=f"{reason}.*it is bad\nthe traceback"):
        JobRunner(executor, lambda: None).run(Job(), "thinking")
    assert len(executor.sent) == 1


@pytest.mark.parametrize(
    ("message", "said"),
    [
        ("DiskFullError: nothing written, because the disk is full: make room", "nothing written"),
        ("OSError: [Errno 28] No space left on device", r"the disk is full \(OSError: \[Errno 28"),
    ],
)
def test_a_full_disk_is_said_and_the_same_command_goes_on(
    fake: Any, message: str, said: str
) -> None:
    executor = fake(lambda job, nth: Failure("disk_full", message))
    with pytest.raises(DiskFullError, match=f"^{said}.*make room; the same command goes on$"):
        JobRunner(executor, lambda: None).run(Job(), "thinking")


def test_a_place_that_does_not_answer_ends_the_run_and_is_named(fake: Any) -> None:
    failure = Failure("storage", "PlaceError: s3://bucket: could not connect")
    with pytest.raises(ArtifactError, match="^s3://bucket: could not connect; the same command"):
        JobRunner(fake(lambda job, nth: failure), lambda: None).run(Job(), "thinking")


def test_tick_is_called_while_waiting_and_ends_the_wait(fake: Any, hang: object) -> None:
    ticks: list[int] = []

    def tick() -> None:
        ticks.append(1)
        if len(ticks) == 3:
            raise RuntimeError("enough")

    runner = JobRunner(fake(lambda job, nth: hang), tick)
    with pytest.raises(RuntimeError, match="enough"):
        runner.run(Job(), "thinking")
    assert len(ticks) == 3
    assert runner.running() == []


def test_outcomes_of_other_jobs_are_not_taken_for_ours(fake: Any) -> None:
    executor = fake(lambda job, nth: job.name)
    runner = JobRunner(executor, lambda: None)
    runner.submit(Job("other"), "before")
    assert runner.run(Job("mine"), "now") == "mine"


def test_running_jobs_are_listed_by_label(fake: Any, hang: object) -> None:
    executor = fake(lambda job, nth: hang)
    runner = JobRunner(executor, lambda: None)
    first = runner.submit(Job("a"), "trial 1: statistics", timeout_s=7.0)
    runner.submit(Job("b"), "trial 2: statistics")
    assert [job.label for job in runner.running()] == [
        "trial 1: statistics",
        "trial 2: statistics",
    ]
    runner.forget(first)
    runner.forget(first)
    assert [(job.label, job.progress) for job in runner.running()] == [
        ("trial 2: statistics", None)
    ]
    assert executor.timeouts == [7.0, None]
    assert executor.wait(0.01) == [] and Outcome(1) not in executor.wait(0.01)
