"""How many CPU threads jobs take: a narrow model's work is too little to be shared."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from trimtab_strategies import registry
from trimtab_strategies.base import default_choices
from trimtab_workers import evaluation
from trimtab_workers.executors import Job, WorkerContext
from trimtab_workers.jobs import BaselineJob, LadderJob, MeasureJob, Place, StatisticsJob, _place
from trimtab_workers.task import Finetune

CHOICES = tuple(default_choices(registry.get("fisher")).items())


@pytest.fixture(autouse=True)
def two_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def place(toy_task: Any, saved_models: Any, files: Any) -> Place:
    def save(key: str, write: Callable[[Path], None]) -> Any:
        files.path(key).mkdir()
        write(files.path(key))
        return SimpleNamespace(path=key, sha256="", size_bytes=0)

    files.save = save
    return Place(toy_task(), str(saved_models["bert"]), files)


def jobs(place: Place) -> list[Job]:
    return [
        BaselineJob(place, "dense", Finetune(epochs=1)),
        StatisticsJob(place, "dense", "statistics", "fisher", CHOICES),
        LadderJob(place, "dense", "statistics", "fisher", CHOICES, ((0.6, "pruned"),)),
        MeasureJob(place, "pruned", "search"),
    ]


@pytest.mark.parametrize(("widest", "expected"), [(128, 1), (1, 2)])
def test_all_work_on_a_narrow_model_is_done_by_one_thread(
    place: Place,
    context: WorkerContext,
    monkeypatch: pytest.MonkeyPatch,
    widest: int,
    expected: int,
) -> None:
    monkeypatch.setattr(_place, "NARROW", widest)
    seen: list[int] = []

    def noted(function: Any) -> Any:
        def call(*arguments: Any, **named: Any) -> Any:
            seen.append(torch.get_num_threads())
            return function(*arguments, **named)

        return call

    fisher = type(registry.get("fisher"))
    monkeypatch.setattr(evaluation, "evaluate", noted(evaluation.evaluate))
    monkeypatch.setattr(fisher, "prepare", noted(fisher.prepare))
    monkeypatch.setattr(fisher, "apply", noted(fisher.apply))
    for job in jobs(place):
        n_seen = len(seen)
        job.run(context)
        assert len(seen) > n_seen, f"{type(job).__name__} did none of what is watched"
        assert torch.get_num_threads() == 2, "and what comes after has as many as before"
    assert set(seen) == {expected}
