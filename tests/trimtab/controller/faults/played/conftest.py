"""Real controllers, forked in milliseconds, whose workers are processes that make up results.

What the lab beside does with models in seconds is done here with formulas, so that there can be
hundreds of kills: `trimtab run` in a process of its own, each job in another one, the real
database, the real files, and the lab's log that no kill can take back.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import sqlite3
import sys
import time
import traceback
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing import connection
from pathlib import Path
from typing import Any

import psutil
import pytest

import trimtab.study  # noqa: F401 - loaded here, so that no fork has to do it
from trimtab.cli import _main, _show
from trimtab.controller import _run, _sampler, _session
from trimtab.emission import Emission
from trimtab_storage import Store
from trimtab_workers.executors import Executor, Failure, Outcome, Progress, WorkerContext
from trimtab_workers.executors._guard import run_guarded
from trimtab_workers.jobs import LadderJob, StatisticsJob

FORK = multiprocessing.get_context("fork")
STRATEGY = {"fisher": {"importance": "predictions"}}

Fate = Callable[[Any, int], None]
"""What befalls a worker: called in its process with the job and the number of its recipe."""


@dataclass(frozen=True)
class Played:
    """A job as a worker meets it: noted when it begins and ends, its value by formula."""

    job: Any
    number: int
    value_of: Callable[[Any], Any]
    say: Callable[..., None]
    fate: Fate
    pause_s: float

    def run(self, context: WorkerContext) -> Any:
        if not isinstance(self.job, LadderJob | StatisticsJob):
            return self.value_of(self.job)
        what = self.job.key if isinstance(self.job, StatisticsJob) else dict(self.job.choices)
        self.say("start", type(self.job).__name__, what, os.getpid())
        time.sleep(self.pause_s)
        self.fate(self.job, self.number)
        value = self.value_of(self.job)
        self.say("end", type(self.job).__name__, what, os.getpid())
        return value


class PlayedWorkers(Executor):
    """Runs each job in a process forked for it; one that dies without a word has crashed.

    Recipes are numbered in the order in which they are first sent, from 0.
    """

    def __init__(self, slots: int, make: Callable[[Any, int], Played]) -> None:
        self.slots, self._make = slots, make
        self._queue: deque[tuple[int, Played]] = deque()
        self._running: dict[int, tuple[Any, Any]] = {}
        self._cancelled: list[Outcome] = []
        self._numbers: dict[str, int] = {}
        self._tickets = 0

    def submit(self, job: Any, *, timeout_s: float | None = None) -> int:
        number = -1
        if isinstance(job, LadderJob):
            name = json.dumps(dict(job.choices), sort_keys=True)
            number = self._numbers.setdefault(name, len(self._numbers))
        self._tickets += 1
        self._queue.append((self._tickets, self._make(job, number)))
        return self._tickets

    def wait(self, timeout_s: float) -> list[Outcome]:
        while self._queue and len(self._running) < self.slots:
            ticket, played = self._queue.popleft()
            ours, theirs = FORK.Pipe(duplex=False)
            process = FORK.Process(target=self._work, args=(ticket, played, theirs))
            process.start()
            theirs.close()  # so that ours ends with the process
            self._running[ticket] = process, ours
        if self._cancelled or not self._running:
            outcomes, self._cancelled = self._cancelled, []
            return outcomes
        ready = connection.wait([end for _, end in self._running.values()], timeout_s)
        done = [ticket for ticket, (_, end) in self._running.items() if end in ready]
        return [self._take(ticket) for ticket in done]

    def _work(self, ticket: int, played: Played, end: Any) -> None:
        for each in (signal.SIGINT, signal.SIGTERM):
            signal.signal(each, signal.SIG_DFL)
        end.send(run_guarded(ticket, played, WorkerContext("cpu", lambda *news: None)))

    def _take(self, ticket: int) -> Outcome:
        process, end = self._running.pop(ticket)
        try:
            outcome: Outcome = end.recv()
        except (EOFError, OSError):
            outcome = Outcome(ticket, failure=Failure("crashed", "the worker died"))
        end.close()
        process.join()
        return outcome

    def progress(self) -> dict[int, Progress]:
        return {}

    def cancel(self, ticket: int) -> None:
        waiting = [entry for entry in self._queue if entry[0] == ticket]
        for entry in waiting:
            self._queue.remove(entry)
        if ticket in self._running:
            self._running[ticket][0].kill()
            self._take(ticket)
        self._cancelled.append(Outcome(ticket, failure=Failure("cancelled", "cancelled")))

    def worker_pids(self) -> list[int]:
        return [process.pid for process, _ in self._running.values()]

    def close(self) -> None:
        self._queue.clear()
        for ticket in list(self._running):
            self._running[ticket][0].kill()
            self._take(ticket)


@dataclass
class Stage:
    """Starts controllers on the spec of a lab, which is asked for all that came of it."""

    lab: Any
    value_of: Callable[[Any], Any]
    started: list[Any] = field(default_factory=list)

    def write_spec(self, **changes: Any) -> None:
        self.lab.write_spec(**{"search__strategies": [STRATEGY], **changes})

    def start(
        self,
        *,
        slots: int = 2,
        pause_s: float = 0.01,
        fate: Fate = lambda job, number: None,
        lease_s: float | None = None,
        quick: bool = False,
        prepare: Callable[[pytest.MonkeyPatch], None] = lambda patch: None,
    ) -> Any:
        """Starts `trimtab run`.

        Args:
            slots: Jobs at a time.
            pause_s: How long a job takes at least.
            fate: What befalls the workers.
            lease_s: For how long a lease holds.
            quick: Whether recipes are drawn without a look at earlier results, for long studies.
            prepare: Called in the new process, to break something there.
        """

        def workers(*arguments: Any, **named: Any) -> PlayedWorkers:
            return PlayedWorkers(
                slots, lambda job, n: Played(job, n, self.value_of, self.say, fate, pause_s)
            )

        def control() -> None:
            with (
                (self.lab.folder / "said").open("a", buffering=1) as said,
                pytest.MonkeyPatch.context() as patch,
            ):
                sys.stdout = sys.stderr = said
                try:
                    self._play(patch, lease_s, quick)
                    patch.setattr("trimtab_workers.executors.make_executor", workers)
                    prepare(patch)
                except Exception:
                    traceback.print_exc(file=said)
                    raise
                spec = str(self.lab.folder / "study.json")
                command = ["run", spec, "--db", self.lab.db, "--quiet", "--json"]
                sys.exit(_main.run_command(command))

        process = FORK.Process(target=control)
        process.start()
        self.started.append(process)
        return process

    def _play(self, patch: pytest.MonkeyPatch, lease_s: float | None, quick: bool) -> None:
        """Replaces, in the process of a controller, what would need a model, and listens in."""
        obey, complete = _main.obey_signals, Store.complete_trial

        def obey_and_say(say_patience: Callable[[], None]) -> None:
            obey(say_patience)
            self.say("up", os.getpid())

        def complete_and_say(store: Store, lease: Any, trial_id: int, *rest: Any, **named: Any):  # type: ignore[no-untyped-def]
            ids = complete(store, lease, trial_id, *rest, **named)
            self.say("ack", lease.study_id, trial_id, os.getpid())
            return ids

        patch.setattr(_main, "obey_signals", obey_and_say)
        patch.setattr(Store, "complete_trial", complete_and_say)
        patch.setattr(_run, "emit_checkpoint", _emit_nothing)
        patch.setattr(_show, "run_plain", lambda result: {})
        # What a disk keeps when the power fails is another matter, and waiting for it takes long.
        for name in ("sync_tree", "sync_folder"):
            patch.setattr(f"trimtab_storage.artifacts.{name}", lambda folder: None)
        if lease_s is not None:
            patch.setattr(_session, "LEASE_TTL_S", lease_s)
        if quick:
            patch.setattr(_sampler, "most_telling", lambda history, most=None: [])

    def say(self, *words: Any) -> None:
        line = json.dumps(words).encode() + b"\n"
        descriptor = os.open(self.lab.folder / "log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.write(descriptor, line)
        os.close(descriptor)

    def run(self, **options: Any) -> int | None:
        """Runs a study to its end and gives the exit code."""
        return self.end(self.start(**options))

    def end(self, process: Any, within_s: float = 3600) -> int | None:
        """Waits for the end of a controller and gives its exit code."""
        process.join(within_s)
        assert process.exitcode is not None, f"it hangs; said: {self.lab.said()[-2000:]}"
        code: int = process.exitcode
        return code

    def pause(self, process: Any) -> None:
        """Stops a controller, but not while it holds the database's lock."""
        while True:
            os.kill(process.pid, signal.SIGSTOP)
            probe = sqlite3.connect(self.lab.folder / "trimtab.db", isolation_level=None, timeout=0)
            try:
                probe.execute("BEGIN IMMEDIATE")
                probe.execute("ROLLBACK")
                return
            except sqlite3.OperationalError:
                os.kill(process.pid, signal.SIGCONT)
                time.sleep(0.003)
            finally:
                probe.close()

    def began(self, n: int, after: int) -> Callable[[], bool]:
        """Waits until so many jobs have begun since a line of the log, or the run is over."""
        process = self.started[-1]

        def enough(lines: list[Any]) -> bool:
            return sum(x.event == "start" for x in lines) >= n or not process.is_alive()

        self.lab.wait_for(enough, after)
        return process.is_alive  # type: ignore[no-any-return]

    def assert_finished(self, states: dict[str, int]) -> None:
        """Checks that a study is over, free and sound, with so many trials in each state."""
        study, trials = self.lab.study(), self.lab.trials()
        found = {state: [t.state for t in trials].count(state) for state in states}
        assert found == states and len(trials) == sum(states.values()), self.lab.said()[-2000:]
        assert (study.state, study.lease_owner) == ("finished", None)
        assert self.lab.problems() == []


def _emit_nothing(store: Any, study: Any, choice: Any, forge: Any, out: Path, **named: Any) -> Any:
    return Emission(out, choice.point, None)  # type: ignore[arg-type]


@pytest.fixture
def stage(lab: Any, value_of: Callable[[Any], Any]) -> Iterator[Stage]:
    """Controllers on the lab's spec; none of them outlives the test, nor do their workers."""
    made = Stage(lab, value_of)
    yield made
    family: list[psutil.Process] = []
    for process in made.started:
        with suppress(psutil.NoSuchProcess):
            family += psutil.Process(process.pid).children() if process.is_alive() else []
        with suppress(ProcessLookupError):
            os.kill(process.pid, signal.SIGCONT)
        process.kill()
        process.join()
    for member in family:
        with suppress(psutil.NoSuchProcess):
            member.kill()
