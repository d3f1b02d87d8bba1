"""One whole run: from a spec to a frontier and a checkpoint."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from trimtab._parts import doubts_of
from trimtab.controller._baseline import Baseline, establish_baseline
from trimtab.controller._cleanup import others_at_work
from trimtab.controller._limits import budget_ratio
from trimtab.controller._prospect import Prospect, prospect_alone, prospect_of
from trimtab.controller._report import Reporter
from trimtab.controller._session import Session, Stop, open_session
from trimtab.controller._spending import TimingCost
from trimtab.controller._stopwatch import Stopwatch, stopwatch_of
from trimtab.controller._trials import TrialLoop
from trimtab.emission import Emission, LatencyMissedError, emit_checkpoint, emit_what_holds
from trimtab.errors import InputError, NothingFinishedError
from trimtab.forge import Forge
from trimtab.query import choose_among
from trimtab.selection import Choice, Limits, is_feasible
from trimtab.spec import Spec
from trimtab_storage import PointRow, Store, StudyState, TrialState, sqlite_caution
from trimtab_workers.executors import Executor, Job
from trimtab_workers.jobs import DeliveredJob
from trimtab_workers.versions import too_old

CHECKPOINT = "checkpoint"


@dataclass(frozen=True)
class RunResult:
    """What a run ended with: the frontier, the chosen point, and the checkpoint of it.

    ``timing`` is what timing took of the study; None where it has no latency budget.
    """

    study: str
    limits: Limits
    frontier: list[PointRow]
    choice: Choice[PointRow]
    emission: Emission
    timing: TimingCost | None = None

    def __repr__(self) -> str:
        from trimtab.notebook import result_line

        return result_line(self)

    def _repr_html_(self) -> str:
        from trimtab.notebook import result_html

        return result_html(self)


def run_study(
    spec: Spec,
    store: Store,
    make_executor: Callable[[], Executor],
    reporter: Reporter,
    stop: Stop = lambda: False,
) -> RunResult:
    """Runs or continues the study of a spec, and writes its best checkpoint.

    What is measured is recorded at once, so whatever ends this run, the same call goes on from
    there. Without a point that meets the limits the closest one is delivered.

    Raises:
        InputError: if the spec, the data or the model cannot be worked with.
        NothingFinishedError: if no trial gave a result.
        InterruptedStudyError: if ``stop`` said so.
        StorageError: if another controller holds the study, or took it over.
    """
    if unsafe := too_old():
        raise InputError(
            f"packages with known security faults must be renewed: {', '.join(unsafe)}"
        )
    with open_session(spec, store, reporter, stop) as session:
        # Alone, which is how nearly all are, nobody need hear of it.
        if others_at_work(store, session.study.id) and (said := sqlite_caution()):
            reporter.note(said)
        with make_executor() as executor:
            session.use(executor)
            baseline = establish_baseline(session)
            stopwatch = stopwatch_of(session, baseline)
            prospect = _prospect(session, baseline)
            TrialLoop(session, baseline, prospect, stopwatch).run()
            result = _deliver(session, baseline, stopwatch)
        counts = store.trial_counts(session.study.id)
        if counts[TrialState.WAITING] + counts[TrialState.RUNNING] == 0:
            session.ends_as = StudyState.FINISHED
        return result


def _prospect(session: Session, baseline: Baseline) -> Prospect:
    """Works out what there is to try, and says it, unless all trials were had already."""
    assert session.limits is not None
    spec, limits, survey = session.spec, session.limits, baseline.survey
    budget = budget_ratio(limits, baseline.measurement.flops)
    counts = session.store.trial_counts(session.study.id)
    if counts[TrialState.COMPLETE] + counts[TrialState.FAILED] >= spec.search.trials:
        return prospect_alone(spec, survey, budget)
    prospect = prospect_of(spec, survey, baseline.key, limits, budget, session.store)
    if prospect.left_out:
        session.reporter.note(f"left out: {prospect.left_out}")
    if prospect.taken_over:
        session.reporter.note(f"took over {prospect.taken_over}")
    return prospect


def _tell_latency(session: Session, stopwatch: Stopwatch | None, emission: Emission) -> None:
    """Records what else than its point a delivery took, and says what could not be told."""
    latency, limits = emission.latency, session.limits
    if stopwatch is None or latency is None or limits is None:
        return
    was_within = is_feasible(emission.point, limits.on_latency())
    if latency["holds"] is False or (latency["holds"] and not was_within):
        session.consider(stopwatch.note_delivered(emission.point, latency))
    if doubts := doubts_of(latency):
        session.reporter.note(f"the checkpoint's latency could not be confirmed: {doubts}")


def _limits_flops(limits: Limits) -> bool:
    return limits.max_flops is not None or limits.max_flops_ratio is not None


def _deliver(session: Session, baseline: Baseline, stopwatch: Stopwatch | None) -> RunResult:
    counts = session.store.trial_counts(session.study.id)
    if counts[TrialState.COMPLETE] == 0:
        is_over = counts[TrialState.FAILED] >= session.spec.search.trials
        raise NothingFinishedError(
            f"no trial of study {session.spec.name!r} gave a result ({counts['failed']} failed): "
            "`trimtab trials --failed` says why; "
            + ("with a larger search.trials, " if is_over else "")
            + "the same command goes on"
        )
    limits = session.limits
    assert limits is not None
    forge = Forge(
        session.store,
        session.place,
        baseline.survey.data_fingerprint,
        _counting(session),
        session.lease,
    )

    def emit(choice: Choice[PointRow], insist: bool) -> tuple[Choice[PointRow], Emission]:
        return choice, emit_checkpoint(
            session.store,
            session.study.name,
            choice,
            forge,
            Path(session.spec.output) / CHECKPOINT,
            limits=limits,
            force=True,
            check=None if stopwatch is None else stopwatch.check(),
            insist=insist,
        )

    def on_miss(point: PointRow, missed: LatencyMissedError) -> None:
        assert stopwatch is not None
        session.reporter.note(f"point {point.id} is not delivered: {missed}")
        session.consider([*stopwatch.note_delivered(point, missed.latency), *stopwatch.settle()])

    def choose() -> Choice[PointRow]:
        points = session.points()
        choice = choose_among(points, limits)
        if choice.feasible or stopwatch is None:
            return choice
        return replace(choice, point=stopwatch.closest(points))

    choice, emission = emit_what_holds(choose, emit, on_miss)
    choice = emission.choice or choice
    _tell_latency(session, stopwatch, emission)
    choice = replace(choice, point=session.store.point(choice.point.id) or choice.point)
    emission = replace(emission, point=choice.point, choice=choice)
    cost = "latency" if choice.point.on_latency_frontier and not _limits_flops(limits) else "flops"
    frontier = session.store.frontier(session.study.id, cost)
    timing = None if stopwatch is None else session.spending.cost(session.elapsed_s)
    return RunResult(session.study.name, limits, frontier, choice, emission, timing)


def _counting(session: Session) -> Callable[[Job, str], Any]:
    """Gives how a delivery's jobs are run: what timing the checkpoint takes is counted."""

    def run(job: Job, label: str) -> Any:
        is_timing = isinstance(job, DeliveredJob)
        with session.spending.on("delivery") if is_timing else nullcontext():
            return session.runner.run(job, label)

    return run
