"""Trials under way: each step is made once, whoever wants it, and shared by all who do.

Legend:
    link   one step of a recipe on the model that the steps before it made
    rung   one cost at which a link is made; all links but the last of a recipe have one
    broken a step that failed by itself for more than one trial, so that it would fail again; see
           :mod:`trimtab.controller._failures`
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field, replace

from trimtab.controller._failures import FAILED, Failures, limits_of
from trimtab.controller._runner import MAX_ATTEMPTS, check_lacks, lack_of_room
from trimtab.controller._session import Session
from trimtab.controller._steps import Link, Rungs, Steps, costs_in_words
from trimtab.forge import is_on_disk
from trimtab_storage import InvalidValueError, NewArtifact, TrialRow
from trimtab_strategies import registry
from trimtab_workers.executors import Failure, Job, Outcome
from trimtab_workers.jobs import RungResult, StatisticsResult

MOST_PREFIXES = 8
"""How many models that others may start from keep their weights, though on no frontier."""

Keys = frozenset[str]
Finish = Callable[["Run", Sequence[RungResult]], None]
Fail = Callable[["Run", Failure, Keys], None]
NOTHING: Keys = frozenset()


@dataclass(eq=False)
class Run:
    """A trial under way; ``is_extension`` adds to one that is complete already.

    ``awaits`` names what other trials are making, and ``makes`` what this one is.
    """

    trial: TrialRow
    attempt: int
    links: tuple[Link, ...]
    is_extension: bool = False
    restarts: int = 0
    lacks: int = 0
    awaits: Keys = NOTHING
    makes: Keys = NOTHING
    link: Link | None = None
    started_s: float = field(default_factory=time.monotonic)


class Underway:
    """Sends out the missing steps of trials, one at a time for each, and takes the results.

    ``own`` names what was made here. ``finish`` is called with a run whose last step is made and
    the results that were still missing, ``fail`` with one that cannot go on and the steps that this
    tells against. Either way the run is off the list by then.
    """

    def __init__(self, session: Session, steps: Steps, finish: Finish, fail: Fail) -> None:
        self.runs: list[Run] = []
        self._session, self._steps, self._store = session, steps, session.store
        self._finish, self._fail = finish, fail
        self._by_ticket: dict[int, Run] = {}
        self._parked: list[tuple[Run, float]] = []
        self._making: set[str] = set()
        self._sound: set[str] = set()
        failed = self._store.events(session.study.id, kind=FAILED)
        self._failures = Failures(failed, limits_of(session.spec.workers))
        self._prefixes: dict[str, None] = {}
        self._made_for: dict[int, set[str]] = {}
        self.own: set[str] = set()

    @property
    def n_busy(self) -> int:
        """How many runs hold a slot of the executor; those that wait for others do not."""
        return len(self._by_ticket)

    def in_use(self) -> set[str]:
        """Names the models that runs start from, or may soon."""
        parents = {link.parent for run in self.runs for link in run.links}
        return parents | set(list(self._prefixes)[-MOST_PREFIXES:])

    def n_made(self, trial_id: int) -> int:
        """Counts what was made on the way for a trial, in all its attempts, but not in the end."""
        return len(self._made_for.get(trial_id, ()))

    def is_hopeless(self, links: Sequence[Link]) -> bool:
        """Tells whether a step is known to fail, and so every recipe with it."""
        keys = {key for link in links for _, key in link.rungs}
        keys |= {key for link in links if (key := self._steps.statistics_key(link))}
        return self._failures.known(keys) is not None

    def resume(self) -> None:
        """Lets every run look again what it can do; there is no need to as long as any works."""
        self._wake({key for run in self.runs for key in run.awaits})

    def unpark(self) -> None:
        """Lets runs go on that waited for room, if there is some now."""
        while self._parked and self._session.room.look(self.n_busy + 1):
            run, since_s = self._parked.pop(0)
            run.started_s += time.monotonic() - since_s
            self._advance(run)

    def dropped(self, keys: Iterable[str]) -> None:
        """Notes that weights were taken off the disk."""
        self._sound.difference_update(keys)

    def start(self, run: Run) -> None:
        """Takes up a run."""
        self.runs.append(run)
        self._advance(run)

    def handle(self, outcome: Outcome) -> None:
        """Takes what came back for one of the runs; anything else is not ours."""
        run = self._by_ticket.pop(outcome.ticket, None)
        if run is None:
            return
        self._session.runner.forget(outcome.ticket)
        if outcome.failure is not None:
            self._failed(run, outcome.failure)
        elif isinstance(outcome.value, StatisticsResult):
            assert run.link is not None
            (key,), link = run.makes, run.link
            self._keep(run, lambda: self._steps.statistics_row(link, key, outcome.value))
        elif run.link is not run.links[-1]:
            assert run.link is not None
            made = outcome.value[0]
            prefix = run.link
            self._keep(run, lambda: self._steps.model_row(prefix, made))
        else:
            self.own |= run.makes
            self._use(_starts(run.links))
            self._end(run, lambda: self._finish(run, outcome.value))

    def cancel(self) -> None:
        """Leaves nothing of ours on the executor."""
        for ticket in self._by_ticket:
            self._session.runner.executor.cancel(ticket)
            self._session.runner.forget(ticket)

    # One run

    def _advance(self, run: Run) -> None:
        """Sends out the next missing step, waits for one that is being made, or finishes."""
        run.awaits = NOTHING
        self._use(link.rungs[0][1] for link in run.links[:-1] if link.look is None)
        missing = self._steps.missing(run.links[-1])
        if not missing:
            self._end(run, lambda: self._finish(run, []))
            return
        for link in run.links[:-1]:
            if not self._has(link.rungs[0][1]):
                self._make(run, link, link.rungs)
                return
        self._make(run, run.links[-1], missing)

    def _use(self, prefixes: Iterable[str]) -> None:
        """Puts models among those used last."""
        for key in prefixes:
            self._prefixes.pop(key, None)
            self._prefixes[key] = None

    def _make(self, run: Run, link: Link, rungs: Rungs) -> None:
        """Sends out a link, or its statistics, unless somebody is making that or could not."""
        statistics = self._steps.statistics_key(link)
        if statistics is not None and self._has(statistics):
            statistics = None
        wanted = frozenset([statistics] if statistics else [key for _, key in rungs])
        if known := self._failures.known(wanted):
            self._give_up(run, *known)
            return
        run.awaits = wanted & self._making
        if run.awaits:
            return
        if self._session.room.is_short:
            self._parked.append((run, time.monotonic()))
            return
        run.makes, run.link = wanted, link
        self._making |= wanted
        if statistics is not None:
            what = f"{link.step.strategy} statistics"
            self._submit(run, self._steps.statistics_job(link, statistics), what)
        else:
            self._submit(run, self._steps.ladder_job(link, rungs), costs_in_words(link, rungs))

    def _has(self, key: str) -> bool:
        """Tells whether an artifact is on disk; a damaged one is dropped, so it is made anew."""
        row = self._store.artifact(key)
        if row is None or row.path is None:
            return False
        if key not in self._sound and not is_on_disk(row, self._session.files):
            self._store.drop_files(self._session.files, key)
            return False
        self._sound.add(key)
        return True

    def _submit(self, run: Run, job: Job, what: str) -> None:
        timeout_s = self._session.spec.workers.trial_timeout.seconds
        label = f"trial {run.trial.number}: {what}"
        self._by_ticket[self._session.runner.submit(job, label, timeout_s=timeout_s)] = run

    def _keep(self, run: Run, row: Callable[[], NewArtifact]) -> None:
        """Records what later steps, of this trial and of others, start from."""
        try:
            self._store.record_artifact(self._session.lease, row())
        except InvalidValueError as error:
            self._failed(run, Failure("error", str(error)))
            return
        self.own |= run.makes
        self._made_for.setdefault(run.trial.id, set()).update(run.makes)
        self._go_on(run)

    def _go_on(self, run: Run) -> None:
        """Takes a run's next step, and lets those go on who waited for what it was making."""
        keys = self._release(run)
        self._advance(run)
        self._wake(keys)

    def _end(self, run: Run, say: Callable[[], None]) -> None:
        """Takes a run off the list, says so, and lets those go on who waited for it."""
        self.runs.remove(run)
        keys = self._release(run)
        say()
        self._wake(keys)

    def _release(self, run: Run) -> Keys:
        """Lets others make what this run was making, and gives the keys."""
        keys, run.makes = run.makes, NOTHING
        self._making -= keys
        return keys

    def _wake(self, keys: Collection[str]) -> None:
        for waiting in [run for run in self.runs if not run.awaits.isdisjoint(keys)]:
            self._advance(waiting)

    # What went wrong

    def _failed(self, run: Run, failure: Failure) -> None:
        # Whoever wants to stop may have hit the job; that is not the trial's fault.
        self._session.tick()
        if lack := lack_of_room(failure):
            run.lacks += 1
            check_lacks(lack, run.lacks)
            self._session.room.lack(lack)
            self._go_on(run)
            return
        lost = self._lost_its_parent(run)
        if lost and run.restarts + 1 < MAX_ATTEMPTS:
            run.restarts += 1
            self._go_on(run)
            return
        steps = NOTHING if lost else run.makes
        self._failures.note(steps, run.trial.number, run.attempt, failure)
        self._end(run, lambda: self._fail(run, failure, steps))

    def _give_up(self, run: Run, number: int, failure: Failure) -> None:
        """Fails a run whose next step failed for another one, without trying it again."""
        message = f"a step that it shares with trial {number} failed: {failure.message}"
        # Whoever loses a worker may try again; where workers are always lost, there is no point.
        reason = "error" if failure.reason == "crashed" else failure.reason
        given_up = replace(failure, reason=reason, message=message, is_in_doubt=False)
        self._end(run, lambda: self._fail(run, given_up, NOTHING))

    def _lost_its_parent(self, run: Run) -> bool:
        """Tells whether another study has taken away what a job was to start from; not for ever."""
        if run.link is None or run.link.before == ():
            return False
        self._sound.discard(run.link.parent)
        return not self._has(run.link.parent)


def _starts(links: Sequence[Link]) -> list[str]:
    """Names what longer recipes may start from of what a whole recipe made.

    A ladder is not among it: most of its rungs are no one's start, and what is one is made again
    from kept statistics. Nor is what was only looked at.
    """
    last = links[-1]
    may_follow = registry.names()[-1] != last.step.strategy and last.look is None
    return [last.rungs[0][1]] if may_follow and not registry.get(last.step.strategy).aims else []
