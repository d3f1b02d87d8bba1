"""The live status block: what one line tells of a run, and jobs alone."""

from __future__ import annotations

from typing import Any

from rich.console import Console

from trimtab.cli._live import RunReporter, _summary
from trimtab.controller import RunningJob, Status
from trimtab_workers.executors import Progress


def status(**changes: Any) -> Status:
    facts: dict[str, Any] = {
        "study": "reviews",
        "state": "running",
        "trials": {"waiting": 0, "running": 1, "complete": 3, "failed": 1},
        "wanted_trials": 9,
        "reused": 2,
        "baseline": None,
        "best": {"flops_ratio": 0.4, "drop": 0.004, "feasible": True},
        "hypervolume": 0.5234,
        "elapsed_s": 61.0,
        "remaining_s": 60.0,
        "jobs": list,
    }
    return Status(**{**facts, **changes})


def test_one_line_tells_it_all() -> None:
    assert _summary(status()).split(" · ") == [
        "reviews: 4 of 9 trials",
        "1 running",
        "1 failed",
        "2 results reused",
        "best: 40.0% FLOPs at +0.40 pt",
        "hypervolume 52.3%",
        "1 min 1 s used, at most 1 min 0 s left",
    ]


def test_an_estimate_of_what_is_left_is_shown_where_it_is_below_what_is_allowed() -> None:
    assert _summary(status(expected_s=24.0)).endswith("about 24 s left (at most 1 min 0 s)")
    assert _summary(status(expected_s=90.0)).endswith("1 min 1 s used, at most 1 min 0 s left")


def test_before_there_is_a_point_no_hypervolume_is_shown() -> None:
    assert "hypervolume" not in _summary(status(best=None, hypervolume=None))
    assert "hypervolume 0.0%" in _summary(status(hypervolume=0.0))


def test_jobs_can_be_watched_without_a_study() -> None:
    reporter = RunReporter()
    reporter.watch(lambda: [RunningJob("fisher at 4 costs", Progress("tuning", 1, 4), 30.0)])
    console = Console(width=100)
    with console.capture() as captured:
        console.print(reporter._block())
    shown = captured.get()
    assert "fisher at 4 costs" in shown and "tuning 1/4, 30 s left" in shown
    assert "trials" not in shown
