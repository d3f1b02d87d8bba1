"""Runs jobs in worker processes that Ray starts, here or on a cluster."""

from __future__ import annotations

import copy
import logging
import os
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from trimtab_workers.executors._base import (
    Executor,
    ExecutorError,
    ExecutorLostError,
    Failure,
    Job,
    Outcome,
    Progress,
)
from trimtab_workers.executors._cluster import Cluster
from trimtab_workers.executors._commons import Commons
from trimtab_workers.executors._quiet_ray import ray
from trimtab_workers.executors._seat import Entry, Seat, transport_failure
from trimtab_workers.executors._shared import mark_all

_log = logging.getLogger(__name__)

_TICK_S = 1.0  # how long `wait` sleeps at most before it looks after its workers
_START_PATIENCE_S = 60.0
_STILLBIRTHS = 3  # workers in a row that may die while they start
_SILENCE_S = 0.5  # between two looks at a cluster that does not answer
_ECHO_S = 10.0  # how long after a worker's end others may be killed for what it used
_LAST_WORD_S = 5.0  # how long the outcome of a dead worker's job may take to arrive


class RayExecutor(Executor):
    """A pool of worker processes, each with one job at a time.

    A worker that dies costs the job it ran and is replaced; so do those of a node of a cluster, on
    nodes that have room, now or when they join. Without `address` Ray is started here for this
    executor alone, with as many logical CPUs as the workers ask for; with one, the cluster there
    is joined, and trimtab must be installed on its nodes in the same version. A connection that
    the caller has already is used, and left open by `close`.

    When an embedded Ray loses its head process, running jobs are `crashed`, Ray is started again
    and the queue goes on. When a cluster's is back within 30 s and knows what it knew (Ray's
    fault tolerance of the head), nothing is lost. Else `wait` and every later call raise
    `ExecutorLostError`: all jobs that were out are lost with it, and no outcome blames them. Both
    need `wait` to be called: Ray ends a process that has been without a head for 60 s. Another
    number in RAY_gcs_rpc_server_reconnect_timeout_s changes this, and to its half the 30 s.

    Args:
        count: How many workers.
        gpus_each: GPUs that each takes, may be a fraction; the first it sees is `cuda:0`.
        cpus_each: CPUs that each takes.
        device: Handed to the jobs as it is.
        address: `auto`, `host:port`, `ray://host:port` or None.
        threads: Threads that each worker computes with. None gives each an equal share of this
            machine's cores, or on a cluster `cpus_each`.
        shared: Folders that every worker on a cluster must see as this machine does, where jobs
            leave files for each other. One that does not makes `wait` raise an `ExecutorError`
            that names its node. Without `address` nothing is looked at.

    Raises:
        ValueError: A number is out of range.
        ExecutorError: Ray cannot be started or reached, or has no GPU to give.
    """

    def __init__(
        self,
        count: int,
        *,
        gpus_each: float = 0.0,
        cpus_each: float = 1.0,
        device: str = "auto",
        address: str | None = None,
        threads: int | None = None,
        shared: Sequence[str | Path] = (),
    ) -> None:
        _check_numbers(count, gpus_each, cpus_each, threads)
        self._marks = () if address is None else mark_all(shared)
        self._address, self._device = address, device
        self._needs = {"num_cpus": cpus_each, "num_gpus": gpus_each}
        self._threads = threads or _share_of_threads(count, cpus_each, address)
        self._queue: deque[Entry] = deque()
        self._outcomes: list[Outcome] = []
        self._seats: list[Seat] = []
        self._commons = Commons()
        self._worked_s: dict[Seat, float] = {}
        self._tickets = self._stillbirths = 0
        self._warned = self._closed = self._lost = False
        self.slots = count
        self._connect()

    def submit(self, job: Job, *, timeout_s: float | None = None) -> int:
        """Queues a job; one that cannot be pickled fails as `error`."""
        self._check_usable()
        self._tickets += 1
        self._queue.append(Entry(self._tickets, job, timeout_s))
        self._dispatch()
        return self._tickets

    def wait(self, timeout_s: float) -> list[Outcome]:
        """Gives what has finished, and meanwhile looks after the workers."""
        end = time.monotonic() + timeout_s
        try:
            while not self._outcomes:
                self._check_usable()
                self._look_after()
                left = end - time.monotonic()
                if self._outcomes or left <= 0 or not self._is_busy():
                    break
                self._pause(min(left, self._until_deadline(), _TICK_S))
        except ConnectionError:  # from the Ray client; elsewhere silence is how we know
            self._mourn()
        if not self._outcomes:
            self._check_usable()
        outcomes, self._outcomes = self._outcomes, []
        return outcomes

    def progress(self) -> dict[int, Progress]:
        """Gives the latest reports, as of the last or the present `wait`."""
        reports = [seat.progress for seat in list(self._seats)]
        return dict(report for report in reports if report is not None)

    def cancel(self, ticket: int) -> None:
        """Takes a job out of the queue, or kills the worker that runs it."""
        waiting = [entry for entry in self._queue if entry.ticket == ticket]
        for entry in waiting:
            self._queue.remove(entry)
            self._fail(ticket, Failure("cancelled", "cancelled before it started"))
        for seat in list(self._seats):
            if seat.entry is not None and seat.entry.ticket == ticket:
                self._execute(seat, Failure("cancelled", "cancelled while it ran"))

    def worker_pids(self) -> list[int]:
        """Lists the workers that are up; on a cluster they are pids of their own machines."""
        return [seat.news.pid for seat in list(self._seats) if seat.news is not None]

    def close(self) -> None:
        """Kills the workers and, if it is ours, ends Ray."""
        if self._closed:
            return
        self._closed = True
        try:
            self._queue.clear()
            self._abandon()
        finally:
            self._commons.clear()
            self._cluster.close()

    def _connect(self) -> None:
        needs_cpus = self.slots * self._needs["num_cpus"]
        self._cluster = Cluster(self._address, needs_cpus)
        try:
            if self._cluster.embedded:
                self.slots = self._fitting()
            self._here = str(ray.get_runtime_context().get_node_id())
            self._hire()
        except BaseException:
            self._cluster.close()
            raise

    def _fitting(self) -> int:
        """Counts the workers for whom this machine has GPUs; an embedded Ray never gets more."""
        gpus_each = self._needs["num_gpus"]
        if not gpus_each:
            return self.slots
        n_gpus = self._cluster.n_gpus()
        fitting = min(self.slots, int(n_gpus / gpus_each + 1e-9))
        if not fitting:
            raise ExecutorError(
                f"each worker needs {gpus_each:g} GPUs, but this machine has {n_gpus:g}; "
                "set gpus_each: 0 to work without"
            )
        if fitting < self.slots:
            _log.warning("%s: going on with %d", self._shortage(), fitting)
        return fitting

    def _hire(self) -> None:
        """Brings the pool to its size."""
        while len(self._seats) < self.slots:
            self._seats.append(self._new_seat())

    def _new_seat(self) -> Seat:
        return Seat.open(self._needs, self._device, self._threads, self._marks)

    def _look_after(self) -> None:
        """Does everything that is due, without blocking."""
        if self._cluster.is_silent():
            if self._cluster.is_lost():
                self._mourn()
            return
        self._note_who_works()
        calls = self._open_calls()
        ready = set(ray.wait(calls, num_returns=len(calls), timeout=0)[0])
        # Results before deaths: a worker may finish its job and die after.
        for seat in [seat for seat in self._seats if seat.result in ready]:
            self._collect(seat)
        for seat in [seat for seat in self._seats if seat.watch in ready]:
            self._listen(seat)
        self._enforce_deadlines()
        self._hire()
        self._dispatch()
        self._check_births()

    def _pause(self, seconds: float) -> None:
        """Sleeps until something happens; calls to a cluster that is silent fail at once."""
        if self._cluster.is_silent():
            time.sleep(min(seconds, _SILENCE_S))
        else:
            ray.wait(self._open_calls(), timeout=seconds)

    def _collect(self, seat: Seat) -> None:
        """Takes in the outcome of the job that ran."""
        entry = seat.entry
        assert entry is not None
        try:
            # The copy can be written to, and frees Ray's own, which lies in shared memory.
            returned, made = ray.get(seat.result)
            outcome = copy.deepcopy(returned)
            if outcome.failure is not None:
                outcome = replace(outcome, failure=seat.located(outcome.failure))
            self._outcomes.append(outcome)
            self._commons.take_over(made)
        except (ray.exceptions.RayTaskError, ray.exceptions.RaySystemError) as error:
            self._fail(entry.ticket, transport_failure(error))
        except ray.exceptions.RayError as error:
            if not self._cluster.answers():
                return  # died with Ray itself, or so it seems
            self._fail(entry.ticket, self._obituary(seat, error))
            self._dismiss(seat)
        except Exception as error:  # whatever unpickling or copying the value raises
            self._fail(entry.ticket, transport_failure(error))
        seat.finish()

    def _listen(self, seat: Seat) -> None:
        """Takes in news of a worker, the last of which is its death."""
        if seat not in self._seats:
            return  # dismissed a moment ago
        try:
            seat.hear(ray.get(seat.watch), self._here)
            self._stillbirths = 0
            self._check_sight(seat)
        except ray.exceptions.RayError as error:
            if not self._cluster.answers():
                return  # died with Ray itself, or so it seems
            if seat.news is None:
                self._count_stillbirth(error)
            elif seat.entry is not None and ray.wait([seat.result], timeout=_LAST_WORD_S)[0]:
                self._collect(seat)
                if seat.entry is not None:
                    return  # Ray itself went meanwhile
            elif seat.entry is not None:
                self._fail(seat.entry.ticket, self._obituary(seat, error))
            self._dismiss(seat)

    def _note_who_works(self) -> None:
        now = time.monotonic()
        self._worked_s = {s: at for s, at in self._worked_s.items() if now - at < _ECHO_S}
        self._worked_s |= {seat: now for seat in self._seats if seat.entry is not None}

    def _obituary(self, seat: Seat, error: BaseException) -> Failure:
        beside = [s for s, at in self._worked_s.items() if at >= seat.began_s and seat.is_beside(s)]
        return seat.obituary(error, was_alone=not beside)

    def _enforce_deadlines(self) -> None:
        now = time.monotonic()
        for seat in list(self._seats):
            if seat.deadline is not None and seat.deadline <= now:
                assert seat.entry is not None
                limit = f"the job ran for longer than {seat.entry.timeout_s:g} s and was killed"
                self._execute(seat, Failure("timeout", limit, seat.log_tail()))

    def _execute(self, seat: Seat, failure: Failure) -> None:
        """Kills a worker because of its job."""
        assert seat.entry is not None
        self._dismiss(seat)
        self._fail(seat.entry.ticket, failure)

    def _dismiss(self, seat: Seat) -> None:
        """Takes a worker out of the pool; another is hired at the next opportunity."""
        if seat in self._seats:
            self._seats.remove(seat)
            seat.kill(ray_answers=seat.process is not None or self._cluster.answers())

    def _dispatch(self) -> None:
        for seat in self._seats:
            while self._queue and seat.is_free:
                entry = self._queue.popleft()
                try:
                    seat.start(entry, self._commons.refs)
                except Exception as error:  # whatever pickling the job raises
                    self._fail(entry.ticket, transport_failure(error))

    def _fail(self, ticket: int, failure: Failure) -> None:
        self._outcomes.append(Outcome(ticket, failure=failure))

    def _count_stillbirth(self, error: BaseException) -> None:
        self._stillbirths += 1
        if self._stillbirths >= _STILLBIRTHS:
            raise ExecutorError(f"workers die while they start, {_STILLBIRTHS} in a row: {error}")

    def _check_sight(self, seat: Seat) -> None:
        news = seat.news
        if news is None or not news.unseen:
            return
        self._dismiss(seat)
        raise ExecutorError(
            f"{news.unseen[0]} must be a folder that every node of the Ray cluster sees at this "
            f"path, but node {news.host} does not: keep it on storage that all nodes mount, or "
            "take that node out of the cluster"
        )

    def _check_births(self) -> None:
        late = [s for s in self._seats if s.news is None and _age(s) > _START_PATIENCE_S]
        if late and len(late) == len(self._seats):
            raise ExecutorError(f"{self._shortage()}; ask for less, or wait until it is free")
        if not late or self._warned:
            self._warned = bool(late)
            return
        self._warned = True
        going = self.slots - len(late)
        _log.warning("%s: going on with %d; the others join when they can", self._shortage(), going)

    def _shortage(self) -> str:
        cpus, gpus = self._needs["num_cpus"], self._needs["num_gpus"]
        wanted = f"{self.slots} workers with {cpus:g} CPUs and {gpus:g} GPUs each"
        return f"{wanted} were asked for, but {self._cluster.resources()}"

    def _mourn(self) -> None:
        """Deals with the loss of Ray's head: a new one if it was ours, else the end."""
        entries = self._abandon()
        self._commons.clear()
        self._lost = True
        if not self._cluster.embedded:
            self._queue.clear()
            return
        failure = Failure("crashed", "Ray's head process was lost while the job ran")
        for entry in entries:
            self._fail(entry.ticket, failure)
        self._cluster.close()
        self._connect()
        self._lost = False

    def _abandon(self) -> list[Entry]:
        """Kills all workers and gives the jobs that they ran."""
        ray_answers = bool(self._seats) and self._cluster.answers()
        seats, self._seats = self._seats, []
        for seat in seats:
            seat.kill(ray_answers=ray_answers)
        return [seat.entry for seat in seats if seat.entry is not None]

    def _check_usable(self) -> None:
        if self._closed:
            raise ExecutorError("the executor is closed; make a new one to run more jobs")
        if self._lost:
            raise ExecutorLostError(
                f"the Ray cluster at {self._address or 'this machine'} does not answer any more; "
                "start again when it is back"
            )

    def _is_busy(self) -> bool:
        return bool(self._queue) or any(seat.entry is not None for seat in self._seats)

    def _open_calls(self) -> list[Any]:
        calls = [seat.watch for seat in self._seats]
        return calls + [seat.result for seat in self._seats if seat.result is not None]

    def _until_deadline(self) -> float:
        deadlines = [seat.deadline for seat in self._seats if seat.deadline is not None]
        return max(0.0, min(deadlines, default=float("inf")) - time.monotonic())


def _age(seat: Seat) -> float:
    return time.monotonic() - seat.born


def _check_numbers(count: int, gpus_each: float, cpus_each: float, threads: int | None) -> None:
    if count < 1:
        raise ValueError(f"a Ray executor needs at least one worker, but got count={count}")
    if gpus_each < 0 or cpus_each < 0:
        raise ValueError(
            f"gpus_each and cpus_each must not be negative, but got {gpus_each} and {cpus_each}"
        )
    if threads is not None and threads < 1:
        raise ValueError(f"threads must be at least 1 or None, but got {threads}")


def _share_of_threads(count: int, cpus_each: float, address: str | None) -> int:
    if address is not None:
        return max(1, int(cpus_each))
    return max(1, len(os.sched_getaffinity(0)) // count)
