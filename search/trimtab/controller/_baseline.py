"""The start of every study: survey the data and the model, then measure the dense baseline."""

from __future__ import annotations

import os
from dataclasses import dataclass

from trimtab._parts import parts_of
from trimtab.controller._limits import finetune_of, limits_of
from trimtab.controller._points import PointMaker
from trimtab.controller._reference import establish_latency
from trimtab.controller._session import Session
from trimtab.emission import check_unchanged
from trimtab.forge import (
    baseline_key,
    is_on_disk,
    measurement_name,
    new_artifact,
    stored_measurement,
    with_measurement,
)
from trimtab.selection import is_feasible
from trimtab_workers.jobs import (
    BaselineJob,
    BaselineResult,
    MeasureJob,
    Measurement,
    Survey,
    SurveyJob,
)


@dataclass(frozen=True)
class Baseline:
    """The dense model of a study and what it was measured to be and cost."""

    key: str
    survey: Survey
    measurement: Measurement


def establish_baseline(session: Session) -> Baseline:
    """Surveys, makes or finds the dense model, measures it, and sets the session's limits.

    Raises:
        InputError: if the data or the model cannot be worked with.
        StudyChangedError: if their contents are not those that the study began with.
    """
    survey: Survey = session.runner.run(SurveyJob(session.place), "reading data and model")
    _check_unchanged(session, survey)
    _say_what_was_found(session, survey)
    session.room.expect(survey.model_bytes)
    task = session.place.task
    key = baseline_key(survey, task, finetune_of(session.spec))
    measurement = _make_or_find(session, survey, key)
    session.baseline = {
        "metric": measurement.metric,
        "flops": measurement.flops,
        "params": measurement.params,
        "latency_ms": establish_latency(session, key),
        "n": measurement.n,
        "artifact": key,
    }
    latency = session.baseline["latency_ms"]
    own_ms = [part["value"] for part in parts_of(latency)]
    session.limits = limits_of(session.spec, measurement.metric, *own_ms)
    _record(session, Baseline(key, survey, measurement))
    return Baseline(key, survey, measurement)


def _check_unchanged(session: Session, survey: Survey) -> None:
    found = check_unchanged(session.spec.name, session.study.fingerprint, survey)
    session.study = session.store.update_study(session.lease, fingerprint=found)


def _say_what_was_found(session: Session, survey: Survey) -> None:
    session.reporter.note(
        f"{survey.n_train:,} training rows, {survey.n_search:,} to decide on, "
        f"{survey.n_certify:,} to certify; {len(survey.labels)} classes; "
        f"{survey.histogram.mean:.0f} tokens on average"
    )
    if survey.n_truncated:
        session.reporter.note(
            f"{survey.n_truncated:,} of {survey.n_rows:,} rows are longer than "
            f"{survey.longest_allowed} tokens and were cut there"
        )


def _make_or_find(session: Session, survey: Survey, key: str) -> Measurement:
    store, place = session.store, session.place
    name = measurement_name(place.task.metric, survey.data_fingerprint, "search")
    row = store.artifact(key)
    if row is not None and is_on_disk(row, session.files):
        session.reused += 1
        known = stored_measurement(row, name)
        if known is not None:
            return known
        measured: Measurement = session.runner.run(
            MeasureJob(place, key, "search"), "measuring the baseline"
        )
        store.record_artifact(session.lease, with_measurement(row, name, measured))
        return measured
    if row is not None:
        store.drop_files(session.files, key)
    # On a cluster the worker's node may be shared with others, so there it keeps to its share.
    threads = None if session.spec.workers.address else _own_threads()
    made: BaselineResult = session.runner.run(
        BaselineJob(place, key, finetune_of(session.spec), threads),
        "measuring the baseline" if survey.has_head else "fine-tuning the baseline",
    )
    if made.finetuning is not None:
        scores = ", ".join(f"{score:.4f}" for score in made.finetuning["held_out"])
        session.reporter.note(
            f"fine-tuned in {made.seconds:.0f} s; {place.task.metric} on rows held out of the "
            f"training file, by epoch: {scores} (epoch {made.finetuning['best_epoch']} kept)"
        )
    artifact = new_artifact(
        key, "baseline", None, [], None, made.stored, made.measurement, name, made.seconds
    )
    store.record_artifact(session.lease, artifact)
    return made.measurement


def _own_threads() -> int:
    """Counts the CPU threads we may use: what the user says, or else what the system allows."""
    said = os.environ.get("OMP_NUM_THREADS", "")
    if said.isdigit() and int(said) > 0:
        return int(said)
    allowed = getattr(os, "sched_getaffinity", None)
    return len(allowed(0)) if allowed else os.cpu_count() or 1


def _record(session: Session, baseline: Baseline) -> None:
    """Writes the baseline as a point and judges all points by the limits of this run's spec."""
    assert session.limits is not None
    limits, store, lease = session.limits, session.store, session.lease
    store.update_study(lease, baseline=session.baseline, limits=limits.to_plain())
    maker = PointMaker(baseline.measurement, limits)
    points = maker.points(baseline.key, [], baseline.measurement)
    ids = store.add_points(lease, points)
    if session.baseline is not None and (latency := session.baseline["latency_ms"]) is not None:
        store.set_latencies(lease, {ids[0]: latency}, lambda point: is_feasible(point, limits))
    store.refresh_feasible(lease, lambda point: is_feasible(point, limits))
