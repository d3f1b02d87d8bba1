"""The store: everything that is written to the database of a search, and, inherited, read from it.

Who may write what: one controller per study, under its lease, writes trials and points; events,
certified points and artifact files need no lease, because each is one short transaction that is
right in any order.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, Self

from sqlalchemy import Connection

from trimtab_storage import _events, _lease, _migrations, _points, _studies, _trials
from trimtab_storage._artifact_store import ArtifactStore
from trimtab_storage._objects import fsspec_for
from trimtab_storage.engine import Database
from trimtab_storage.errors import InvalidValueError
from trimtab_storage.places import checked_place
from trimtab_storage.rows import (
    Json,
    Lease,
    NewArtifact,
    NewPoint,
    PointRow,
    Recipe,
    Split,
    StudyRow,
    TrialRow,
)


class Store(ArtifactStore):
    """One database, opened by one process for reading and writing.

    Every method is one transaction: when it returns, what it wrote survives a crash; when it
    raises, it wrote nothing. All errors are `StorageError`s.
    """

    @classmethod
    def open(
        cls,
        url: str,
        *,
        controller: bool = False,
        clock: Callable[[], float] = time.time,
        artifacts: str | None = None,
    ) -> Self:
        """Opens a database for reading and writing, and creates it if it is not there.

        Args:
            url: Such as ``sqlite:///trimtab.db``.
            controller: Whether this process runs a study; it also empties the log at its end.
            clock: Seconds since 1970; what leases and time stamps go by.
            artifacts: The URL of the place for artifact files, such as ``s3://bucket/prefix``;
                without one they lie where those do that are there already, or beside the database.

        Raises:
            StorageError: The URL, the folder or the file will not do; or the place for artifacts,
                or a package that it needs is not installed.
            SchemaError: The file is of a newer trimtab, or of another program.
        """
        place = None if artifacts is None else checked_place(artifacts)
        if place is not None:
            fsspec_for(place)
        store = cls(Database.for_writing(url, controller=controller), clock)
        store._place = place
        try:
            with store._database.write() as connection:
                _migrations.prepare(connection, store._now())
        except BaseException:
            store.close()
            raise
        return store

    # Studies

    def create_study(self, name: str, spec: Json, fingerprint: Json, limits: Json) -> StudyRow:
        """Creates a study, or gives the one that has this name already, as it is."""
        with self._database.write() as connection:
            return _studies.create(connection, name, spec, fingerprint, limits, self._now())

    def update_study(
        self,
        lease: Lease,
        *,
        spec: Json | None = None,
        limits: Json | None = None,
        state: str | None = None,
        baseline: Json | None = None,
        elapsed_s: float | None = None,
        fingerprint: Json | None = None,
    ) -> StudyRow:
        """Changes what is given of a study and returns it."""
        values: dict[str, Any] = {
            "spec": spec,
            "limits": limits,
            "state": state,
            "baseline": baseline,
            "elapsed_s": elapsed_s,
            "fingerprint": fingerprint,
        }
        with self._holding(lease) as connection:
            return _studies.change(connection, lease.study_id, values)

    # Leases

    def acquire(
        self,
        study_id: int,
        owner: str,
        ttl_s: float,
        *,
        is_dead: Callable[[str], bool] | None = None,
    ) -> Lease:
        """Takes the lease on a study for `ttl_s` seconds.

        Args:
            study_id: The study to control.
            owner: Who asks; must differ between any two processes that ever ask.
            ttl_s: How long the lease holds without `renew`.
            is_dead: Asked about the present owner of a lease that still runs; must be quick, as
                it is called inside the transaction, and say True only when it is certain.

        Raises:
            LeaseHeldError: Somebody else has it, and may be alive.
        """
        with self._database.write() as connection:
            now = self._clock()
            return _lease.acquire(
                connection, study_id, owner, now=now, expires=now + ttl_s, is_dead=is_dead
            )

    def has_run_out(self, study: StudyRow) -> bool:
        """Tells whether somebody had the lease on a study and has not renewed it in time."""
        return study.lease_expires is not None and study.lease_expires <= self._clock()

    def renew(self, lease: Lease, ttl_s: float) -> None:
        """Makes the lease hold for another `ttl_s` seconds from now."""
        with self._holding(lease) as connection:
            _lease.renew(connection, lease, self._clock() + ttl_s)

    def release(
        self, lease: Lease, *, state: str | None = None, elapsed_s: float | None = None
    ) -> None:
        """Gives the study back; nothing can be written under this lease any more.

        How it ended is written with it, so that no crash comes between. Trials that still run wait
        again, and their attempts are given back: whoever stops is not the trial's fault. Nothing
        has to be recovered before the study goes on.
        """
        with self._holding(lease) as connection:
            _trials.recover(connection, lease, own=True)
            _studies.change(connection, lease.study_id, {"state": state, "elapsed_s": elapsed_s})
            _lease.release(connection, lease)

    # Trials

    def add_trial(self, lease: Lease, recipe: Recipe, recipe_key: str) -> TrialRow:
        """Adds a waiting trial with the next number, counted from 0.

        Raises:
            DuplicateRecipeError: The study has a trial with this key.
        """
        with self._holding(lease) as connection:
            return _trials.add(connection, lease.study_id, recipe, recipe_key, self._now())

    def start_trial(self, lease: Lease, trial_id: int) -> int:
        """Moves a trial from waiting to running and gives the number of this attempt, from 1.

        Raises:
            TrialStateError: It is not waiting.
        """
        with self._holding(lease) as connection:
            return _trials.start(connection, lease, trial_id)

    def requeue_trial(self, lease: Lease, trial_id: int, attempt: int, reason: str) -> None:
        """Moves a trial from running back to waiting; the attempt stays counted.

        Raises:
            StaleResultError: That attempt is not the running one.
        """
        with self._holding(lease) as connection:
            _trials.requeue(connection, lease, trial_id, attempt, reason)

    def complete_trial(
        self,
        lease: Lease,
        trial_id: int,
        attempt: int,
        *,
        points: Sequence[NewPoint],
        artifacts: Sequence[NewArtifact],
        seconds: float,
        reused: int,
        result: Json,
    ) -> list[int]:
        """Records the result of a trial, with its points and artifacts: all or nothing, once.

        One whose result says ``only_looked_at`` may have no points: it was judged by less, and a
        ``reason`` in the result says so to people.

        Returns:
            The ids of the points, in order; a point that was measured before keeps its row.

        Raises:
            StaleResultError: That attempt is not the running one; nothing is recorded.
        """
        if not points and not result.get("only_looked_at"):
            raise InvalidValueError(
                f"a complete trial must bring at least one point, but trial {trial_id} brings "
                "none: record it with fail_trial"
            )
        artifacts = self._still_there(artifacts)
        with self._holding(lease) as connection:
            _trials.complete(
                connection,
                lease,
                trial_id,
                attempt,
                seconds=seconds,
                reused=reused,
                result=result,
                now=self._now(),
            )
            ids, shared = self._insert(connection, lease, trial_id, points, artifacts)
            _trials.count_shared(connection, trial_id, shared)
            return ids

    def update_trial_points(
        self,
        lease: Lease,
        trial_id: int,
        points: Sequence[NewPoint],
        artifacts: Sequence[NewArtifact],
        seconds: float,
        result: Json | None = None,
    ) -> list[int]:
        """Adds points and the seconds they took to a trial that is complete; gives their ids.

        With a ``result`` it has that one from now on.

        Raises:
            TrialStateError: The trial is not complete.
        """
        artifacts = self._still_there(artifacts)
        with self._holding(lease) as connection:
            _trials.extend(connection, lease, trial_id, seconds, result, self._now())
            ids, shared = self._insert(connection, lease, trial_id, points, artifacts)
            if result is not None:
                _trials.count_shared(connection, trial_id, shared)
            return ids

    def fail_trial(
        self, lease: Lease, trial_id: int, attempt: int, reason: str, seconds: float | None
    ) -> None:
        """Moves a trial from running to failed.

        Raises:
            StaleResultError: That attempt is not the running one.
        """
        with self._holding(lease) as connection:
            _trials.fail(
                connection,
                lease,
                trial_id,
                attempt,
                reason=reason,
                seconds=seconds,
                now=self._now(),
            )

    def recover_trials(self, lease: Lease) -> list[TrialRow]:
        """Moves the trials that earlier controllers left running back to waiting.

        Their attempts are given back: a lost controller is not the trial's fault. Trials started
        under this lease are left alone.
        """
        with self._holding(lease) as connection:
            return _trials.recover(connection, lease)

    # Points

    def add_points(
        self, lease: Lease, points: Sequence[NewPoint], artifacts: Sequence[NewArtifact] = ()
    ) -> list[int]:
        """Adds points that belong to no trial, such as the baseline; gives their ids in order."""
        artifacts = self._still_there(artifacts)
        with self._holding(lease) as connection:
            ids, _ = self._insert(connection, lease, None, points, artifacts)
            return ids

    def add_certified_point(self, study_id: int, point: NewPoint) -> PointRow:
        """Adds what was measured on `certify`, once per artifact and knobs; needs no lease.

        Returns:
            The row; if there was one already, that one, unchanged.
        """
        if point.split != Split.CERTIFY:
            raise InvalidValueError(
                f"a certified point must be measured on {Split.CERTIFY}, got {point.split}"
            )
        with self._database.write() as connection:
            (point_id,), _ = _points.add(connection, study_id, None, [point], self._now())
            row = _points.by_id(connection, point_id)
        assert row is not None
        return row

    def refresh_feasible(self, lease: Lease, is_feasible: Callable[[PointRow], bool]) -> int:
        """Judges all points of a study anew; gives how many changed."""
        changed: dict[bool, list[int]] = {True: [], False: []}
        for row in self.points(lease.study_id, split=None):
            feasible = bool(is_feasible(row))
            if feasible != row.feasible:
                changed[feasible].append(row.id)
        with self._holding(lease) as connection:
            for feasible, point_ids in changed.items():
                _points.set_feasible(connection, point_ids, feasible)
        return sum(map(len, changed.values()))

    def set_latencies(
        self,
        lease: Lease,
        latencies: Mapping[int, Json | None],
        is_feasible: Callable[[PointRow], bool],
    ) -> list[PointRow]:
        """Replaces what is known of the latency of points, judges them anew, and gives them.

        The frontier of latency follows. A latency without a ``value``, or whose ``verdict`` is
        ``unstable``, has no place there.

        Raises:
            UnknownRowError: One is no point of the leased study; nothing is changed.
        """
        with self._holding(lease) as connection:
            rows = _points.set_latencies(connection, lease.study_id, latencies)
            for feasible in (True, False):
                ids = [row.id for row in rows if bool(is_feasible(row)) is feasible]
                _points.set_feasible(connection, ids, feasible)
            return [replace(row, feasible=bool(is_feasible(row))) for row in rows]

    # Events

    def log_event(self, study_id: int, kind: str, data: Json) -> int:
        """Adds an event and gives its id; needs no lease."""
        with self._database.write() as connection:
            return _events.log(connection, study_id, kind, data, self._now())

    @contextmanager
    def _holding(self, lease: Lease) -> Iterator[Connection]:
        with self._database.write() as connection:
            _lease.check(connection, lease)
            yield connection

    def _insert(
        self,
        connection: Connection,
        lease: Lease,
        trial_id: int | None,
        points: Sequence[NewPoint],
        artifacts: Sequence[NewArtifact],
    ) -> tuple[list[int], int]:
        self._record(connection, artifacts)
        return _points.add(connection, lease.study_id, trial_id, points, self._now())
