"""Studies of played workers: the controller's time is told from the others', at a small size."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import pytest

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"


@pytest.fixture
def overhead(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module("_overhead")


def test_time_is_split_between_controller_and_sampler(overhead: Any) -> None:
    times = overhead.Times(overhead.InstantExecutor())
    times.read = [
        {"trials": 0, "own": 1.0, "sampler": 0.5},
        {"trials": 10, "own": 1.2, "sampler": 0.6},
        {"trials": 30, "own": 2.2, "sampler": 0.6},
    ]
    rows = [tuple(row.values()) for row in times.rows()]
    assert rows == [pytest.approx((10, 20.0, 10.0)), pytest.approx((30, 50.0, 0.0))]


@pytest.mark.parametrize("search", [{}, {"stop": {"patience": 20}}], ids=["plain", "stop"])
def test_a_small_study_of_played_workers_runs_to_its_end(overhead: Any, search: Any) -> None:
    entry = overhead.measured(20, seed=0, sample_every=5, **search)
    *rows, whole = entry["rows"]
    assert entry["figure"] == whole["controller_ms"] > 0
    assert len(rows) == overhead.N_ROWS
    assert whole["points"] > 20


def test_a_name_that_nothing_has_any_more_is_refused(overhead: Any) -> None:
    played = importlib.import_module("_played")
    with (
        pytest.raises(RuntimeError, match="'nothing_like_it'"),
        played.replaced("nothing_like_it", lambda found: found),
    ):
        pass


def test_points_of_the_frontier_benchmark_are_flagged_by_the_store(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    benchmark = importlib.import_module("frontier_query")
    monkeypatch.setattr(benchmark, "N_SETTINGS", 5)
    assert benchmark.fill(tmp_path / "trimtab.db", seed=0, n_models=8) == 40
    answers = {name: len(ask()) for name, ask in benchmark.queries(tmp_path / "trimtab.db").items()}
    listed, limited, viewed = answers.values()
    assert 0 < limited <= listed == viewed
