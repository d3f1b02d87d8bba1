"""A study whose models lie in another place than beside its database."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import trimtab
from trimtab_storage import Reader, RemoteFiles, check_invariants


def test_a_study_runs_and_emits_with_its_models_in_another_place(
    workspace: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    command: Callable[..., Any],
    one_thread: None,
    verify_here: None,
) -> None:
    monkeypatch.setenv("TRIMTAB_CACHE", str(tmp_path / "cache"))
    workspace.edit({"trials: 2": "trials: 1", "epochs: 10": "epochs: 4"})
    place = f"file://{tmp_path}/place"
    trimtab.run(trimtab.Spec.load(workspace.spec), db=workspace.db, artifacts=place)
    with Reader.open_reader(workspace.db) as reader:
        kept = reader.kept_artifacts()
        assert kept and all(str(row.path).startswith(f"{place}/") for row in kept)
        assert check_invariants(reader, 1) == []
        files = reader.artifact_files("test")
        assert isinstance(files, RemoteFiles)
        assert set(files._uploads()) == {row.key for row in kept}, "what was dropped is gone there"
    assert not (workspace.folder / "trimtab-artifacts").exists()
    # From here on as on a machine that has nothing but the database.
    monkeypatch.setenv("TRIMTAB_CACHE", str(tmp_path / "another cache"))
    study = trimtab.open_study("starter", db=workspace.db)
    assert study.by_length()["metric"].notna().any()
    study.emit(tmp_path / "out")
    trimtab.verify(tmp_path / "out")
    moved = f"file://{tmp_path}/elsewhere"
    ran = command("run", str(workspace.spec), "--db", workspace.db, "--artifacts", moved)
    assert ran.code == 2
    assert "cannot lie in" in ran.err


def test_a_place_that_may_not_be_is_told_before_anything_runs(
    workspace: Any, monkeypatch: pytest.MonkeyPatch, command: Callable[..., Any]
) -> None:
    monkeypatch.setenv("TRIMTAB_ARTIFACTS", "ftp://user:hunter2@host/x")
    ran = command("run", str(workspace.spec), "--db", workspace.db)
    assert ran.code == 2
    assert "must begin with file://" in ran.err
    assert "hunter2" not in ran.err
    assert not (workspace.folder / "trimtab.db").exists()
