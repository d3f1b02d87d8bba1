"""Studies, artifacts and events come back as they were written."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from trimtab_storage.artifacts import ArtifactFiles
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
    make_point,
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
        """What is recorded again changes the facts of its files and adds to its meta."""
        first = store.record_artifact(None, make_artifact("aa00"))
        assert first == store.artifact("aa00")
        _put_files(store, "aa/aa00")
        facts = {"path": "aa/aa00", "sha256": "11" * 32, "size_bytes": 5}
        store.record_artifact(None, make_artifact("aa00", meta={"other": 1}, **facts))
        row = store.artifact("aa00")
        assert row is not None
        assert (row.path, row.sha256, row.size_bytes) == tuple(facts.values())
        assert row.meta == {**first.meta, "other": 1}
        assert store.artifact("bb00") is None

    def test_dropped_weights_come_back(self, store: Store) -> None:
        """Dropping keeps the recipe; recording without a path does not drop."""
        new = make_artifact("aa00", path="aa/aa00", sha256="11" * 32, size_bytes=5)
        _put_files(store, "aa/aa00")
        store.record_artifact(None, new)
        store.record_artifact(None, make_artifact("aa00"))
        assert [row.key for row in store.kept_artifacts()] == ["aa00"]
        store.forget_file("aa00")
        assert store.kept_artifacts() == []
        (row,) = store.artifacts()
        assert (row.path, row.recipe) == (None, make_recipe(0))
        store.record_artifact(None, new)
        assert [row.key for row in store.kept_artifacts()] == ["aa00"]

    def test_measurements_of_one_artifact_add_up(self, store: Store) -> None:
        """Another metric, or other rows, and what was known before stays known."""
        _put_files(store, "aa/aa00")
        files: dict[str, Any] = {"path": "aa/aa00", "sha256": "11" * 32, "size_bytes": 5}
        first = make_artifact(meta={"measured": {"accuracy": {"n": 1}}, "heads": [1, 2]}, **files)
        store.record_artifact(None, first)
        again = make_artifact(meta={"measured": {"f1": {"n": 2}}}, **files)
        row = store.record_artifact(None, again)
        assert row.meta == {
            "measured": {"accuracy": {"n": 1}, "f1": {"n": 2}},
            "heads": [1, 2],
        }

    def test_artifact_whose_files_are_gone_is_recorded_without_them(
        self, store: Store, lease: Lease
    ) -> None:
        """Alone or with points: another process dropped them since they were saved."""
        gone = {"path": "aa/aa00", "sha256": "11" * 32, "size_bytes": 5}
        store.record_artifact(None, make_artifact("aa00", **gone))
        store.add_points(lease, [make_point("aa00")], [make_artifact("aa00", **gone)])
        row = store.artifact("aa00")
        assert row is not None
        assert (row.path, row.recipe) == (None, make_recipe(0))

    def test_models_are_kept_for_frontiers_and_what_those_were_made_from(
        self, store: Store, lease: Lease
    ) -> None:
        """What is beaten, or was made into nothing on a frontier, is not; nor what is dropped."""
        files = {"sha256": "11" * 32, "size_bytes": 5}
        made_from = {"aa00": None, "bb00": "aa00", "cc00": "aa00", "dd00": "cc00", "ee00": None}
        for key, parent in made_from.items():
            _put_files(store, f"{key[:2]}/{key}")
            path = f"{key[:2]}/{key}"
            new = make_artifact(key, kind="model", parent_key=parent, path=path, **files)
            store.record_artifact(None, new)
        store.record_artifact(None, make_artifact("ff00", kind="statistics"))
        costs = {"bb00": 2.0, "dd00": 3.0, "ee00": 4.0}
        drops = {"bb00": 0.02, "dd00": 0.03, "ee00": 0.04}
        store.add_points(
            lease, [make_point(key, flops=costs[key], drop=drops[key]) for key in costs]
        )
        assert store.models_off_frontiers() == ["cc00", "dd00", "ee00"]
        store.forget_file("cc00", "ee00")
        assert store.models_off_frontiers() == ["dd00"]

    def test_dropping_files_leaves_the_recipe(self, store: Store) -> None:
        """Also when it is done twice, or for files that are gone already."""
        files = ArtifactFiles(store.artifact_root, "one")
        stored = files.save("aa00", lambda folder: _write(folder, "weights"))
        store.record_artifact(None, make_artifact("aa00", **asdict(stored)))
        for _ in range(2):
            store.drop_files(files, "aa00")
            assert not files.exists("aa00")
            row = store.artifact("aa00")
            assert row is not None
            assert (row.path, row.recipe) == (None, make_recipe(0))
        store.drop_files(files)

    def test_files_recorded_again_while_they_are_dropped_stay(self, store: Store) -> None:
        """A row with a path has its files, however the two processes take turns."""
        files = ArtifactFiles(store.artifact_root, "one")
        stored = files.save("aa00", lambda folder: _write(folder, "weights"))
        new = make_artifact("aa00", **asdict(stored))
        store.record_artifact(None, new)
        forget = store.forget_file

        def forget_and_lose_the_turn(*keys: str) -> None:
            forget(*keys)
            store.record_artifact(None, new)

        store.forget_file = forget_and_lose_the_turn  # type: ignore[method-assign]
        store.drop_files(files, "aa00")
        row = store.artifact("aa00")
        assert row is not None
        assert row.path is not None and files.verify("aa00", stored.sha256)

    def test_sweep_takes_what_is_not_recorded(self, store: Store) -> None:
        """Of that owner; a row without a path does not keep files either."""
        mine, other = (ArtifactFiles(store.artifact_root, owner) for owner in ("one", "two"))
        saved = {
            key: files.save(key, lambda folder: _write(folder, "weights"))
            for key, files in {"aa00": mine, "bb00": mine, "cc00": mine, "dd00": other}.items()
        }
        store.record_artifact(None, make_artifact("aa00", **asdict(saved["aa00"])))
        store.record_artifact(None, make_artifact("bb00"))
        assert store.sweep_files(mine) == 2
        assert [key for key in saved if mine.exists(key)] == ["aa00", "dd00"]

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

    def test_events_of_one_kind(self, store: Store, study: StudyRow) -> None:
        """The others are left where they are."""
        ids = [store.log_event(study.id, kind, {}) for kind in ("tick", "tock", "tick")]
        assert [row.id for row in store.events(study.id, kind="tick")] == [ids[0], ids[2]]
        assert [row.id for row in store.events(study.id, ids[0], kind="tick")] == [ids[2]]
        assert store.events(study.id, kind="bell") == []


def _put_files(store: Store, path: str) -> None:
    (store.artifact_root / path).mkdir(parents=True)


def _write(folder: Path, text: str) -> None:
    (folder / "file").write_text(text, encoding="utf-8")
