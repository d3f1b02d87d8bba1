"""Single jobs, run to their end: what lost its worker is tried again, anything else is said."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

from trimtab.controller._report import RunningJob
from trimtab.errors import InputError, JobError
from trimtab_storage import ArtifactError, DiskFullError
from trimtab_workers.executors import Executor, Failure, Job, Progress

MAX_ATTEMPTS = 3
MOST_LACKS = 3
POLL_S = 0.5


def check_lacks(lack: DiskFullError, n_lacks: int) -> None:
    """Lets a job be sent out again so often, as it may be another disk that is full than is seen.

    Raises:
        DiskFullError: it had no room again and again, though there seemed to be some.
    """
    if n_lacks > MOST_LACKS:
        _give_up(lack)


def lack_of_room(failure: Failure) -> DiskFullError | None:
    """Gives what is to be said where a job's files had no room; no job is to blame for that.

    Raises:
        ArtifactError: their place could not be read or written, so the next one's could not either.
    """
    if failure.reason == "storage":
        said = failure.message.partition(": ")[2] or failure.message
        raise ArtifactError(f"{said}; the same command goes on")
    if failure.reason != "disk_full":
        return None
    said = failure.message.removeprefix("DiskFullError: ")
    return DiskFullError(
        said if "the disk is full" in said else f"the disk is full ({said}): make room"
    )


def _give_up(error: DiskFullError) -> None:
    raise DiskFullError(f"{error}; the same command goes on")


class JobRunner:
    """Keeps the labels of what runs on an executor, and waits for single jobs.

    ``tick`` is called at least twice a second while a job is awaited; what it raises ends the
    wait. ``held_up`` is told the seconds that an awaited job waited for other runs. ``await_room``
    returns when there may be room for a job that had none; by default it raises.
    """

    def __init__(
        self,
        executor: Executor,
        tick: Callable[[], None],
        held_up: Callable[[float], None] = lambda seconds: None,
        await_room: Callable[[DiskFullError], None] = _give_up,
    ) -> None:
        self.executor = executor
        self._tick, self._held_up, self._await_room = tick, held_up, await_room
        self._labels: dict[int, str] = {}
        self._begun: dict[int, tuple[str, int, float]] = {}

    def submit(self, job: Job, label: str, *, timeout_s: float | None = None) -> int:
        """Queues a job under a label that people understand."""
        ticket = self.executor.submit(job, timeout_s=timeout_s)
        self._labels[ticket] = label
        return ticket

    def forget(self, ticket: int) -> None:
        """Takes a finished job off the list of running ones."""
        self._labels.pop(ticket, None)
        self._begun.pop(ticket, None)

    def running(self) -> Sequence[RunningJob]:
        """Lists what runs now; any thread may ask."""
        progress = self.executor.progress()
        labels = sorted(self._labels.copy().items())
        return [
            RunningJob(label, progress.get(ticket), self._remaining_s(ticket, progress.get(ticket)))
            for ticket, label in labels
        ]

    def _remaining_s(self, ticket: int, now: Progress | None) -> float | None:
        """Carries the pace since this stage was first seen on to its end."""
        if now is None:
            return None
        stage, done, since_s = self._begun.get(ticket, ("", 0, 0.0))
        if stage != now.stage or now.done < done:
            self._begun[ticket] = (now.stage, now.done, time.monotonic())
            return None
        if now.done == done:
            return None
        return (time.monotonic() - since_s) / (now.done - done) * (now.total - now.done)

    def run(self, job: Job, label: str) -> Any:
        """Runs one job to its end and gives its value.

        Raises:
            InputError: with the job's own words, if the user's data or model is to blame.
            JobError: if it failed otherwise, or its worker crashed again and again.
        """
        attempts = lacks = 0
        while True:
            value, failure = self._run_once(job, label)
            if failure is None:
                return value
            # Whoever wants to stop may have hit the job; then that is what is said.
            self._tick()
            if lack := lack_of_room(failure):
                lacks += 1
                check_lacks(lack, lacks)
                self._await_room(lack)
                continue
            attempts += 1
            if not failure.is_worth_another_try or attempts == MAX_ATTEMPTS:
                break
        if failure.reason == "input":
            raise InputError(failure.message)
        raise JobError(f"{label} failed ({failure.reason}): {failure.message}\n{failure.detail}")

    def _run_once(self, job: Job, label: str) -> tuple[Any, Failure | None]:
        ticket = self.submit(job, label)
        try:
            while True:
                self._tick()  # first, because an inline executor works inside `wait`
                for outcome in self.executor.wait(POLL_S):
                    if outcome.ticket == ticket:
                        self._held_up(outcome.held_up_s)
                        return outcome.value, outcome.failure
        finally:
            self.forget(ticket)
