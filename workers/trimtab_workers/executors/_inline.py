"""Runs jobs in this process, one after the other."""

from __future__ import annotations

import os
from collections import deque

from trimtab_workers.executors._base import (
    Executor,
    ExecutorError,
    Failure,
    Job,
    Outcome,
    Progress,
    WorkerContext,
)
from trimtab_workers.executors._guard import run_guarded


class InlineExecutor(Executor):
    """One slot, no other process: for debugging, small studies and tests.

    `wait` runs the next queued job to its end, so it can block for longer than asked. A time limit
    cannot be enforced and a running job cannot be cancelled, because nobody is there to stop it; a
    job that crashes takes this process along. Ctrl-C comes out of `wait`, and the job it hit has
    no outcome.

    Args:
        device: Handed to the jobs as it is.
    """

    slots = 1

    def __init__(self, *, device: str = "auto") -> None:
        self._queue: deque[tuple[int, Job]] = deque()
        self._cancelled: list[Outcome] = []
        self._tickets = 0
        self._running: int | None = None
        self._progress: Progress | None = None
        self._context = WorkerContext(device=device, report=self._report)
        self._closed = False

    def submit(self, job: Job, *, timeout_s: float | None = None) -> int:
        """Queues a job; `timeout_s` is taken but cannot be enforced in here."""
        self._check_open()
        self._tickets += 1
        self._queue.append((self._tickets, job))
        return self._tickets

    def wait(self, timeout_s: float) -> list[Outcome]:
        """Runs the next job, unless there are cancelled ones to tell of first."""
        self._check_open()
        if self._cancelled or not self._queue:
            outcomes, self._cancelled = self._cancelled, []
            return outcomes
        ticket, job = self._queue.popleft()
        self._running = ticket
        try:
            return [run_guarded(ticket, job, self._context)]
        finally:
            self._running = self._progress = None

    def progress(self) -> dict[int, Progress]:
        """Gives the running job's latest report; call it from another thread."""
        ticket, progress = self._running, self._progress
        return {} if ticket is None or progress is None else {ticket: progress}

    def cancel(self, ticket: int) -> None:
        """Takes a waiting job out of the queue."""
        kept = deque(entry for entry in self._queue if entry[0] != ticket)
        if len(kept) < len(self._queue):
            failure = Failure("cancelled", "cancelled before it started")
            self._cancelled.append(Outcome(ticket, failure=failure))
        self._queue = kept

    def worker_pids(self) -> list[int]:
        """Lists this process, as long as the executor is open."""
        return [] if self._closed else [os.getpid()]

    def close(self) -> None:
        """Forgets the queue and the cache."""
        self._closed = True
        self._queue.clear()
        self._context.cache.clear()

    def _report(self, stage: str, done: int, total: int) -> None:
        self._progress = Progress(stage, done, total)

    def _check_open(self) -> None:
        if self._closed:
            raise ExecutorError("the executor is closed; make a new one to run more jobs")
