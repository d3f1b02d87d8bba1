"""A trial is recorded exactly once."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from trimtab_storage.errors import (
    DuplicateRecipeError,
    InvalidValueError,
    StaleResultError,
    TrialStateError,
    UnknownRowError,
)
from trimtab_storage.invariants import check_invariants
from trimtab_storage.rows import (
    Lease,
    TrialState,
)
from trimtab_storage.store import Store
from trimtab_storage.testing._base import ContractFixtures
from trimtab_storage.testing._values import (
    TTL_S,
    ManualClock,
    complete,
    make_artifact,
    make_point,
    make_recipe,
)


class TrialContract(ContractFixtures):
    """A trial is recorded exactly once."""

    def test_trials_are_numbered_per_study(self, store: Store, lease: Lease) -> None:
        """From 0, without gaps, whatever other studies do."""
        other = store.create_study("other", {}, {}, {})
        theirs = store.acquire(other.id, "one", TTL_S)
        numbers = [
            store.add_trial(held, make_recipe(i), f"k{i}").number
            for i, held in enumerate((lease, theirs, lease, theirs, lease))
        ]
        assert numbers == [0, 0, 1, 1, 2]
        assert [trial.number for trial in store.trials(lease.study_id)] == [0, 1, 2]
        assert [trial.number for trial in store.trials(lease.study_id, from_number=1)] == [1, 2]

    def test_one_trial_is_given_as_it_is_now(self, store: Store, lease: Lease) -> None:
        store.add_trial(lease, make_recipe(0), "a")
        trial = store.add_trial(lease, make_recipe(1), "b")
        store.start_trial(lease, trial.id)
        assert store.trial(trial.id) == store.trials(lease.study_id)[1]
        assert store.trial(trial.id + 1) is None

    def test_repeated_recipe_is_refused(self, store: Store, lease: Lease) -> None:
        """Within a study; the error names the trial that has it."""
        store.add_trial(lease, make_recipe(0), "x")
        first = store.add_trial(lease, make_recipe(1), "a")
        with pytest.raises(DuplicateRecipeError) as caught:
            store.add_trial(lease, make_recipe(1), "a")
        assert caught.value.number == first.number == 1

    def test_trial_runs_and_completes(self, store: Store, lease: Lease, clock: ManualClock) -> None:
        """Its row tells everything, and its points and artifacts are there."""
        trial = store.add_trial(lease, make_recipe(1), "a")
        assert (trial.state, trial.attempts, trial.recipe) == ("waiting", 0, make_recipe(1))
        assert store.start_trial(lease, trial.id) == 1
        clock.now += 5
        ids = store.complete_trial(
            lease,
            trial.id,
            1,
            points=[make_point("aa00", drop=0.02), make_point("aa01", flops=5e8)],
            artifacts=[make_artifact("aa00"), make_artifact("aa01")],
            seconds=5.0,
            reused=2,
            result={"best": 0.9},
        )
        (row,) = store.trials(lease.study_id, TrialState.COMPLETE)
        assert (row.seconds, row.reused, row.result) == (5.0, 2, {"best": 0.9})
        assert (row.reason, row.attempts, row.finished_at) == (
            None,
            1,
            "2027-01-15T08:00:05.000000+00:00",
        )
        assert [(p.id, p.artifact_key, p.trial_id) for p in store.points(lease.study_id)] == [
            (ids[0], "aa00", trial.id),
            (ids[1], "aa01", trial.id),
        ]
        assert [artifact.key for artifact in store.artifacts()] == ["aa00", "aa01"]
        assert check_invariants(store, lease.study_id) == []

    def test_counts_name_all_states(self, store: Store, lease: Lease) -> None:
        """Also those with no trial."""
        complete(store, lease, 1)
        store.add_trial(lease, make_recipe(2), "b")
        counts = store.trial_counts(lease.study_id)
        assert counts == {"waiting": 1, "running": 0, "complete": 1, "failed": 0}

    def test_only_a_waiting_trial_starts(self, store: Store, lease: Lease) -> None:
        """A running one does not start twice, one that is not there not at all."""
        trial = store.add_trial(lease, make_recipe(1), "a")
        store.start_trial(lease, trial.id)
        with pytest.raises(TrialStateError, match="running"):
            store.start_trial(lease, trial.id)
        with pytest.raises(UnknownRowError):
            store.start_trial(lease, trial.id + 1)

    def test_requeued_attempt_counts_and_its_late_result_is_dropped(
        self, store: Store, lease: Lease
    ) -> None:
        """Whether the trial waits or runs again; the second attempt's result is recorded."""
        trial = store.add_trial(lease, make_recipe(1), "a")
        first = store.start_trial(lease, trial.id)
        store.requeue_trial(lease, trial.id, first, "worker killed")
        self._assert_stale(store, lease, trial.id, first)
        second = store.start_trial(lease, trial.id)
        assert second == 2
        self._assert_stale(store, lease, trial.id, first)
        self._finish(store, lease, trial.id, second)
        (row,) = store.trials(lease.study_id)
        assert (row.state, row.attempts) == ("complete", 2)

    def test_result_is_recorded_once(self, store: Store, lease: Lease) -> None:
        """The same result again is late, and so are failures."""
        trial = store.add_trial(lease, make_recipe(1), "a")
        attempt = store.start_trial(lease, trial.id)
        self._finish(store, lease, trial.id, attempt)
        self._assert_stale(store, lease, trial.id, attempt)
        assert store.trials(lease.study_id)[0].state == "complete"

    def test_failed_trial_keeps_its_reason(self, store: Store, lease: Lease) -> None:
        """And takes no result any more."""
        trial = store.add_trial(lease, make_recipe(1), "a")
        attempt = store.start_trial(lease, trial.id)
        store.fail_trial(lease, trial.id, attempt, "oom_host", 3.0)
        (row,) = store.trials(lease.study_id, "failed")
        assert (row.reason, row.seconds, row.result) == ("oom_host", 3.0, None)
        self._assert_stale(store, lease, trial.id, attempt)

    def test_complete_trial_without_points_is_refused(self, store: Store, lease: Lease) -> None:
        """The trial goes on running."""
        trial = store.add_trial(lease, make_recipe(1), "a")
        attempt = store.start_trial(lease, trial.id)
        with pytest.raises(InvalidValueError, match="at least one point"):
            store.complete_trial(
                lease, trial.id, attempt, points=[], artifacts=[], seconds=1, reused=0, result={}
            )
        assert store.trial_counts(lease.study_id)["running"] == 1

    def test_bad_value_leaves_no_half_result(self, store: Store, lease: Lease) -> None:
        """Trial, artifacts and points are one transaction."""
        trial = store.add_trial(lease, make_recipe(1), "a")
        attempt = store.start_trial(lease, trial.id)
        with pytest.raises(InvalidValueError):
            store.complete_trial(
                lease,
                trial.id,
                attempt,
                points=[make_point("aa00"), make_point("aa01", knobs={"tau": float("nan")})],
                artifacts=[make_artifact("aa00")],
                seconds=1.0,
                reused=0,
                result={},
            )
        assert store.trial_counts(lease.study_id)["running"] == 1
        assert (store.points(lease.study_id), store.artifacts()) == ([], [])

    def test_lost_controllers_use_up_no_attempts(
        self, store: Store, lease: Lease, clock: ManualClock
    ) -> None:
        """However often; and what they started cannot come back under the new lease."""
        trial = store.add_trial(lease, make_recipe(1), "a")
        store.requeue_trial(lease, trial.id, store.start_trial(lease, trial.id), "crashed")
        held = lease
        for _ in range(3):
            attempt = store.start_trial(held, trial.id)
            assert attempt == 2
            clock.now += TTL_S + 1
            held = store.acquire(lease.study_id, "next", TTL_S)
            self._assert_stale(store, held, trial.id, attempt)
            (row,) = store.recover_trials(held)
            assert (row.id, row.state, row.attempts) == (trial.id, "waiting", 1)

    def test_recovery_leaves_own_and_other_trials_alone(self, store: Store, lease: Lease) -> None:
        """Only what an earlier controller of this study left running comes back."""
        other = store.create_study("other", {}, {}, {})
        theirs = store.acquire(other.id, "other", TTL_S)
        store.start_trial(theirs, store.add_trial(theirs, make_recipe(1), "a").id)
        store.start_trial(lease, store.add_trial(lease, make_recipe(1), "a").id)
        assert store.recover_trials(lease) == []
        assert store.trial_counts(lease.study_id)["running"] == 1
        taken = store.acquire(lease.study_id, "two", TTL_S, is_dead=lambda owner: True)
        assert len(store.recover_trials(taken)) == 1
        assert store.trial_counts(other.id)["running"] == 1

    def test_points_are_added_to_a_complete_trial(self, store: Store, lease: Lease) -> None:
        """Once each, with the seconds they took; other trials are refused."""
        done = complete(store, lease, 1, make_point("aa00"))
        points = [make_point("aa00"), make_point("aa01", flops=1e8)]
        ids = store.update_trial_points(lease, done.id, points, [make_artifact("aa01")], 3.0)
        rows = store.points(lease.study_id)
        assert [row.id for row in rows] == ids
        assert [row.on_flops_frontier for row in rows] == [False, True]
        assert store.trials(lease.study_id)[0].seconds == 5.0
        waiting = store.add_trial(lease, make_recipe(2), "b")
        with pytest.raises(TrialStateError, match="waiting"):
            store.update_trial_points(lease, waiting.id, points, [], 1.0)

    def _finish(self, store: Store, lease: Lease, trial_id: int, attempt: int) -> None:
        store.complete_trial(
            lease,
            trial_id,
            attempt,
            points=[make_point()],
            artifacts=[],
            seconds=1.0,
            reused=0,
            result={},
        )

    def _assert_stale(self, store: Store, lease: Lease, trial_id: int, attempt: int) -> None:
        points = store.points(lease.study_id)
        late: tuple[Callable[[], None], ...] = (
            lambda: self._finish(store, lease, trial_id, attempt),
            lambda: store.fail_trial(lease, trial_id, attempt, "late", 1.0),
            lambda: store.requeue_trial(lease, trial_id, attempt, "late"),
        )
        for write in late:
            with pytest.raises(StaleResultError):
                write()
        assert store.points(lease.study_id) == points
