"""Runs a study of played workers and tells the controller's time from all other time."""

from __future__ import annotations

import tempfile
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import _played
import optuna
from _played import Stopwatch, Workshop

from trimtab_storage import Store
from trimtab_workers.executors import Executor, Outcome, Progress

SLOTS, N_ROWS = 8, 10


class InstantExecutor(Executor):
    """Has the value of every job at the next `wait`."""

    slots = SLOTS

    def __init__(self) -> None:
        self.work = Stopwatch()
        self._shop = Workshop()
        self._queue: deque[tuple[int, Any]] = deque()
        self._tickets = 0

    def submit(self, job: Any, *, timeout_s: float | None = None) -> int:
        """Queues a job."""
        self._tickets += 1
        self._queue.append((self._tickets, job))
        return self._tickets

    def wait(self, timeout_s: float) -> list[Outcome]:
        """Makes up the result of the oldest job."""
        with self.work.running():
            if not self._queue:
                return []
            ticket, job = self._queue.popleft()
            return [Outcome(ticket, self._shop.value_of(job))]

    def progress(self) -> dict[int, Progress]:
        """Tells nothing."""
        return {}

    def cancel(self, ticket: int) -> None:
        """Forgets a job."""
        self._queue = deque(entry for entry in self._queue if entry[0] != ticket)

    def worker_pids(self) -> list[int]:
        """Has no processes."""
        return []

    def close(self) -> None:
        """Forgets all jobs."""
        self._queue.clear()


class Draws:
    """Proposes in the sampler's place: uniform draws, but for every so many the sampler itself."""

    def __init__(self, propose: Callable[..., Any], every: int, seed: int) -> None:
        self._propose, self._every, self._given = propose, every, 0
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        sampler = optuna.samplers.RandomSampler(seed=seed)
        self._study = optuna.create_study(sampler=sampler)
        self._tried: set[Any] = set()

    def __call__(self, space: Any, *arguments: Any, **named: Any) -> Any:
        """Gives a recipe that was not given before."""
        self._given += 1
        recipe = None
        if self._given % self._every == 0 or self._given <= len(space.anchors()):
            recipe = self._propose(space, *arguments, **named)
        while recipe is None or recipe in self._tried:
            trial = self._study.ask()
            recipe = space.draw(trial)
            self._study.tell(trial, state=optuna.trial.TrialState.FAIL)
        self._tried.add(recipe)
        return recipe


@dataclass
class Times:
    """The seconds of a study so far, by who spent them, read again and again.

    `own` is what is left of all time when that of the sampler and of the workers is taken away.
    """

    executor: InstantExecutor
    sampler: Stopwatch = field(default_factory=Stopwatch)
    started_s: float = field(default_factory=time.perf_counter)
    read: list[dict[str, float]] = field(default_factory=list)

    def note(self, trials: int) -> None:
        """Reads all watches."""
        whole_s = time.perf_counter() - self.started_s
        others_s = self.sampler.seconds + self.executor.work.seconds
        own_s = whole_s - others_s
        self.read.append({"trials": trials, "own": own_s, "sampler": self.sampler.seconds})

    def rows(self) -> list[dict[str, float]]:
        """Gives the milliseconds a trial between one reading and the next."""
        return [_a_trial(*pair) for pair in zip(self.read, self.read[1:], strict=False)]


def _a_trial(before: dict[str, float], after: dict[str, float]) -> dict[str, float]:
    trials = after["trials"] - before["trials"]
    return {
        "trials": after["trials"],
        "controller_ms": 1000 * (after["own"] - before["own"]) / trials,
        "sampler_ms": 1000 * (after["sampler"] - before["sampler"]) / trials,
    }


def measured(n_trials: int, seed: int, sample_every: int, **search: Any) -> dict[str, Any]:
    """Runs a study of so many trials and gives the entry of the benchmark.

    ``search`` is put into the spec's section; no rule in it may end the study early.
    """
    executor = InstantExecutor()
    times = Times(executor)

    def make(propose: Callable[..., Any]) -> Callable[..., Any]:
        draw = propose if sample_every == 1 else Draws(propose, sample_every, seed)

        def noted(*arguments: Any, number: int, **named: Any) -> Any:
            # By trials: one that is passed over is followed by another proposal of its number.
            if number == len(times.read) * (n_trials // N_ROWS):
                times.note(number)
            with times.sampler.running():
                return draw(*arguments, number=number, **named)

        return noted

    with tempfile.TemporaryDirectory() as name, _played.replaced("propose", make):
        folder = Path(name)
        spec = _played.spec_of(folder, "overhead", n_trials, seed, **search)
        with Store.open(f"sqlite:///{folder}/trimtab.db", controller=True) as store:
            _played.run_played(spec, store, executor)
            times.note(n_trials)
            study = store.study("overhead")
            assert study is not None
            done, points = store.trial_counts(study.id), len(store.points(study.id))
    assert done["complete"] == n_trials, done
    whole = _a_trial(times.read[0], times.read[-1])
    about = {
        "of": "the whole study",
        "points": points,
        "sampler_asked_every": sample_every,
        "slots": SLOTS,
    }
    return {
        "figure": whole["controller_ms"],
        "baseline": "none: an absolute bound",
        "seeds": [seed],
        "rows": [*times.rows(), {**whole, **about}],
    }
