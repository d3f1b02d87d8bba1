"""Timing points: their weights brought back, a job on the free slot, the figures written down."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import zip_longest
from typing import Any

from trimtab._parts import Latency, joined, joined_as, on_threads, parts_of
from trimtab.controller._baseline import Baseline
from trimtab.controller._expected import PREDICTED, is_timed
from trimtab.controller._reference import reference_speed, stated
from trimtab.controller._session import Session
from trimtab.controller._to_time import MOST_TRIES, Prospective
from trimtab.errors import InputError, InterruptedStudyError, JobError, TrimtabError
from trimtab.forge import Forge, is_on_disk
from trimtab.selection import is_feasible
from trimtab_storage import PointRow
from trimtab_workers.jobs import BenchJob, BenchResult, Candidate
from trimtab_workers.latency.asked import Asked, Timing, in_order, timings_of

SECONDS_EACH = 3.0


class PointTimer:
    """Times points of one study against references of the dense model, one for each limit."""

    def __init__(
        self,
        session: Session,
        baseline: Baseline,
        wanted: Sequence[Asked],
        references: Sequence[Mapping[str, Any]],
    ) -> None:
        assert session.limits is not None
        self._session, self._baseline, self._wanted = session, baseline, wanted
        self._references, self._limits = references, session.limits
        self._timings = timings_of(wanted)
        self._forge = Forge(
            session.store,
            session.place,
            baseline.survey.data_fingerprint,
            session.runner.run,
            session.lease,
        )

    @property
    def spent_s(self) -> float:
        """Seconds that timing points took so far, over all runs of the study."""
        return self._session.spending.of("points")

    def time(self, chosen: Sequence[Prospective]) -> list[PointRow]:
        """Times points, the most useful first; nothing else of ours may run. Gives their rows."""
        with self._session.spending.on("points"):
            # Only for what would be delivered a model is made again that was dropped.
            first, others = chosen[:1], [point for point in chosen[1:] if self._is_kept(point)]
            gone = [point for point in first if not self._is_there(point)]
            there = [point for point in [*first, *others] if point not in gone]
            nothing = [[None] * len(self._timings) for _ in gone]
            rows = self._keep(gone, nothing)
            if there:
                found = [self._timed(timing, there) for timing in self._timings]
                rows += self._keep(there, list(zip(*found, strict=True)))
        return rows

    def _is_kept(self, point: Prospective) -> bool:
        row = self._session.store.artifact(point.artifact_key)
        return row is not None and is_on_disk(row, self._session.files)

    def _is_there(self, point: Prospective) -> bool:
        """Brings a model's weights back; one that cannot be made again cannot be timed."""
        try:
            self._forge.ensure(point.artifact_key)
        except InterruptedStudyError:
            raise
        except TrimtabError as error:
            self._session.reporter.note(f"point {point.id} cannot be timed: {error}")
            return False
        return True

    def _timed(self, timing: Timing, points: Sequence[Prospective]) -> Sequence[BenchResult | None]:
        """Times points; where that fails, as when memory is short, one by one or not at all."""
        try:
            return self._measured(timing, points)
        except (JobError, InputError) as error:
            if len(points) > 1:
                return [result for point in points for result in self._timed(timing, [point])]
            where = _where(timing) if len(self._timings) > 1 else ""
            self._session.reporter.note(f"point {points[0].id} could not be timed{where}: {error}")
            return [None]

    def _measured(self, timing: Timing, points: Sequence[Prospective]) -> list[BenchResult]:
        known = [(self._references[place], self._wanted[place]) for place in timing.places]
        speeds = [reference_speed(reference, asked) for reference, asked in known]
        job = BenchJob(
            self._session.place,
            self._baseline.key,
            tuple(Candidate(point.artifact_key, dict(point.knobs)) for point in points),
            **timing.settings(),
            reference_p50_ms=next((speed for speed in speeds if speed is not None), None),
            limit_s=SECONDS_EACH * (1 + len(points)),
        )
        word = "point" if len(points) == 1 else "points"
        results: list[BenchResult] = self._session.runner.run(job, f"timing {len(points)} {word}")
        return results

    def _keep(
        self, points: Sequence[Prospective], results: Sequence[Sequence[BenchResult | None]]
    ) -> list[PointRow]:
        """Writes down what each timing found of each point; one that failed is not tried again."""
        found = {}
        for point, own in zip(points, results, strict=True):
            found[point.id] = self._found(point, own)
            for timing, result in zip(self._timings, own, strict=True):
                if result is not None:
                    self._log(point, timing, result)
        return self.record(found)

    def _found(self, point: Prospective, results: Sequence[BenchResult | None]) -> dict[str, Any]:
        row = self._session.store.point(point.id)
        known = measured_of(None if row is None else row.latency, self._latency(results))
        return {**known, "tries": MOST_TRIES} if None in results else known

    def _latency(self, results: Sequence[BenchResult | None]) -> dict[str, Any]:
        """Puts a point's latency together from what was timed, a part for each limit."""
        pairs = zip(self._timings, results, strict=True)
        found = [
            [None] * len(timing.places) if result is None else timing.figures(result)
            for timing, result in pairs
        ]
        every = zip(in_order(self._timings, found), self._references, self._wanted, strict=True)
        parts = [
            {} if figure is None else stated(figure, reference, asked).to_plain()
            for figure, reference, asked in every
        ]
        return joined_as(parts, self._wanted)

    def _log(self, point: Prospective, timing: Timing, result: BenchResult) -> None:
        samples = {"point": point.id, "what": "point", "samples_ms": result.samples}
        if len(self._timings) > 1:
            samples["workload"] = timing.asked[0].workload.to_plain()
        self._session.store.log_event(self._session.study.id, "latency", samples)

    def record(self, found: Mapping[int, Mapping[str, Any]]) -> list[PointRow]:
        """Gives points other latencies, and judges them by the limits."""
        session, limits = self._session, self._limits
        plain = {point_id: dict(latency) for point_id, latency in found.items()}
        if not plain:
            return []
        return session.store.set_latencies(
            session.lease, plain, lambda row: is_feasible(row, limits)
        )


def measured_of(known: Latency | None, measured: Latency) -> dict[str, Any]:
    """Gives a point's latency once it was timed, or could not be, the prediction beside it.

    What was sure of one of several limits, and was not found again for sure, stays as it was.
    """
    nothing: Latency = {}
    every = zip_longest(parts_of(known), parts_of(measured), fillvalue=nothing)
    parts = [_later(before, now) for before, now in every]
    return {**joined(parts), "tries": int((known or {}).get("tries", 0)) + 1}


def _later(before: Latency, now: Latency) -> Latency:
    if is_timed(before) and not is_timed(now):
        return before
    untimed = {"value": None, "verdict": PREDICTED, PREDICTED: before.get(PREDICTED)}
    return {**untimed, **now}


def _where(timing: Timing) -> str:
    """Says which requests a timing is of, where there are several kinds."""
    workload = timing.asked[0].workload
    return f" at batch {workload.batch_size}{on_threads(workload.threads)}"
