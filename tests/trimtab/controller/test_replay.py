"""Running one trial again: what is made anew, what is reused, and that nothing is left behind."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Any

import pytest

from trimtab.controller import SilentReporter
from trimtab.controller._replay import Replay, replay_trial
from trimtab.errors import InputError, StudyChangedError
from trimtab_storage import Reader
from trimtab_workers.executors import Failure
from trimtab_workers.jobs import BaselineJob, LadderJob, StatisticsJob, SurveyJob

BOOM = Failure("error", "RuntimeError: boom", "Traceback\nRuntimeError: boom")


@pytest.fixture
def scratch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where scratch folders are made."""
    folder = tmp_path / "scratch"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


def replay(bench: Any, executor: Any, number: int = 0) -> Replay:
    """Replays a trial with a database that can only be read, and looks that nothing changed."""
    before = bench.contents(), everything(bench)
    with Reader.open_reader(f"sqlite:///{bench.folder}/trimtab.db") as reader:
        try:
            return replay_trial(reader, bench.study(), number, SilentReporter(), executor=executor)
        finally:
            assert (bench.contents(), everything(bench)) == before


def everything(bench: Any) -> dict[str, bytes]:
    root = bench.store.artifact_root
    return {str(path): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}


def test_a_trial_that_failed_by_chance_passes(bench: Any, fake: Any, scratch: Path) -> None:
    ladders: list[Any] = []

    def script(job: Any, nth: int) -> Any:
        ladders.extend([job] if isinstance(job, LadderJob) else [])
        return BOOM if ladders == [job] else None

    bench.run(fake(script))
    failed = bench.states().index("failed")
    executor = fake()
    done = replay(bench, executor, failed)
    assert done.failure is None and done.trial.number == failed
    assert done.n_points == 4 and done.best is not None
    assert (done.best.feasible, done.best.flops_ratio) == (True, 0.5)
    assert list(scratch.iterdir()) == [] and executor.closed


@pytest.mark.parametrize("kind", [StatisticsJob, LadderJob])
def test_a_trial_that_fails_again_gives_its_whole_failure(
    bench: Any, fake: Any, scratch: Path, kind: type
) -> None:
    bench.run(fake())

    def script(job: Any, nth: int) -> Any:
        return BOOM if isinstance(job, kind) else None

    for key in [row.key for row in bench.store.artifacts() if row.kind == "statistics"]:
        bench.store.drop_files(files_of(bench), key)
    done = replay(bench, fake(script))
    assert done.failure == BOOM and done.best is None
    assert list(scratch.iterdir()) == []


def test_a_trial_that_counts_in_time_does_so_at_the_prices_of_its_study(
    bench: Any, fake: Any
) -> None:
    made: list[Any] = []

    def script(job: Any, nth: int) -> Any:
        made.extend([job] if isinstance(job, LadderJob) else [])
        return None

    bench.run(fake(script), bench.spec(budget={"latency": {"p95": "60%", "batch_size": 2}}))
    trials = bench.store.trials(bench.study().id)
    number = [t.recipe[0]["choices"]["cost"] for t in trials].index("latency")
    (prices,) = {dict(job.choices)["prices"] for job in made if "prices" in dict(job.choices)}
    executor = fake()
    assert replay(bench, executor, number).failure is None
    assert dict(executor.sent[-1].choices)["prices"] == prices


def files_of(bench: Any) -> Any:
    from trimtab_storage import ArtifactFiles

    return ArtifactFiles(bench.store.artifact_root, "test")


def test_what_is_there_is_reused_and_the_last_step_is_not(bench: Any, fake: Any) -> None:
    bench.run(fake())
    executor = fake()
    replay(bench, executor)
    assert [type(job) for job in executor.sent] == [SurveyJob, LadderJob]
    assert len(executor.sent[-1].rungs) == 4, "all of them, although they were measured"


def test_what_is_gone_or_damaged_is_made_again(bench: Any, fake: Any) -> None:
    bench.run(fake())
    for row in bench.store.artifacts():
        if row.kind in ("baseline", "statistics"):
            folder = bench.store.artifact_root / row.path
            (folder / "model.safetensors").write_text("damaged")
    executor = fake()
    assert replay(bench, executor).failure is None
    kinds = [type(job) for job in executor.sent]
    assert kinds == [SurveyJob, BaselineJob, StatisticsJob, LadderJob]


def test_files_that_cannot_be_linked_are_copied(
    bench: Any, fake: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(source: str, target: str) -> None:
        raise OSError("another file system")

    bench.run(fake())
    monkeypatch.setattr(os, "link", refuse)
    assert replay(bench, fake()).failure is None


def test_the_scratch_folder_goes_whatever_ends_the_replay(
    bench: Any, fake: Any, scratch: Path
) -> None:
    bench.run(fake())
    stop = fake(lambda job, nth: KeyboardInterrupt() if isinstance(job, LadderJob) else None)
    with pytest.raises(KeyboardInterrupt):
        replay(bench, stop)
    assert list(scratch.iterdir()) == [] and stop.closed


@pytest.mark.parametrize("number", [4, 99, -1])
def test_a_trial_that_does_not_exist_is_named(bench: Any, fake: Any, number: int) -> None:
    bench.run(fake())
    with pytest.raises(InputError, match=f"has no trial {number}: its trials are 0 to 3"):
        replay(bench, fake(), number)


def test_other_data_than_the_study_measured_is_refused(
    bench: Any, fake: Any, make_survey: Any
) -> None:
    bench.run(fake())
    other = make_survey(data_fingerprint="data-2")
    with pytest.raises(StudyChangedError, match="contents of the data files"):
        replay(bench, fake(lambda job, nth: other if isinstance(job, SurveyJob) else None))


def test_data_that_cannot_be_read_is_the_users_to_mend(bench: Any, fake: Any) -> None:
    bench.run(fake())
    gone = Failure("input", "dev.tsv: there is no such file")
    with pytest.raises(InputError, match="no such file"):
        replay(bench, fake(lambda job, nth: gone if isinstance(job, SurveyJob) else None))


def test_a_recipe_of_several_steps_starts_from_what_is_left_of_it(bench: Any, fake: Any) -> None:
    """Of the steps before the last one, those whose files are gone are made again."""
    bench.run(fake(), bench.spec(search__strategies=["fisher", "early_exit"], search__trials=3))
    number = next(t.number for t in bench.trials() if len(t.recipe) == 2)
    executor = fake()
    done = replay(bench, executor, number)
    assert done.failure is None
    strategies = [job.strategy for job in executor.sent if isinstance(job, LadderJob)]
    assert strategies[-1] == "early_exit" and strategies[:-1] in ([], ["fisher"])
