"""The contract of an executor: jobs go in, one outcome for each ticket comes out.

ExecutorError (a RuntimeError)   the executor cannot start, or cannot go on
└── ExecutorLostError            the cluster under a running executor is gone
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Literal, Protocol, Self

Reason = Literal[
    "error",
    "crashed",
    "timeout",
    "oom_host",
    "oom_device",
    "disk_full",
    "storage",
    "cancelled",
    "input",
]


class ExecutorError(RuntimeError):
    """The executor cannot start, or cannot go on; no job is to blame."""


class ExecutorLostError(ExecutorError):
    """The cluster that ran the jobs is gone, and all that were out; go on with a new executor."""


@dataclass(frozen=True)
class Failure:
    """Why a job gave no value.

    `error`: it raised. `input`: it raised a `WorkerInputError`, whose text is the message.
    `crashed`: its process died. `timeout`: it ran too long and was killed. `oom_host`,
    `oom_device`: memory ran out. `disk_full`: there was no room for its files. `storage`: the
    place of its files could not be read or written. `cancelled`: the caller did not want it any
    more.

    `is_in_doubt` where another job may have been the cause: memory ran out while several ran, and
    who was killed for it was not chosen by what it used.
    """

    reason: Reason
    message: str  # one line for people
    detail: str = ""  # traceback or end of the worker's log
    is_in_doubt: bool = False

    @property
    def is_worth_another_try(self) -> bool:
        """Whether the same job may well come through next time."""
        return self.reason == "crashed" or self.is_in_doubt


@dataclass(frozen=True)
class Outcome:
    """What became of one ticket: a value, or a failure.

    ``held_up_s`` are the seconds that the job itself says it waited for other runs.
    """

    ticket: int
    value: Any = None
    failure: Failure | None = None
    held_up_s: float = 0.0


@dataclass(frozen=True)
class Progress:
    """How far a running job has come in what it is doing now."""

    stage: str
    done: int
    total: int


def _made_here(name: str, make: Callable[[], Any]) -> Any:
    return make()


@dataclass
class WorkerContext:
    """What a job finds where it runs.

    `report(stage, done, total)` is cheap and may be called for every batch. `cache` lives as long
    as the worker, so that data and baseline stay loaded from job to job. `shared(name, make)` gives
    what another worker made under that name, or else makes it for all; it is not to be changed. A
    job that waits for other runs adds the seconds to `held_up_s`, which is 0 when it starts.
    """

    device: str
    report: Callable[[str, int, int], None]
    cache: dict[str, Any] = field(default_factory=dict)
    held_up_s: float = 0.0
    shared: Callable[[str, Callable[[], Any]], Any] = _made_here


class Job(Protocol):
    """Something to be done by a worker; picklable, and so is what `run` returns."""

    def run(self, context: WorkerContext) -> Any:
        """Does the work; whatever it raises becomes a `Failure`."""


class Executor(ABC):
    """Runs jobs, at most `slots` at once, and tells exactly once what became of each.

    Only an `ExecutorLostError` takes those with it that were out. Results arrive in any order.
    Nothing is retried: a job whose process died has failed, and trying again is the caller's
    decision. All methods belong to the thread that made the executor, but for `progress`, which
    any thread may call.
    """

    slots: int

    @abstractmethod
    def submit(self, job: Job, *, timeout_s: float | None = None) -> int:
        """Queues a job and gives its ticket.

        Args:
            job: What to run.
            timeout_s: Seconds the job may run, counted from its start; None is no limit.

        Raises:
            ExecutorError: The executor is closed or lost.
        """

    @abstractmethod
    def wait(self, timeout_s: float) -> list[Outcome]:
        """Gives the outcomes since the last call, as soon as there is one.

        Blocks for at most `timeout_s` seconds, and not at all when nothing is queued or running.
        Queued jobs are started and time limits enforced only in here, so call it again and again.

        Raises:
            ExecutorError: No worker can be had, or the executor is closed or lost.
        """

    @abstractmethod
    def progress(self) -> dict[int, Progress]:
        """Gives the latest report of every running job that has made one, by ticket."""

    @abstractmethod
    def cancel(self, ticket: int) -> None:
        """Gives a job up; its outcome is `cancelled`, unless it has finished already."""

    @abstractmethod
    def worker_pids(self) -> list[int]:
        """Lists the processes that run jobs and are up, busy or not."""

    @abstractmethod
    def close(self) -> None:
        """Kills what still runs and lets go of everything; may be called again."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()
