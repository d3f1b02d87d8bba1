"""Whole runs: stopped, taken over, continued, refused; with workers that are played by a script."""

from __future__ import annotations

import random
import shutil
import signal
import time
from typing import Any

import pytest

from trimtab.controller import _run, _sampler, _session
from trimtab.errors import InputError, InterruptedStudyError, JobError, StudyChangedError
from trimtab_storage import DatabaseBusyError, LeaseHeldError, LeaseLostError, Store, _lease
from trimtab_workers.executors import ExecutorLostError, Failure
from trimtab_workers.jobs import (
    BaselineJob,
    LadderJob,
    MeasureJob,
    StatisticsJob,
    SurveyJob,
)

# Stopped


def stop_after(executor: Any, kind: type, n: int) -> Any:
    return lambda: executor.count(kind) >= n


@pytest.mark.parametrize(
    ("kind", "n"), [(SurveyJob, 1), (BaselineJob, 1), (StatisticsJob, 1), (LadderJob, 2)]
)
@pytest.mark.parametrize("slots", [1, 3])
def test_stop_leaves_nothing_running(
    bench: Any, fake: Any, hang: object, kind: type, n: int, slots: int
) -> None:
    executor = fake(slots=slots)
    with pytest.raises(InterruptedStudyError, match="the same command continues it") as caught:
        bench.run(executor, stop=stop_after(executor, kind, n))
    assert caught.value.exit_code == 130
    study = bench.study()
    assert (study.state, study.lease_owner) == ("interrupted", None)
    assert "running" not in bench.states()
    assert executor.closed and bench.problems() == []
    assert not bench.emitted
    bench.run(fake())
    assert bench.states() == ["complete"] * 4 and bench.study().state == "finished"
    assert [trial.attempts for trial in bench.trials()] == [1] * 4


@pytest.mark.parametrize("kind", [SurveyJob, BaselineJob, StatisticsJob, LadderJob])
@pytest.mark.parametrize("reason", ["error", "crashed"])
def test_job_that_fails_because_of_the_stop_is_not_blamed(
    bench: Any, fake: Any, kind: type, reason: Any
) -> None:
    """As when Ctrl-C comes in the middle of an import, which then fails in its own words."""
    stopped: list[int] = []

    def script(job: Any, nth: int) -> Any:
        if not isinstance(job, kind):
            return None
        stopped.append(1)
        return Failure(reason, "ImportError: partially initialised")

    with pytest.raises(InterruptedStudyError):
        bench.run(fake(script), stop=lambda: bool(stopped))
    assert set(bench.states()) <= {"waiting"} and bench.study().state == "interrupted"
    bench.run(fake())
    assert [(trial.state, trial.attempts) for trial in bench.trials()] == [("complete", 1)] * 4


@pytest.mark.parametrize(
    "error",
    [KeyboardInterrupt(), SystemExit(2), ExecutorLostError("Ray is gone"), MemoryError()],
    ids=lambda error: type(error).__name__,
)
@pytest.mark.parametrize("kind", [SurveyJob, BaselineJob, LadderJob])
def test_whatever_ends_a_run_leaves_nothing_running(
    bench: Any, fake: Any, error: BaseException, kind: type
) -> None:
    executor = fake(lambda job, nth: error if isinstance(job, kind) else None, slots=2)
    with pytest.raises(type(error)):
        bench.run(executor)
    study = bench.study()
    assert (study.state, study.lease_owner) == ("interrupted", None)
    assert "running" not in bench.states()
    assert executor.closed and bench.problems() == []
    bench.run(fake())
    assert [(trial.state, trial.attempts) for trial in bench.trials()] == [("complete", 1)] * 4


def test_executor_that_cannot_start_leaves_the_study_free(bench: Any, fake: Any) -> None:
    def broken() -> Any:
        raise ExecutorLostError("no cluster")

    with pytest.raises(ExecutorLostError):
        _session_run(bench, broken)
    assert (bench.study().state, bench.study().lease_owner) == ("interrupted", None)
    bench.run(fake())


def _session_run(bench: Any, make_executor: Any) -> Any:
    from trimtab.controller import run_study

    return run_study(bench.spec(), bench.store, make_executor, bench.reporter)


def test_baseline_that_fails_is_an_error_of_the_run(bench: Any, fake: Any) -> None:
    bad = Failure("error", "RuntimeError: no", "traceback")
    with pytest.raises(JobError, match="measuring the baseline failed"):
        bench.run(fake(lambda job, nth: bad if isinstance(job, BaselineJob) else None))
    wrong = Failure("input", "dev.tsv:7: must have 2 columns")
    with pytest.raises(InputError, match="^dev.tsv:7: must have 2 columns$"):
        bench.run(fake(lambda job, nth: wrong if isinstance(job, SurveyJob) else None))
    bench.run(fake())
    assert bench.study().state == "finished"


@pytest.mark.parametrize("call", ["acquire", "release"])
def test_stop_while_the_lease_is_taken_or_given_back_leaves_the_study_free(
    bench: Any, fake: Any, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    original = getattr(_lease, call)

    def stop_and_go_on(*arguments: Any, **named: Any) -> Any:
        signal.raise_signal(signal.SIGINT)
        return original(*arguments, **named)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(_lease, call, stop_and_go_on)
        bench.run(fake())
    assert bench.study().lease_owner is None
    assert bench.problems() == []
    bench.run(fake())
    assert bench.study().state == "finished"


# Taken over


def take_over(bench: Any) -> tuple[Any, Any]:
    """Lets another controller have the study; gives its lease and what it finds."""
    with Store.open(f"sqlite:///{bench.folder}/trimtab.db") as other:
        lease = other.acquire(bench.study().id, "another/1@1", 60.0, is_dead=lambda owner: True)
        return lease, bench.contents()


@pytest.mark.parametrize("kind", [SurveyJob, BaselineJob, StatisticsJob, LadderJob])
def test_controller_that_lost_its_lease_stops_and_writes_nothing_more(
    bench: Any, fake: Any, kind: type
) -> None:
    taken: list[Any] = []

    def script(job: Any, nth: int) -> Any:
        if isinstance(job, kind) and not taken:
            taken.append(take_over(bench))
        return None

    executor = fake(script, slots=2)
    with pytest.raises(LeaseLostError, match="another/1@1 holds it now"):
        bench.run(executor)
    assert bench.contents() == taken[0][1]
    assert bench.study().lease_owner == "another/1@1", "the lease of the other was left alone"
    assert executor.closed and not bench.emitted


def test_lost_lease_is_noticed_while_waiting(
    bench: Any, fake: Any, hang: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing comes back from the workers here, so only the renewals can tell."""
    monkeypatch.setattr(_session, "LEASE_TTL_S", 0.2)
    taken: list[Any] = []

    def script(job: Any, nth: int) -> Any:
        if isinstance(job, LadderJob):
            taken.append(take_over(bench))
            return hang
        return None

    started = time.monotonic()
    with pytest.raises(LeaseLostError):
        bench.run(fake(script))
    assert time.monotonic() - started < 4
    assert bench.contents() == taken[0][1]


def test_study_has_one_controller(bench: Any, fake: Any) -> None:
    errors: list[BaseException] = []

    def script(job: Any, nth: int) -> Any:
        if isinstance(job, LadderJob) and not errors:
            with pytest.raises(LeaseHeldError) as caught:
                bench.run(fake())
            errors.append(caught.value)
        return None

    bench.run(fake(script))
    assert errors and bench.states() == ["complete"] * 4
    assert bench.problems() == []


# Continued


@pytest.mark.parametrize("begins", ["cold", "warm"])
def test_interrupted_search_proposes_what_an_uninterrupted_one_does(
    bench: Any,
    make_bench: Any,
    fake: Any,
    begins: str,
    monkeypatch: pytest.MonkeyPatch,
    rng: random.Random,
) -> None:
    """Also after another study, and when not all earlier trials are looked at any more."""
    monkeypatch.setattr(_sampler, "MOST_TOLD", 8)
    whole, spec = make_bench("whole"), bench.spec(search__trials=12)
    if begins == "warm":
        for each in (whole, bench):
            each.run(fake(), each.spec(name="before", budget__flops="40%", search__trials=7))
    whole.run(fake(), whole.spec(search__trials=12))
    for _ in range(5):
        executor = fake()
        done = bench.states().count("complete") if bench.store.study("reviews") else 0
        n = rng.randint(1, 2) if done < 11 else 1
        kind = rng.choice([LadderJob, StatisticsJob])
        ending = rng.choice([None, KeyboardInterrupt()])
        executor._script = _ending_after(kind, n, ending)
        try:
            bench.run(executor, spec, stop=_never if ending else stop_after(executor, kind, n))
        except (InterruptedStudyError, KeyboardInterrupt):
            assert "running" not in bench.states()
    bench.run(fake(), spec)
    assert bench.recipes() == whole.recipes()
    assert [trial.state for trial in bench.trials()] == ["complete"] * 12
    assert bench.problems() == []


def _never() -> bool:
    return False


def _ending_after(kind: type, n: int, ending: BaseException | None) -> Any:
    seen: list[Any] = []

    def script(job: Any, nth: int) -> Any:
        if isinstance(job, kind):
            seen.append(job)
        return ending if len(seen) == n and isinstance(job, kind) else None

    return script


def test_time_of_all_runs_is_added_up_once(bench: Any) -> None:
    spec, elapsed = bench.spec(), 0.0
    for _ in range(2):
        started = time.monotonic()
        with _session.open_session(spec, bench.store, bench.reporter, _never) as session:
            assert session.elapsed_s == pytest.approx(elapsed, abs=0.1)
            for _ in range(3):
                time.sleep(0.15)
                session.save()
                session.study = bench.store.update_study(session.lease, baseline={})
            elapsed += time.monotonic() - started
            assert session.elapsed_s == pytest.approx(elapsed, abs=0.1)
            assert session.remaining_s == pytest.approx(600 - elapsed, abs=0.1)


def test_a_study_whose_end_cannot_be_written_goes_on(
    bench: Any, fake: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At no moment is it finished and somebody's."""

    def refuse(*arguments: Any, **named: Any) -> None:
        raise DatabaseBusyError("locked")

    with monkeypatch.context() as patch:
        patch.setattr(bench.store, "release", refuse)
        with pytest.raises(DatabaseBusyError):
            bench.run(fake())
    assert bench.study().state == "running" and bench.problems() == []
    monkeypatch.setattr(_session, "is_dead", lambda owner: True)
    executor = fake()
    bench.run(executor)
    assert (bench.study().state, bench.study().lease_owner) == ("finished", None)
    assert executor.count(LadderJob) == 0


def test_crashes_of_the_controller_use_up_no_attempts(bench: Any, fake: Any) -> None:
    for _ in range(5):
        executor = fake(
            lambda job, nth: KeyboardInterrupt() if isinstance(job, LadderJob) else None
        )
        with pytest.raises(KeyboardInterrupt):
            bench.run(executor)
    assert [(trial.state, trial.attempts) for trial in bench.trials()] == [("waiting", 0)]
    bench.run(fake())
    assert bench.states() == ["complete"] * 4


# Changed between runs


IDENTITY = {
    "task__text": ("task.text", ["title"]),
    "task__label": ("task.label", "class"),
    "task__metric": ("task.metric", "f1"),
    "task__max_length": ("task.max_length", 32),
    "finetune": ("finetune.epochs", {"epochs": 5}),
    "search__seed": ("search.seed", 1),
    "search__strategies": ("search.strategies", [{"fisher": {"calibration": 512}}]),
}


@pytest.mark.parametrize("change", IDENTITY)
def test_change_of_what_the_results_depend_on_is_refused(
    bench: Any, fake: Any, change: str
) -> None:
    bench.run(fake())
    before = bench.contents()
    field, value = IDENTITY[change]
    executor = fake()
    with pytest.raises(StudyChangedError) as caught:
        bench.run(executor, bench.spec(**{change: value}))
    assert caught.value.exit_code == 2
    assert caught.value.fields == (field,), "and nothing else is said to have changed"
    assert field in str(caught.value)
    assert executor.sent == [] and bench.contents() == before


def test_all_changed_fields_are_listed(bench: Any, fake: Any) -> None:
    bench.run(fake())
    with pytest.raises(StudyChangedError) as caught:
        bench.run(fake(), bench.spec(search__seed=3, task__label="class", max_drop="1 pt"))
    assert caught.value.fields == ("search.seed", "task.label")


def test_every_identity_field_is_tried_here(bench: Any) -> None:
    """A field that comes to be part of a study's identity must be added above."""

    def leaves(plain: dict[str, Any], prefix: str = "") -> set[str]:
        found: set[str] = set()
        for key, value in plain.items():
            nested = isinstance(value, dict) and key in ("task", "search", "finetune")
            found |= leaves(value, f"{prefix}{key}.") if nested else {f"{prefix}{key}"}
        return found

    tried = {field for field, _ in IDENTITY.values()}
    names = leaves(bench.spec().identity())
    untried = {name for name in names if not any(field.startswith(name) for field in tried)}
    fixed = {"name", "task.kind", "finetune.lr", "finetune.batch_size"}
    assert untried <= fixed, "the name is another study, kinds are one so far, the rest alike"


def test_study_whose_files_were_moved_goes_on(bench: Any, fake: Any, make_survey: Any) -> None:
    """It knows them by their contents, which others at the new place do not have."""
    bench.run(fake())
    moved = {"model": "./b/bert", "task__train": "b/train.tsv", "task__validation": "b/dev.tsv"}
    executor = fake()
    bench.run(executor, bench.spec(**moved, search__trials=5))
    assert executor.count(BaselineJob) == 0 and bench.states() == ["complete"] * 5
    other = make_survey(data_fingerprint="other")
    with pytest.raises(StudyChangedError, match="the contents of the data files"):
        bench.run(
            fake(lambda job, nth: other if isinstance(job, SurveyJob) else None),
            bench.spec(**moved),
        )


def test_what_nothing_was_trained_for_may_change(bench: Any, fake: Any) -> None:
    bench.run(fake())
    executor = fake()
    bench.run(
        executor,
        bench.spec(
            budget__flops="60%",
            max_drop="3 pt",
            search__trials=5,
            search__time="1 h",
            workers={"executor": "ray", "count": 2, "device": "cpu"},
            output="elsewhere",
        ),
    )
    assert bench.states() == ["complete"] * 5
    assert executor.count(BaselineJob) == 0
    assert bench.study().limits["max_flops_ratio"] == 0.6
    assert bench.study().spec["output"].endswith("elsewhere")
    feasible = {p.flops_ratio: p.feasible for p in bench.store.points(bench.study().id)}
    assert not feasible[1.0], "all points are judged by the limits of now"


@pytest.mark.parametrize(
    ("fingerprint", "said"), [("data_fingerprint", "data"), ("model_fingerprint", "model")]
)
def test_edited_files_are_refused(
    bench: Any, fake: Any, make_survey: Any, fingerprint: str, said: str
) -> None:
    bench.run(fake())
    before = bench.contents()
    edited = make_survey(**{fingerprint: "edited"})
    executor = fake(lambda job, nth: edited if isinstance(job, SurveyJob) else None)
    with pytest.raises(StudyChangedError, match=f"the contents of the {said} files"):
        bench.run(executor)
    assert executor.count(BaselineJob) == executor.count(LadderJob) == 0
    assert bench.contents()[1:] == before[1:]
    bench.run(fake())
    assert bench.study().state == "finished"


def test_other_data_in_a_study_that_was_refused_before_it_began(
    bench: Any, fake: Any, make_survey: Any
) -> None:
    """Nothing was measured, so what the files were then does not matter."""
    wrong = Failure("input", "dev.tsv: 10 rows are too few")
    with pytest.raises(InputError):
        bench.run(fake(lambda job, nth: wrong if isinstance(job, SurveyJob) else None))
    edited = make_survey(data_fingerprint="data-2")
    bench.run(fake(lambda job, nth: edited if isinstance(job, SurveyJob) else None))
    assert bench.study().fingerprint["data"] == "data-2"


# Files of artifacts that are gone or damaged


def baseline_folder(bench: Any) -> Any:
    return bench.store.artifact_root / bench.study().baseline["artifact"][:2]


def test_baseline_whose_files_are_gone_is_made_again(bench: Any, fake: Any) -> None:
    bench.run(fake())
    shutil.rmtree(bench.store.artifact_root)
    executor = fake()
    bench.run(executor, bench.spec(search__trials=5))
    assert executor.count(BaselineJob) == 1
    assert bench.states() == ["complete"] * 5
    frontier = {p.artifact_key for p in bench.store.frontier(bench.study().id)}
    lost = [problem for problem in bench.problems() if "missing or different" not in problem]
    assert lost == []
    assert any(bench.store.artifact(key).path is not None for key in frontier)


@pytest.mark.parametrize("kind", ["baseline", "statistics"])
@pytest.mark.parametrize("damage", ["edited", "gone", "swapped"])
def test_damaged_files_are_made_again(bench: Any, fake: Any, kind: str, damage: str) -> None:
    pins = {"calibration": 512, "importance": "predictions"}
    bench.run(fake(), bench.spec(search__strategies=[{"fisher": pins}]))
    row = next(row for row in bench.store.kept_artifacts() if row.kind == kind)
    folder = bench.store.artifact_root / row.path
    if damage == "edited":
        (folder / "model.safetensors").write_text("other")
    elif damage == "gone":
        shutil.rmtree(folder)
    else:
        # A whole folder of another artifact, sound in itself.
        other = next(other for other in bench.store.kept_artifacts() if other.kind == "model")
        shutil.rmtree(folder)
        shutil.copytree(bench.store.artifact_root / other.path, folder)
    executor = fake()
    bench.run(executor, bench.spec(search__strategies=[{"fisher": pins}], search__trials=6))
    assert executor.count(BaselineJob) == (kind == "baseline")
    assert executor.count(StatisticsJob) == (kind == "statistics")
    assert (folder / "model.safetensors").read_text() == row.key, "its own files are back"
    assert bench.states() == ["complete"] * 6
    assert bench.problems() == []


def test_what_a_killed_controller_left_is_swept_away(bench: Any, fake: Any) -> None:
    bench.run(fake())
    files = bench.store.artifact_root
    study = bench.study()
    (files / "tmp" / f"study-{study.id}-0123abcd").mkdir(parents=True)
    (files / "tmp" / f"study-{study.id + 1}-0123abcd").mkdir(parents=True)
    from trimtab_storage import ArtifactFiles

    mine = ArtifactFiles(files, f"study-{study.id}")
    mine.save("feed", lambda folder: (folder / "weights").write_text("never recorded"))
    bench.run(fake())
    assert not mine.exists("feed")
    assert [path.name for path in (files / "tmp").iterdir()] == [f"study-{study.id + 1}-0123abcd"]


def test_weights_are_kept_for_the_frontier_only(bench: Any, fake: Any) -> None:
    bench.run(fake(), bench.spec(search__trials=8))
    bench.run(fake(), bench.spec(search__trials=3, name="other", search__seed=1))
    wanted = {
        point.artifact_key
        for name in ("reviews", "other")
        for point in bench.store.frontier(bench.study(name).id)
    }
    kept = {row.key: row.kind for row in bench.store.kept_artifacts()}
    first = {point.artifact_key for point in bench.store.frontier(bench.study().id)}
    assert first <= kept.keys(), "one study's work does not cost another's frontier its weights"
    # Of what the second study found measured, only the recipes may be there.
    assert {key for key, kind in kept.items() if kind == "model"} <= wanted
    assert {path.name for path in bench.store.artifact_root.glob("??/*")} == kept.keys()
    assert bench.problems() == []


def test_other_metric_on_the_same_models_is_measured_and_made_once(bench: Any, fake: Any) -> None:
    bench.run(fake())
    other = bench.spec(name="other", task__metric="f1")
    executor = fake()
    bench.run(executor, other)
    assert executor.count(BaselineJob) == executor.count(StatisticsJob) == 0
    assert executor.count(MeasureJob) == 1 and executor.count(LadderJob) == 4
    again = fake()
    bench.run(again, other)
    assert again.count(LadderJob) == 0


@pytest.mark.parametrize("is_beside", [False, True])
def test_a_fault_of_the_database_library_is_told_only_where_two_run(
    bench: Any, fake: Any, monkeypatch: pytest.MonkeyPatch, is_beside: bool
) -> None:
    monkeypatch.setattr(_run, "sqlite_caution", lambda: "of two runs")
    if is_beside:
        bench.store.acquire(bench.store.create_study("other", {}, {}, {}).id, "other", 60.0)
    bench.run(fake(), bench.spec(search__trials=1))
    assert bench.reporter.notes.count("of two runs") == is_beside
