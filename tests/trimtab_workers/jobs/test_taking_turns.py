"""Every job that times holds the turn while it does, and not while it loads."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from trimtab_strategies.families import to_elastic
from trimtab_workers.executors import WorkerContext
from trimtab_workers.jobs import BenchJob, Candidate, DeliveredJob, Place, TableJob, _bench
from trimtab_workers.jobs._place import save_elastic
from trimtab_workers.latency import measuring, process
from trimtab_workers.latency._taking_turns import turn_to_time
from trimtab_workers.latency.workload import Workload
from trimtab_workers.sources import load_stock_model

WORKLOAD = Workload(batch_size=2, device="cpu", threads=1)


def is_free() -> bool:
    with turn_to_time("cpu", WorkerContext("cpu", lambda *_: None), most_wait_s=0.0) as has_turn:
        return has_turn


@pytest.fixture
def jobs(
    make_model: Any, toy_task: Any, tmp_path: Path, saved_models: Any, files: Any
) -> dict[str, Any]:
    save_elastic(to_elastic(load_stock_model(make_model(), num_labels=2)), tmp_path / "dense")
    place = Place(toy_task(), str(saved_models["bert"]), files)
    return {
        "bench": BenchJob(place, "dense", (Candidate("dense"),), WORKLOAD, "p50"),
        "table": TableJob(place, "dense", WORKLOAD),
        "delivered": DeliveredJob(place, "dense", str(tmp_path / "dense"), WORKLOAD, "p50"),
    }


@pytest.mark.parametrize(
    ("name", "module", "timing"),
    [
        ("bench", _bench, "bench"),
        ("table", measuring, "measure_table"),
        ("delivered", process, "measure_in_fresh_process"),
    ],
)
def test_a_job_holds_the_turn_while_it_times(
    name: str,
    module: Any,
    timing: str,
    jobs: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    free: list[bool] = []
    monkeypatch.setattr(module, timing, lambda *_: free.append(is_free()) or Plain())
    report: Callable[..., None] = lambda *_: free.append(is_free())  # noqa: E731
    jobs[name].run(WorkerContext("cpu", report))
    assert free[-1] is False and is_free()


class Plain:
    def to_plain(self) -> dict[str, Any]:
        return {}
