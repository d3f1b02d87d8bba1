"""Artifacts on demand, with jobs that only write a file."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from trimtab.errors import InputError, TrimtabError
from trimtab.forge import (
    Forge,
    measurement_name,
    model_key,
    new_artifact,
    statistics_key,
    stored_measurement,
)
from trimtab_storage import ArtifactFiles, Store
from trimtab_strategies.recipe import Step
from trimtab_workers.jobs import (
    LadderJob,
    Measurement,
    Place,
    RungResult,
    StatisticsJob,
    StatisticsResult,
)
from trimtab_workers.task import DataSource, Task

BASE, DATA = "ba5e", "data-1"
CHOICES = {
    "calibration": 512,
    "importance": "labels",
    "head_weight": 1.0,
    "rearrange": True,
    "tuning": "none",
}
RUNG = 0.4
STEP = Step.of("fisher", CHOICES)
STATISTICS = statistics_key(BASE, DATA, STEP)
MODEL = model_key(BASE, DATA, "fisher", {**CHOICES, "constraint": RUNG})
MEASURED = Measurement("search", 0.8, 100, 4e5, 400)
NAME = measurement_name("accuracy", DATA, "search")


class Bench:
    """A store with a baseline, statistics and one model of them; jobs are noted in `ran`."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.files = ArtifactFiles(store.artifact_root, "study-1")
        source = DataSource(path="/data/train.tsv")
        task = Task(source, source, ("text",), "label", "accuracy", 64, 0)
        self.ran: list[Any] = []
        self.made = MEASURED
        self.forge = Forge(store, Place(task, "/model", self.files), DATA, self.run)
        self.keep(BASE, "baseline", None, [], None)
        self.keep(STATISTICS, "statistics", BASE, [], None)
        recipe = [{"strategy": "fisher", "choices": {**CHOICES, "constraint": RUNG}}]
        self.keep(MODEL, "model", BASE, recipe, MEASURED)

    def keep(
        self,
        key: str,
        kind: str,
        parent: str | None,
        recipe: list[Any],
        measured: Measurement | None,
    ) -> None:
        strategy = "fisher" if kind != "baseline" else None
        stored = self.save(key)
        self.store.record_artifact(
            None, new_artifact(key, kind, parent, recipe, strategy, stored, measured, NAME, 2.0)
        )

    def save(self, key: str) -> Any:
        return self.files.save(key, lambda folder: self.write(folder, key))

    @staticmethod
    def write(folder: Path, key: str) -> None:
        (folder / "weights").write_text(key)

    def run(self, job: Any, label: str) -> Any:
        self.ran.append(job)
        if isinstance(job, StatisticsJob):
            return StatisticsResult(self.save(job.key), 0.1)
        assert isinstance(job, LadderJob)
        return [
            RungResult(key, dict(job.choices), self.save(key), self.made, {}, 0.1)
            for _, key in job.rungs
        ]

    def damage(self, key: str) -> None:
        (self.files.path(key) / "weights").write_text("other")


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    with Store.open(f"sqlite:///{tmp_path}/trimtab.db") as store:
        yield Bench(store)


def test_sound_artifact_is_left_alone(bench: Bench) -> None:
    row = bench.forge.ensure(MODEL)
    assert row == bench.store.artifact(MODEL) and bench.ran == []


@pytest.mark.parametrize("how", ["damaged", "dropped", "gone"])
def test_model_is_made_again_from_its_recipe(bench: Bench, how: str) -> None:
    if how == "damaged":
        bench.damage(MODEL)
    elif how == "dropped":
        bench.store.drop_files(bench.files, MODEL)
    else:
        bench.files.remove(MODEL)
    row = bench.forge.ensure(MODEL)
    assert bench.ran == [
        LadderJob(bench.forge.place, BASE, STATISTICS, "fisher", STEP.choices, ((RUNG, MODEL),))
    ]
    assert row.sha256 is not None and bench.files.verify(MODEL, row.sha256)
    assert stored_measurement(row, NAME) == MEASURED
    assert bench.forge.ensure(MODEL) == row and len(bench.ran) == 1


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"flops": 4e5 + 1}, r"\(flops 400,000 then, 400,001 now\)"),
        ({"params": 399}, "params 400 then, 399 now"),
        ({"metric": 0.78}, "metric 0.8000 then, 0.7800 now"),
        ({"metric": float("nan")}, "metric 0.8000 then, nan now"),
    ],
)
def test_a_rebuilt_model_must_be_the_one_that_was_measured(
    bench: Bench, changes: dict[str, Any], message: str
) -> None:
    bench.damage(MODEL)
    bench.made = replace(MEASURED, **changes)
    with pytest.raises(TrimtabError, match=message):
        bench.forge.ensure(MODEL)
    assert not bench.files.exists(MODEL)
    bench.made = replace(MEASURED, metric=0.81)  # one sample of 100
    assert bench.forge.ensure(MODEL).path is not None


def test_statistics_that_are_needed_are_made_again_too(bench: Bench) -> None:
    bench.damage(STATISTICS)
    bench.damage(MODEL)
    bench.forge.ensure(MODEL)
    assert [type(job) for job in bench.ran] == [StatisticsJob, LadderJob]
    assert bench.ran[0].key == STATISTICS
    row = bench.store.artifact(STATISTICS)
    assert row is not None and row.sha256 is not None
    assert bench.files.verify(STATISTICS, row.sha256)


def test_no_row_claims_files_while_they_are_being_made(bench: Bench) -> None:
    bench.damage(MODEL)
    run = bench.forge.run

    def killed(job: Any, label: str) -> Any:
        raise KeyboardInterrupt

    bench.forge.run = killed
    with pytest.raises(KeyboardInterrupt):
        bench.forge.ensure(MODEL)
    row = bench.store.artifact(MODEL)
    assert row is not None and row.path is None and row.recipe
    bench.forge.run = run
    assert bench.forge.ensure(MODEL).path is not None


def test_baseline_cannot_be_made_here(bench: Bench) -> None:
    bench.damage(BASE)
    for key in (BASE, MODEL):
        bench.damage(key)
        with pytest.raises(InputError, match="run the study again to make them anew"):
            bench.forge.ensure(key)
    assert bench.ran == []


def test_unknown_artifact_is_refused(bench: Bench) -> None:
    with pytest.raises(InputError, match="knows no artifact feed"):
        bench.forge.ensure("feed")


def test_measurement_is_found_by_metric_data_and_split(bench: Bench) -> None:
    row = bench.store.artifact(MODEL)
    assert row is not None and stored_measurement(row, NAME) == MEASURED
    for other in (("f1", DATA, "search"), ("accuracy", "d2", "search"), ("accuracy", DATA, "x")):
        assert stored_measurement(row, measurement_name(*other)) is None
    statistics = bench.store.artifact(STATISTICS)
    assert statistics is not None and stored_measurement(statistics, NAME) is None
