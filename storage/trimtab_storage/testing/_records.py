"""Studies, artifacts and events come back as they were written."""

from __future__ import annotations

import pytest

from trimtab_storage.errors import (
    InvalidValueError,
)
from trimtab_storage.rows import (
    Lease,
    StudyRow,
)
from trimtab_storage.store import Store
from trimtab_storage.testing._base import ContractFixtures
from trimtab_storage.testing._values import (
    make_artifact,
    make_recipe,
)


class RecordContract(ContractFixtures):
    """Studies, artifacts and events come back as they were written."""

    def test_study_comes_back_as_it_was_created(self, store: Store, study: StudyRow) -> None:
        """All columns, with the state and counters of a new study."""
        assert store.study("reviews") == study
        assert store.studies() == [study]
        assert store.study("other") is None
        assert (study.state, study.fence, study.lease_owner) == ("new", 0, None)
        assert study.created_at == "2027-01-15T08:00:00.000000+00:00"

    def test_creating_again_returns_the_first(self, store: Store, study: StudyRow) -> None:
        """The second spec is not written."""
        again = store.create_study("reviews", {"seed": 1}, {}, {})
        assert again == study

    def test_update_study_changes_what_is_given(self, store: Store, lease: Lease) -> None:
        """And nothing else."""
        store.update_study(lease, state="running", baseline={"metric": 0.9})
        row = store.update_study(lease, elapsed_s=12.5, limits={"max_drop": 0.02})
        assert (row.state, row.baseline, row.elapsed_s) == ("running", {"metric": 0.9}, 12.5)
        assert (row.limits, row.spec) == ({"max_drop": 0.02}, {"seed": 0})
        assert store.study("reviews") == row

    def test_unknown_study_state_is_refused(self, store: Store, lease: Lease) -> None:
        """With the legal ones listed."""
        with pytest.raises(InvalidValueError, match="new, running, finished, interrupted"):
            store.update_study(lease, state="paused")

    def test_artifact_is_recorded_once(self, store: Store) -> None:
        """What is recorded again changes nothing but the facts of its files."""
        first = store.record_artifact(None, make_artifact("aa00"))
        assert first == store.artifact("aa00")
        facts = {"path": "aa/aa00", "sha256": "11" * 32, "size_bytes": 5}
        store.record_artifact(None, make_artifact("aa00", meta={"other": 1}, **facts))
        row = store.artifact("aa00")
        assert row is not None
        assert (row.path, row.sha256, row.size_bytes) == tuple(facts.values())
        assert row.meta == first.meta
        assert store.artifact("bb00") is None

    def test_dropped_weights_come_back(self, store: Store) -> None:
        """Dropping keeps the recipe; recording without a path does not drop."""
        new = make_artifact("aa00", path="aa/aa00", sha256="11" * 32, size_bytes=5)
        store.record_artifact(None, new)
        store.record_artifact(None, make_artifact("aa00"))
        assert [row.key for row in store.kept_artifacts()] == ["aa00"]
        store.forget_file("aa00")
        assert store.kept_artifacts() == []
        (row,) = store.artifacts()
        assert (row.path, row.recipe) == (None, make_recipe(0))
        store.record_artifact(None, new)
        assert [row.key for row in store.kept_artifacts()] == ["aa00"]

    def test_artifacts_are_found_by_keys(self, store: Store) -> None:
        """Of the keys given, those that are there."""
        for key in ("aa00", "bb00", "cc00"):
            store.record_artifact(None, make_artifact(key))
        assert [row.key for row in store.artifacts(["cc00", "aa00", "dd00"])] == ["aa00", "cc00"]
        assert store.artifacts([]) == []

    def test_events_come_in_order_after_an_id(self, store: Store, study: StudyRow) -> None:
        """Each study has its own."""
        other = store.create_study("other", {}, {}, {})
        ids = [
            store.log_event(owner, "tick", {"i": i})
            for i, owner in enumerate((study.id, other.id, study.id, study.id))
        ]
        assert [row.data["i"] for row in store.events(study.id)] == [0, 2, 3]
        assert [row.data["i"] for row in store.events(study.id, after_id=ids[0])] == [2, 3]
