"""A study under control: its row, its lease, and the hands with which the controller works."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import Any

from trimtab.controller._limits import task_of
from trimtab.controller._owner import (
    LEASE_TTL_S,
    RENEWALS_PER_TTL,
    LeaseKeeper,
    is_dead,
    this_owner,
)
from trimtab.controller._pace import Pace
from trimtab.controller._report import Reporter, Status
from trimtab.controller._room import Room, patient
from trimtab.controller._runner import JobRunner
from trimtab.controller._spending import Spending
from trimtab.errors import InterruptedStudyError, StudyChangedError
from trimtab.progress import Pair, front_of, pair_of, share_of
from trimtab.query import choose_among
from trimtab.selection import Limits
from trimtab.spec import Spec, changed_fields
from trimtab_storage import (
    Artifacts,
    DiskFullError,
    Lease,
    LeaseHeldError,
    LeaseLostError,
    PointRow,
    StorageError,
    Store,
    StudyRow,
    StudyState,
    signals_wait,
)
from trimtab_workers.executors import Executor
from trimtab_workers.jobs import Place

Stop = Callable[[], bool]

SAVE_EVERY_S, SHOW_EVERY_S = 5.0, 0.2


@dataclass
class Session:
    """Everything that the parts of the controller share while they hold a study.

    ``tick`` is called about twice a second by whatever waits; it raises when the lease is lost or
    the user wants to stop. Calls of the ``store`` wait while the disk is full.
    """

    spec: Spec
    store: Store
    study: StudyRow
    lease: Lease
    place: Place
    files: Artifacts
    reporter: Reporter
    stop: Stop
    keeper: LeaseKeeper
    ends_as: StudyState = StudyState.INTERRUPTED
    limits: Limits | None = None
    baseline: dict[str, Any] | None = None
    best: dict[str, Any] | None = None
    hypervolume: float | None = None
    reused: int = 0
    runner: JobRunner = field(init=False)
    room: Room = field(init=False)
    _started_s: float = field(default_factory=time.monotonic)
    _saved_s: float = field(default_factory=time.monotonic)
    _used_before_s: float = field(init=False)
    _plain_store: Store = field(init=False)
    _best: PointRow | None = None
    _front: list[Pair] = field(default_factory=list)
    _seen_id: int = 0
    _shown_s: float = -math.inf
    _pace: Pace = field(default_factory=Pace)

    def __post_init__(self) -> None:
        # Not read from the row later, which holds the time of this run too as soon as it is saved.
        self._used_before_s = self.study.elapsed_s
        self.room = Room(self.files, self._check, lambda: self.remaining_s)
        self._plain_store, self.store = self.store, patient(self.store, self.room)

    def use(self, executor: Executor) -> None:
        """Takes an executor to run jobs on."""
        self.runner = JobRunner(executor, self.tick, self._note_held_up, self.room.wait)

    @cached_property
    def spending(self) -> Spending:
        """What timing costs this study."""
        return Spending(self.store, self.study.id)

    @property
    def elapsed_s(self) -> float:
        """Seconds that all runs of this study took so far."""
        return self._used_before_s + time.monotonic() - self._started_s

    @property
    def remaining_s(self) -> float:
        """Seconds left of the time that the spec allows."""
        return self.spec.search.time.seconds - self.elapsed_s

    def tick(self) -> None:
        """Shows the status, saves the time used, and looks whether to go on."""
        self._check()
        if time.monotonic() - self._saved_s > SAVE_EVERY_S:
            with suppress(DiskFullError):  # whoever has results to write waits for room, not this
                self.save()

    def _check(self) -> None:
        if self.keeper.error is not None:
            raise self.keeper.error
        if self.stop():
            raise _stopped(self.spec.name)
        # Not each time: with many workers there is something to do hundreds of times a second.
        if time.monotonic() - self._shown_s > SHOW_EVERY_S:
            self.show()

    def _note_held_up(self, seconds: float) -> None:
        if seconds:  # only jobs that time wait for others, and then there is a cost
            self.spending.hold_up(seconds)

    def show(self) -> None:
        """Shows the status as it is now."""
        self._shown_s = time.monotonic()
        self.reporter.update(self.status())

    def save(self) -> None:
        """Writes the time used."""
        self._saved_s = time.monotonic()
        self._plain_store.update_study(self.lease, elapsed_s=self.elapsed_s)

    def points(self) -> list[PointRow]:
        """Gives everything measured on the search split."""
        return self.store.points(self.study.id)

    def refresh_best(self) -> None:
        """Brings the best point and the hypervolume up to date; reads only what came since."""
        new = self.store.points(self.study.id, after_id=self._seen_id)
        self._seen_id = new[-1].id if new else self._seen_id
        self.consider(new)

    def consider(self, new: Sequence[PointRow]) -> None:
        """Takes points that are new, or that have changed, into the best and the hypervolume."""
        if self.limits is None or not new:
            return
        if self._best is not None and self._best.id in {point.id for point in new}:
            # What is no longer as good as it was may be worse than any other.
            self._best, new = None, self.points()
        so_far = [] if self._best is None else [self._best]
        self._best = choose_among([*so_far, *new], self.limits).point
        self.best = asdict(self._best)
        # The baseline alone is no frontier.
        self._front = front_of([*self._front, *(pair_of(point) for point in new if point.recipe)])
        if self.limits.max_drop is not None and self._front:
            self.hypervolume = share_of(self._front, self.limits.max_drop)

    def status(self) -> Status:
        """Gives what a status block shows."""
        trials, wanted = self.store.trial_counts(self.study.id), self.spec.search.trials
        ended = trials["complete"] + trials["failed"]
        return Status(
            study=self.spec.name,
            state="running",
            trials=trials,
            wanted_trials=wanted,
            reused=self.reused,
            baseline=self.baseline,
            best=self.best,
            hypervolume=self.hypervolume,
            elapsed_s=self.elapsed_s,
            remaining_s=max(0.0, self.remaining_s),
            jobs=self.runner.running,
            expected_s=self._pace.left_s(time.monotonic(), ended, trials["running"], wanted),
        )


@contextmanager
def open_session(spec: Spec, store: Store, reporter: Reporter, stop: Stop) -> Iterator[Session]:
    """Creates or continues the study of a spec and holds its lease until the end.

    Whoever holds a lease that has run out gets some time to renew it. Trials that a lost controller
    left running wait again, and files that no row knows of are removed. At the end, whatever it
    was, nothing of ours runs any more, and the study is what the session's ``ends_as`` says.

    Raises:
        StudyChangedError: if the spec differs in what must not change.
        LeaseHeldError: if another controller, alive, holds the study.
    """
    study = _create_or_check(spec, store)
    _await_sign_of_life(study, store, reporter, stop)
    taken = session = None
    try:
        # A signal that came with the lease would else be raised before anybody could give it back.
        with signals_wait():
            taken = lease, keeper = _take(store, study.id)
        # The study's number tells our leftovers from those of other studies beside us.
        files = store.artifact_files(f"study-{study.id}")
        store.sweep_files(files)
        store.recover_trials(lease)
        study = store.update_study(lease, spec=spec.to_plain())
        place = Place(task_of(spec), spec.model, files)
        session = Session(spec, store, study, lease, place, files, reporter, stop, keeper)
        yield session
    except BaseException:
        if taken is not None:
            keeper.stop()
            # What went wrong is said, not that in the end this could not be written either.
            with suppress(StorageError):
                _give_back(store, lease, session)
        raise

    def end() -> None:
        with signals_wait():  # not while it is waited for room
            keeper.stop()
            _give_back(store, lease, session)

    with suppress(LeaseLostError):
        session.room.insist(end)


def _take(store: Store, study_id: int) -> tuple[Lease, LeaseKeeper]:
    lease = store.acquire(study_id, this_owner(), LEASE_TTL_S, is_dead=is_dead)
    return lease, LeaseKeeper(lambda: store.renew(lease, LEASE_TTL_S), LEASE_TTL_S)


def _give_back(store: Store, lease: Lease, session: Session | None) -> None:
    """Ends a session with one write: there is no finished study that somebody still holds."""
    if session is None:
        store.release(lease, state=StudyState.INTERRUPTED)
    else:
        store.release(lease, state=session.ends_as, elapsed_s=session.elapsed_s)


def _await_sign_of_life(study: StudyRow, store: Store, reporter: Reporter, stop: Stop) -> None:
    """Gives the holder of a lease that has run out the time to renew it, unless it is dead.

    When the clock was set, or the machine slept, every lease seems to have run out until then.

    Raises:
        LeaseHeldError: if it does renew it.
    """
    owner = study.lease_owner
    if owner is None or not store.has_run_out(study) or is_dead(owner):
        return
    wait_s = 2 * LEASE_TTL_S / RENEWALS_PER_TTL
    reporter.note(
        f"another process holds study {study.name!r}, but is late; looking for {wait_s:.0f} s "
        "whether it lives"
    )
    until, seen = time.monotonic() + wait_s, study.lease_expires
    while time.monotonic() < until:
        if stop():
            raise _stopped(study.name)
        time.sleep(min(0.2, wait_s / 10))
        now = store.study(study.name)
        if now is None or now.lease_owner != owner:
            return
        if now.lease_expires is not None and now.lease_expires != seen:
            # By our clock it may have run out again at once: the holder's is another.
            raise LeaseHeldError(owner, now.lease_expires)


def _stopped(name: str) -> InterruptedStudyError:
    return InterruptedStudyError(f"study {name!r} was stopped; the same command continues it")


def _create_or_check(spec: Spec, store: Store) -> StudyRow:
    identity = {"spec": spec.identity()}
    study = store.create_study(spec.name, spec.to_plain(), identity, {})
    changed = changed_fields(study.fingerprint["spec"], identity["spec"])
    if changed:
        raise StudyChangedError(spec.name, changed)
    return study
