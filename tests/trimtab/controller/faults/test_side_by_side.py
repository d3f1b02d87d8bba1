"""Two studies in one database at the same time."""

from __future__ import annotations

from typing import Any

import pytest

pytestmark = pytest.mark.slow


def test_two_studies_at_once_share_what_they_can(lab: Any) -> None:
    """They want the same baseline, statistics and models at the same moment."""
    lab.write_spec(name="first", output="runs-1", search__trials=5)
    lab.write_spec(name="second", output="runs-2", search__trials=5, budget__flops="40%")
    processes = [lab.start(name=name, pause_s=0.02) for name in ("first", "second")]
    assert [process.wait(180) for process in processes] == [0, 0], lab.said()
    for name in ("first", "second"):
        study = lab.study(name)
        assert (study.state, study.lease_owner) == ("finished", None)
        assert [trial.state for trial in lab.trials(name)] == ["complete"] * 5
        assert lab.problems(name) == []
    assert lab.leftovers() == []
    baselines = {lab.study(name).baseline["artifact"] for name in ("first", "second")}
    assert len(baselines) == 1
    for number in (1, 2):
        assert (lab.folder / f"runs-{number}" / "checkpoint" / "trimtab.json").is_file()
    # Alone, and with all results there: what both found before takes no work, and comes first.
    lab.write_spec(name="third", output="runs-3", search__trials=5)
    assert lab.run_here("third") == 0
    before = [t.recipe for name in ("first", "second") for t in lab.trials(name)]
    known = [trial for trial in lab.trials("third") if trial.recipe in before]
    assert [trial.number for trial in known[:2]] == [0, 1]
    assert all(t.reused == t.result["points"] and t.result["made"] == 0 for t in known)
