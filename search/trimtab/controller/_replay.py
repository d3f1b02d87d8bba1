"""Running one trial of a study again, here and in the foreground, to see what it does.

Nothing is written to the database or beside it: the work is done in a scratch folder, which is
removed afterwards. What the trial started from is taken from the study's artifacts where it is
still there, and made anew where it is not; the last step is always done again.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trimtab.controller._baseline import Baseline
from trimtab.controller._history import recipe_of
from trimtab.controller._known_prices import known_prices
from trimtab.controller._ladder import ladder
from trimtab.controller._limits import budget_ratio, finetune_of, task_of
from trimtab.controller._points import PointMaker
from trimtab.controller._report import Reporter, RunningJob
from trimtab.controller._runner import POLL_S, JobRunner
from trimtab.controller._steps import Link, Rungs, Steps, costs_in_words
from trimtab.emission import check_unchanged
from trimtab.errors import InputError
from trimtab.forge import is_on_disk
from trimtab.selection import Limits, excess
from trimtab.spec import Spec
from trimtab_storage import ArtifactFiles, NewPoint, Reader, StudyRow, TrialRow
from trimtab_workers.executors import Executor, Failure, Job, make_executor
from trimtab_workers.jobs import BaselineJob, Measurement, Place, RungResult, SurveyJob

Watch = Callable[[Callable[[], Sequence[RunningJob]]], None]


@dataclass(frozen=True)
class Replay:
    """What came of a trial here: the failure, or the best of its ``n_points`` points."""

    trial: TrialRow
    seconds: float
    failure: Failure | None = None
    best: NewPoint | None = None
    n_points: int = 0


class _FailedError(Exception):
    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.message)
        self.failure = failure


def replay_trial(
    reader: Reader,
    study: StudyRow,
    number: int,
    reporter: Reporter,
    watch: Watch = lambda jobs: None,
    executor: Executor | None = None,
) -> Replay:
    """Runs the recipe of a trial again, whatever became of it in the study.

    Args:
        reader: The study's database; it is only read.
        study: The study's row.
        number: The trial's.
        reporter: Is told what is done.
        watch: Is given, once, what lists the running jobs.
        executor: What to run on; by default this process.

    Raises:
        InputError: if there is no such trial, or the model or the data cannot be worked with.
        StudyChangedError: if model or data are not what the study measured.
    """
    trial = _trial_of(reader, study, number)
    spec = Spec.from_mapping(study.spec, allow_hub=True)
    with (
        tempfile.TemporaryDirectory(prefix="trimtab-replay-") as folder,
        executor or _inline(spec.workers.device) as chosen,
    ):
        files = ArtifactFiles(Path(folder) / "artifacts", "replay")
        runner = JobRunner(chosen, lambda: None)
        watch(runner.running)
        stage = _Stage(reader, study, Place(task_of(spec), spec.model, files), runner, reporter)
        return stage.replay(spec, trial)


def _trial_of(reader: Reader, study: StudyRow, number: int) -> TrialRow:
    trials = reader.trials(study.id)
    found = next((trial for trial in trials if trial.number == number), None)
    if found is None:
        there = f"its trials are 0 to {trials[-1].number}" if trials else "it has no trials yet"
        raise InputError(f"study {study.name!r} has no trial {number}: {there}")
    return found


def _inline(device: str) -> Executor:
    return make_executor("inline", count=1, gpus_each=0, device=device, address=None)


class _Stage:
    """The scratch folder with what is in it, and the hands to work there."""

    def __init__(
        self, reader: Reader, study: StudyRow, place: Place, runner: JobRunner, reporter: Reporter
    ) -> None:
        self._reader, self._study, self._place = reader, study, place
        self._runner, self._reporter = runner, reporter
        self._theirs = reader.artifact_files("replay")
        self._here: set[str] = set()

    def replay(self, spec: Spec, trial: TrialRow) -> Replay:
        baseline = self._baseline(spec)
        limits = Limits(**self._study.limits)
        budget = budget_ratio(limits, baseline.measurement.flops)
        prices = known_prices(self._reader, self._study.id)
        steps = Steps(self._reader, self._place, baseline, limits, prices)
        links = steps.links(recipe_of(trial), ladder(budget))
        started = time.monotonic()
        try:
            for link in links[:-1]:
                if not self._bring(link.rungs[0][1]):
                    self._make(steps, link, link.rungs)
            results = self._make(steps, links[-1], links[-1].rungs)
        except _FailedError as failed:
            return Replay(trial, time.monotonic() - started, failure=failed.failure)
        points = _points(PointMaker(baseline.measurement, limits), results)
        best = min(points, key=lambda point: _rank(point, limits))
        return Replay(trial, time.monotonic() - started, best=best, n_points=len(points))

    def _baseline(self, spec: Spec) -> Baseline:
        """Gives the study's dense model; it is trained again only if its files are gone."""
        known = self._study.baseline
        assert known is not None, "a trial comes after the baseline"
        survey = self._runner.run(SurveyJob(self._place), self._say("reading data and model"))
        check_unchanged(self._study.name, self._study.fingerprint, survey)
        if not self._bring(known["artifact"]):
            job = BaselineJob(self._place, known["artifact"], finetune_of(spec), None)
            self._runner.run(job, self._say("making the baseline again"))
        facts = {name: known[name] for name in ("metric", "n", "flops", "params")}
        return Baseline(known["artifact"], survey, Measurement("search", **facts))

    def _make(self, steps: Steps, link: Link, rungs: Rungs) -> Any:
        name, statistics = link.step.strategy, steps.statistics_key(link)
        if statistics is not None and not self._bring(statistics):
            self._run(steps.statistics_job(link, statistics), f"{name} statistics")
            self._here.add(statistics)
        return self._run(steps.ladder_job(link, rungs), costs_in_words(link, rungs))

    def _run(self, job: Job, what: str) -> Any:
        """Runs a step of the trial; how it fails is what one wants to know, so it is kept whole."""
        ticket = self._runner.submit(job, self._say(what))
        while True:
            for outcome in self._runner.executor.wait(POLL_S):
                if outcome.ticket == ticket:
                    self._runner.forget(ticket)
                    if outcome.failure is not None:
                        raise _FailedError(outcome.failure)
                    return outcome.value

    def _bring(self, key: str) -> bool:
        """Puts an artifact of the study into the scratch folder; false where its files are gone."""
        row = self._reader.artifact(key)
        if key in self._here:
            return True
        if row is None or not is_on_disk(row, self._theirs):
            return False
        shutil.copytree(self._theirs.path(key), _folder(self._place, key), copy_function=_link)
        self._here.add(key)
        return True

    def _say(self, what: str) -> str:
        self._reporter.note(what)
        return what


def _folder(place: Place, key: str) -> Path:
    folder = place.files.path(key)
    folder.parent.mkdir(parents=True, exist_ok=True)
    return folder


def _link(source: str, target: str) -> None:
    """Gives a file a second name, or copies it where that cannot be; artifacts never change."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)


def _points(maker: PointMaker, results: Sequence[RungResult]) -> list[NewPoint]:
    return [
        point for result in results for point in maker.points(result.key, [], result.measurement)
    ]


def _rank(point: NewPoint, limits: Limits) -> tuple[bool, float, float]:
    """Puts the best first, or the closest where none is within the limits."""
    over = excess(point, limits)  # type: ignore[arg-type]
    return not point.feasible, point.drop if point.feasible else over, point.flops_ratio
