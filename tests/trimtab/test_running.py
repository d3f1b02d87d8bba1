"""What a run says before it begins."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from trimtab.controller import SilentReporter
from trimtab.running import run_to_result
from trimtab.spec import Spec
from trimtab.starter import write_template
from trimtab_storage import Store, _guards


@pytest.mark.parametrize("affected", [True, False])
def test_a_fault_of_the_sqlite_library_is_said_once_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, affected: bool
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(_guards, "needs_one_checkpointer", lambda version: affected)
    write_template("starter", Path("spec.yaml"))
    reporter = SilentReporter()

    def run_nothing(spec: Spec, store: Store, *rest: Any) -> None:
        store.create_study(spec.name, {}, {}, {})

    monkeypatch.setattr("trimtab.controller.run_study", run_nothing)
    run_to_result(Spec.load(Path("spec.yaml")), db="sqlite:///trimtab.db", reporter=reporter)
    assert len(reporter.notes) == (1 if affected else 0)
    assert all("SQLite" in note and "\n" not in note for note in reporter.notes)
