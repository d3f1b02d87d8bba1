"""Emitting from a study that is not running: the same steps, done in this process."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from trimtab._parts import parts_of
from trimtab.controller._leftovers import files_of_emits
from trimtab.controller._limits import latencies_of, task_of
from trimtab.controller._reference import check_of
from trimtab.controller._report import Reporter
from trimtab.controller._runner import JobRunner
from trimtab.controller._timing import measured_of
from trimtab.emission import (
    Emission,
    LatencyCheck,
    LatencyMissedError,
    check_target,
    check_unchanged,
    emit_checkpoint,
    emit_what_holds,
)
from trimtab.forge import Forge
from trimtab.query import choose_among
from trimtab.selection import Choice, Limits
from trimtab.spec import Spec
from trimtab_storage import PointRow, Store, StudyRow
from trimtab_workers.executors import Job, make_executor
from trimtab_workers.jobs import Place, SurveyJob


def emit_of_study(
    store: Store,
    study: StudyRow,
    choice: Choice[PointRow],
    limits: Limits,
    out: Path,
    force: bool,
    reporter: Reporter,
) -> Emission:
    """Writes the checkpoint of a chosen point; needs no lease, so the study may run meanwhile.

    Raises:
        StudyChangedError: if data or model are no longer those that the study measured.
    """
    check_target(out.resolve(), force)
    # What the study was given once may be used again, hub ids included.
    spec = Spec.from_mapping(study.spec, allow_hub=True)
    device = spec.workers.device
    with (
        files_of_emits(store, study.id) as files,
        make_executor("inline", count=1, gpus_each=0, device=device, address=None) as executor,
    ):
        place = Place(task_of(spec), spec.model, files)
        runner = JobRunner(executor, lambda: None)

        def run(job: Job, label: str) -> Any:
            reporter.note(label)
            return runner.run(job, label)

        check_unchanged(
            study.name, study.fingerprint, run(SurveyJob(place), "reading data and model")
        )
        forge = Forge(store, place, study.fingerprint["data"], run)
        check = _check(spec, study, limits)
        missed: dict[int, dict[str, Any]] = {}

        def choose() -> Choice[PointRow]:
            if not missed:
                return choice
            points = store.points(study.id)
            known = [replace(p, latency=missed.get(p.id, p.latency)) for p in points]
            return choose_among(known, limits)

        def emit(chosen: Choice[PointRow], insist: bool) -> Emission:
            return emit_checkpoint(
                store,
                study.name,
                chosen,
                forge,
                out,
                limits=limits,
                force=force,
                check=check,
                insist=insist,
            )

        def on_miss(point: PointRow, error: LatencyMissedError) -> None:
            reporter.note(f"point {point.id} is not written: {error}")
            missed[point.id] = measured_of(point.latency, error.latency)

        emission: Emission = emit_what_holds(choose, emit, on_miss)
        return emission


def _check(spec: Spec, study: StudyRow, limits: Limits) -> LatencyCheck | None:
    """Gives how the checkpoint is timed; None where the study has no latency budget.

    A limit other than the spec's is one in milliseconds, whatever the spec's is relative to, and on
    what the spec limits first.
    """
    wanted, reference = latencies_of(spec), (study.baseline or {}).get("latency_ms")
    if not wanted or reference is None:
        return None
    check = check_of(wanted, limits, parts_of(reference))
    is_of_spec = limits.max_latency_ms == study.limits.get("max_latency_ms")
    return check if is_of_spec else replace(check, reference=None)
