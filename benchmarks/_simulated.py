"""A cluster that is only simulated: jobs take their time on a clock that is moved, and some fail.

The clock is the real one plus what was skipped: while the controller waits for a result, the time
until the next one is skipped; while it works, time passes as it really does, so that a slow
controller leaves simulated workers idle. What the simulation itself takes is taken away again.

Durations are drawn, for no cluster was recorded: lognormal, with medians of the order that is
published for a base encoder on one GPU (Fisher masks 39 to 135 s; training, tens of minutes).
"""

from __future__ import annotations

import heapq
import itertools
import random
import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from _played import Workshop

from trimtab_workers.executors import Executor, Failure, Outcome, Progress
from trimtab_workers.jobs import LadderJob, StatisticsJob

MEDIAN_S = {"fisher": 120.0, "ltp": 1500.0, "acc": 900.0, "early_exit": 400.0}
STATISTICS_S, SPREAD = 60.0, 0.6
CRASHES, LOSSES, ERRORS, COME_LATE = 0.02, 0.01, 0.005, 0.5
"""Shares of jobs whose process dies, whose worker is lost, that raise; and of lost workers whose
result comes all the same, long after it was given up."""
UNNOTICED_S, RESTART_S, LATE_S = 30.0, 60.0, 600.0


class Clock:
    """Seconds that pass as they really do, and can be skipped or taken away."""

    def __init__(self) -> None:
        self.skipped_s = 0.0

    def now(self) -> float:
        """Gives the simulated time."""
        return time.monotonic() + self.skipped_s

    def skip_to(self, moment: float) -> None:
        """Moves on to a moment; never back."""
        self.skipped_s += max(0.0, moment - self.now())

    @contextmanager
    def stopped(self) -> Iterator[None]:
        """Lets a block take no time, but for what it skips."""
        started = time.monotonic()
        try:
            yield
        finally:
            self.skipped_s -= time.monotonic() - started


class ModuleTime:
    """Stands in for the module `time` where a simulated clock is to be read."""

    def __init__(self, clock: Clock) -> None:
        self.monotonic = clock.now

    def __getattr__(self, name: str) -> Any:
        return getattr(time, name)


@dataclass(frozen=True)
class Fate:
    """What becomes of one job: how long it keeps its worker busy, and what is heard of it when.

    ``heard_s`` and ``back_s`` are seconds after the start: when the outcome is told, and when the
    worker can take another job. ``late_s`` is when a result comes that was given up; None if never.
    """

    busy_s: float
    heard_s: float
    back_s: float
    failure: Failure | None = None
    late_s: float | None = None


def fate_of(job: Any, rng: random.Random) -> Fate:
    """Draws what becomes of a job."""
    if not isinstance(job, LadderJob | StatisticsJob):
        return Fate(0.0, 0.0, 0.0)
    median_s = STATISTICS_S if isinstance(job, StatisticsJob) else MEDIAN_S[job.strategy]
    whole_s, luck, part = rng.lognormvariate(0.0, SPREAD) * median_s, rng.random(), rng.random()
    late = rng.random() < COME_LATE
    if luck < LOSSES:
        heard_s = part * whole_s + UNNOTICED_S
        gone = Failure("crashed", "its worker was lost")
        late_s = heard_s + LATE_S if late else None
        return Fate(part * whole_s, heard_s, heard_s + RESTART_S, gone, late_s)
    if luck < LOSSES + CRASHES:
        ends_s = part * whole_s
        return Fate(ends_s, ends_s, ends_s + RESTART_S, Failure("crashed", "its process died"))
    if luck < LOSSES + CRASHES + ERRORS:
        return Fate(part * whole_s, part * whole_s, part * whole_s, Failure("error", "it raised"))
    return Fate(whole_s, whole_s, whole_s)


@dataclass(order=True)
class Event:
    """Something that happens at a moment; of equal moments, in the order they were planned."""

    at: float
    order: int
    ticket: int = field(compare=False)
    kind: str = field(compare=False)  # heard, back or late


class SimulatedCluster(Executor):
    """Runs jobs on workers that are numbers, and keeps a ledger of all that it told.

    ``told`` has every job whose value was told, once for each time; ``busy`` the spans in which
    workers worked. Late results break the promise of one outcome a ticket, on purpose.
    """

    def __init__(self, clock: Clock, n_workers: int, seed: int) -> None:
        self.slots = n_workers
        self.told: list[Any] = []
        self.n_late = self.n_failed = 0
        self.busy: list[tuple[float, float]] = []
        self._clock, self._rng, self._shop = clock, random.Random(seed), Workshop()
        self._free, self._queue = n_workers, deque[int]()
        self._jobs: list[tuple[Any, Fate]] = []
        self._events: list[Event] = []
        self._order = itertools.count()

    def submit(self, job: Any, *, timeout_s: float | None = None) -> int:
        """Gives the job to a free worker, or to the next that is."""
        with self._clock.stopped():
            self._jobs.append((job, fate_of(job, self._rng)))
            self._queue.append(len(self._jobs) - 1)
            self._start_queued(self._clock.now())
            return len(self._jobs) - 1

    def wait(self, timeout_s: float) -> list[Outcome]:
        """Skips to the next outcome, or over the time that the caller would wait."""
        with self._clock.stopped():
            until = self._clock.now() + timeout_s
            while self._events and self._events[0].at <= until:
                event = heapq.heappop(self._events)
                self._clock.skip_to(event.at)
                if outcomes := self._happen(event):
                    return outcomes
            if self._events:
                self._clock.skip_to(until)
            return []

    def _start_queued(self, now: float) -> None:
        while self._free and self._queue:
            ticket = self._queue.popleft()
            _, fate = self._jobs[ticket]
            self._free -= 1
            self.busy.append((now, now + fate.busy_s))
            self._plan(now + fate.back_s, ticket, "back")
            self._plan(now + fate.heard_s, ticket, "heard")
            if fate.late_s is not None:
                self._plan(now + fate.late_s, ticket, "late")

    def _plan(self, at: float, ticket: int, kind: str) -> None:
        heapq.heappush(self._events, Event(at, next(self._order), ticket, kind))

    def _happen(self, event: Event) -> list[Outcome]:
        job, fate = self._jobs[event.ticket]
        if event.kind == "back":
            self._free += 1
            self._start_queued(max(event.at, self._clock.now()))
            return []
        if event.kind == "heard" and fate.failure is not None:
            self.n_failed += 1
            return [Outcome(event.ticket, failure=fate.failure)]
        if event.kind == "late":
            self.n_late += 1
        else:
            self.told.append(job)
        return [Outcome(event.ticket, self._shop.value_of(job))]

    def progress(self) -> dict[int, Progress]:
        """Tells nothing."""
        return {}

    def cancel(self, ticket: int) -> None:
        """Is never asked for: the study runs to its end."""
        raise AssertionError("the study was to run to its end")

    def worker_pids(self) -> list[int]:
        """Has no processes."""
        return []

    def close(self) -> None:
        """Has nothing to let go of."""


def busy_share(
    spans: Sequence[tuple[float, float]], begin: float, end: float, n_workers: int
) -> float:
    """Gives the share of the workers' time between two moments that lies in the spans."""
    busy_s = sum(max(0.0, min(to, end) - max(since, begin)) for since, to in spans)
    return busy_s / (n_workers * (end - begin))
