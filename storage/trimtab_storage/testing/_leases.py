"""One controller at a time, and a superseded one writes nothing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from trimtab_storage.errors import (
    InvalidValueError,
    LeaseHeldError,
    LeaseLostError,
    StaleResultError,
    UnknownRowError,
)
from trimtab_storage.rows import (
    Lease,
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


class LeaseContract(ContractFixtures):
    """One controller at a time, and a superseded one writes nothing."""

    def test_held_lease_is_refused(self, store: Store, lease: Lease) -> None:
        """And the error tells who has it and until when."""
        with pytest.raises(LeaseHeldError) as caught:
            store.acquire(lease.study_id, "two", TTL_S, is_dead=lambda owner: False)
        assert (caught.value.owner, caught.value.expires) == ("one", 1_800_000_000.0 + TTL_S)

    def test_lease_of_a_dead_owner_is_taken(self, store: Store, lease: Lease) -> None:
        """Without waiting; `is_dead` is asked about the owner."""
        asked: list[str] = []

        def is_dead(owner: str) -> bool:
            asked.append(owner)
            return True

        taken = store.acquire(lease.study_id, "two", TTL_S, is_dead=is_dead)
        assert asked == ["one"]
        assert taken.fence == lease.fence + 1

    def test_expired_lease_is_taken(self, store: Store, lease: Lease, clock: ManualClock) -> None:
        """At the moment it runs out, not before; renewing moves that moment."""
        clock.now += TTL_S / 2
        store.renew(lease, TTL_S)
        clock.now += TTL_S - 1
        with pytest.raises(LeaseHeldError):
            store.acquire(lease.study_id, "two", TTL_S)
        clock.now += 1
        assert store.acquire(lease.study_id, "two", TTL_S).fence == lease.fence + 1

    def test_expired_lease_that_nobody_took_still_writes(
        self, store: Store, lease: Lease, clock: ManualClock
    ) -> None:
        """A jump of the clock alone takes nothing away."""
        clock.now += 3600
        store.add_trial(lease, make_recipe(1), "a")
        store.renew(lease, TTL_S)
        with pytest.raises(LeaseHeldError):
            store.acquire(lease.study_id, "two", TTL_S)

    def test_released_lease_is_free_and_writes_nothing(self, store: Store, lease: Lease) -> None:
        """The next one starts with a higher fence."""
        store.release(lease)
        with pytest.raises(LeaseLostError):
            store.release(lease)
        with pytest.raises(LeaseLostError):
            store.add_trial(lease, make_recipe(1), "a")
        assert store.acquire(lease.study_id, "two", TTL_S).fence == lease.fence + 1

    def test_how_it_ended_is_written_with_the_release(self, store: Store, lease: Lease) -> None:
        """And who takes it again runs it from the same moment on."""
        (study,) = store.studies()
        assert study.state == "running"
        store.release(lease, state="finished", elapsed_s=7.5)
        (study,) = store.studies()
        assert (study.state, study.elapsed_s, study.lease_owner) == ("finished", 7.5, None)
        again = store.acquire(study.id, "two", TTL_S)
        assert store.studies()[0].state == "running"
        with pytest.raises(InvalidValueError, match="state"):
            store.release(again, state="over")
        assert store.studies()[0].lease_owner == "two"

    def test_release_puts_running_trials_back(self, store: Store, lease: Lease) -> None:
        """With their attempts given back; a crash before stays counted, what is over stays over."""
        done = complete(store, lease, 0)
        trial = store.add_trial(lease, make_recipe(1), "a")
        store.requeue_trial(lease, trial.id, store.start_trial(lease, trial.id), "crashed")
        attempt = store.start_trial(lease, trial.id)
        failed = store.add_trial(lease, make_recipe(2), "b")
        store.fail_trial(lease, failed.id, store.start_trial(lease, failed.id), "oom_host", 1.0)
        other = store.create_study("other", {}, {}, {})
        theirs = store.acquire(other.id, "other", TTL_S)
        store.start_trial(theirs, store.add_trial(theirs, make_recipe(1), "a").id)
        store.release(lease)
        rows = store.trials(lease.study_id)
        assert [(row.id, row.state, row.attempts) for row in rows] == [
            (done.id, "complete", 1),
            (trial.id, "waiting", 1),
            (failed.id, "failed", 1),
        ]
        assert store.trial_counts(other.id)["running"] == 1
        taken = store.acquire(lease.study_id, "two", TTL_S)
        assert store.recover_trials(taken) == []
        with pytest.raises(StaleResultError):
            store.fail_trial(taken, trial.id, attempt, "late", 1.0)

    def test_lease_on_no_study_is_refused(self, store: Store) -> None:
        """There is nothing to lease."""
        with pytest.raises(UnknownRowError):
            store.acquire(99, "one", TTL_S)

    def test_every_write_of_a_superseded_controller_is_rejected(
        self, store: Store, lease: Lease, clock: ManualClock
    ) -> None:
        """A controller paused beyond its lease finds all doors shut, and nothing has changed."""
        done = complete(store, lease, 1)
        waiting = store.add_trial(lease, make_recipe(2), "b")
        running = store.add_trial(lease, make_recipe(3), "c")
        attempt = store.start_trial(lease, running.id)
        clock.now += TTL_S + 1
        store.acquire(lease.study_id, "two", TTL_S)
        before = (store.studies(), store.trials(lease.study_id), store.points(lease.study_id))
        result: dict[str, Any] = {
            "points": [make_point("ff00")],
            "artifacts": [make_artifact("ff00")],
            "seconds": 1.0,
        }
        late: list[Callable[[], object]] = [
            lambda: store.update_study(lease, state="finished"),
            lambda: store.renew(lease, TTL_S),
            lambda: store.release(lease),
            lambda: store.add_trial(lease, make_recipe(4), "d"),
            lambda: store.start_trial(lease, waiting.id),
            lambda: store.requeue_trial(lease, running.id, attempt, "late"),
            lambda: store.complete_trial(lease, running.id, attempt, reused=0, result={}, **result),
            lambda: store.fail_trial(lease, running.id, attempt, "late", 1.0),
            lambda: store.recover_trials(lease),
            lambda: store.update_trial_points(lease, done.id, **result),
            lambda: store.add_points(lease, [make_point("ff00")], [make_artifact("ff00")]),
            lambda: store.refresh_feasible(lease, lambda point: not point.feasible),
            lambda: store.record_artifact(lease, make_artifact("ff00")),
        ]
        for write in late:
            with pytest.raises(LeaseLostError, match="two holds it now"):
                write()
        after = (store.studies(), store.trials(lease.study_id), store.points(lease.study_id))
        assert after == before
        assert store.artifacts() == []
