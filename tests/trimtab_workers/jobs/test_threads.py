"""How many CPU threads jobs take: the work of a tiny model is too little to be shared."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from trimtab_strategies import registry
from trimtab_strategies.base import default_choices
from trimtab_strategies.fisher import _pipeline
from trimtab_workers import evaluation, training
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


@pytest.mark.parametrize(
    ("little_macs", "asked_for", "expected"),
    [(5e7, None, 1), (0, None, 2), (5e7, "2", 2)],
    ids=["little", "much", "told how many"],
)
def test_little_work_is_all_done_by_one_thread(
    place: Place,
    context: WorkerContext,
    monkeypatch: pytest.MonkeyPatch,
    little_macs: float,
    asked_for: str | None,
    expected: int,
) -> None:
    monkeypatch.setattr(_place, "LITTLE_MACS", little_macs)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    if asked_for is not None:
        monkeypatch.setenv("OMP_NUM_THREADS", asked_for)
    seen: list[int] = []

    def noted(function: Any) -> Any:
        def call(*arguments: Any, **named: Any) -> Any:
            seen.append(torch.get_num_threads())
            return function(*arguments, **named)

        return call

    monkeypatch.setattr(evaluation, "evaluate", noted(evaluation.evaluate))
    monkeypatch.setattr(training, "finetune", noted(training.finetune))
    monkeypatch.setattr(_pipeline, "gate_gradients", noted(_pipeline.gate_gradients))
    monkeypatch.setattr(_pipeline, "tune", noted(_pipeline.tune))
    for job, n_watched in zip(jobs(place), (2, 1, 2, 1), strict=True):
        n_seen = len(seen)
        job.run(context)
        assert len(seen) - n_seen == n_watched, f"{type(job).__name__} did not do what is watched"
        assert torch.get_num_threads() == 2, "and what comes after has as many as before"
    assert set(seen) == {expected}
