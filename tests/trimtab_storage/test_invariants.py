from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from trimtab_storage import ArtifactFiles, Lease, Store, check_invariants
from trimtab_storage.testing import complete, make_artifact, make_point, make_recipe


def spoil(store: Store, statement: str) -> None:
    with store._database.write() as connection:
        connection.exec_driver_sql(statement)


@pytest.fixture
def finished(store: Store, lease: Lease) -> int:
    """A sound study with two complete trials, a failed one and an artifact on the disk."""
    complete(store, lease, 0, make_point("aa00", drop=0.1, flops=1.0))
    complete(store, lease, 1, make_point("bb00", drop=0.2, flops=2.0, latency={"value": 1.0}))
    trial = store.add_trial(lease, make_recipe(2), "recipe-2")
    store.fail_trial(lease, trial.id, store.start_trial(lease, trial.id), "crashed", 1.0)
    store.add_certified_point(lease.study_id, make_point("aa00", split="certify"))
    files = ArtifactFiles(store.artifact_root, "study-1")
    stored = files.save("aa00", lambda folder: (folder / "weights").write_text("…"))
    store.record_artifact(lease, make_artifact("aa00", **vars(stored)))
    store.record_artifact(lease, make_artifact("bb00"))
    store.update_study(lease, state="finished")
    store.release(lease)
    return lease.study_id


def test_sound_study_has_no_problems(store: Store, finished: int) -> None:
    assert check_invariants(store, finished) == []


def test_study_that_is_not_there_is_a_problem(store: Store) -> None:
    assert check_invariants(store, 7) == ["there is no study with id 7"]


@pytest.mark.parametrize(
    ("statement", "problem"),
    [
        ("UPDATE study SET lease_owner = 'x', lease_expires = 1", "x has its lease"),
        ("UPDATE trial SET state = 'running' WHERE number = 2", "trial 2 is running"),
        ("UPDATE trial SET state = 'waiting' WHERE number = 2", "trial 2 is waiting"),
        ("UPDATE trial SET result = NULL WHERE number = 0", "trial 0 is complete, but has no res"),
        ("DELETE FROM point WHERE artifact_key = 'bb00'", "trial 1 is complete, but has no points"),
        ("UPDATE trial SET state = 'failed', reason = 'x' WHERE number = 0", "has 1 point(s)"),
        ("UPDATE trial SET reason = NULL WHERE number = 2", "trial 2 is failed, but has no reason"),
        (
            "UPDATE trial SET recipe = (SELECT recipe FROM trial WHERE number = 0) "
            "WHERE number = 1",
            "trial 1 has the recipe of trial 0",
        ),
        ("UPDATE point SET on_flops_frontier = 0", "wrong flag for the frontier of FLOPs"),
        ("UPDATE point SET on_flops_frontier = 1", "wrong flag for the frontier of FLOPs"),
        ("UPDATE point SET on_latency_frontier = 0", "wrong flag for the frontier of latency"),
        ("UPDATE artifact SET sha256 = 'x'", "artifact aa00 is recorded, but its files"),
        ("UPDATE artifact SET path = 'zz' WHERE key = 'aa00'", "where it cannot be"),
        ("UPDATE artifact SET path = 'bb/bb00' WHERE key = 'bb00'", "artifact bb00 is recorded"),
    ],
)
def test_each_broken_invariant_is_found(
    store: Store, finished: int, statement: str, problem: str
) -> None:
    spoil(store, statement)
    assert any(problem in found for found in check_invariants(store, finished))


def test_missing_file_is_found(store: Store, finished: int) -> None:
    (ArtifactFiles(store.artifact_root, "x").path("aa00") / "weights").unlink()
    (problem,) = check_invariants(store, finished)
    assert problem == "artifact aa00 is recorded, but its files are missing or different"


def test_rows_without_a_parent_are_found(store: Store, finished: int, tmp_path: Path) -> None:
    # A client that does not switch foreign keys on.
    client = sqlite3.connect(tmp_path / "trimtab.db")
    client.execute("UPDATE point SET trial_id = 99 WHERE artifact_key = 'bb00'")
    client.commit()
    client.close()
    problems = check_invariants(store, finished)
    assert any("of point has no trial" in problem for problem in problems)
