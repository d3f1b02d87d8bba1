"""Timing points: their weights brought back, a job on the free slot, the figures written down."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import zip_longest
from typing import Any

from trimtab._parts import NAMES, joined, parts_of
from trimtab.controller._baseline import Baseline
from trimtab.controller._expected import PREDICTED, predicted_of, whole
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
            rows = self._give_up(gone)
            if there:
                rows += self._timed(there)
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

    def _timed(self, points: Sequence[Prospective]) -> list[PointRow]:
        """Times points; where that fails, as when memory is short, one by one or not at all."""
        try:
            return self._keep(points, [self._measured(each, points) for each in self._timings])
        except (JobError, InputError) as error:
            if len(points) > 1:
                return [row for point in points for row in self._timed([point])]
            self._session.reporter.note(f"point {points[0].id} could not be timed: {error}")
            return self._give_up(points)

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
        self, points: Sequence[Prospective], results: Sequence[Sequence[BenchResult]]
    ) -> list[PointRow]:
        """Writes down what each timing found of each point."""
        found = {}
        for point, own in zip(points, zip(*results, strict=True), strict=True):
            found[point.id] = measured_of(point, self._latency(own))
            for timing, result in zip(self._timings, own, strict=True):
                self._log(point, timing, result)
        return self.record(found)

    def _latency(self, results: Sequence[BenchResult]) -> dict[str, Any]:
        """Puts a point's latency together from what was timed, a part for each limit."""
        pairs = zip(self._timings, results, strict=True)
        figures = in_order(self._timings, [timing.figures(result) for timing, result in pairs])
        parts = [
            stated(figure, reference, asked).to_plain()
            for figure, reference, asked in zip(
                figures, self._references, self._wanted, strict=True
            )
        ]
        return whole(parts, self._wanted)

    def _log(self, point: Prospective, timing: Timing, result: BenchResult) -> None:
        samples = {"point": point.id, "what": "point", "samples_ms": result.samples}
        if len(self._timings) > 1:
            samples["workload"] = timing.asked[0].workload.to_plain()
        self._session.store.log_event(self._session.study.id, "latency", samples)

    def _give_up(self, points: Sequence[Prospective]) -> list[PointRow]:
        return self.record({p.id: {**measured_of(p, {}), "tries": MOST_TRIES} for p in points})

    def record(self, found: Mapping[int, Mapping[str, Any]]) -> list[PointRow]:
        """Gives points other latencies, and judges them by the limits."""
        session, limits = self._session, self._limits
        plain = {point_id: dict(latency) for point_id, latency in found.items()}
        if not plain:
            return []
        return session.store.set_latencies(
            session.lease, plain, lambda row: is_feasible(row, limits)
        )


def measured_of(point: Prospective, measured: Mapping[str, Any]) -> dict[str, Any]:
    """Gives a point's latency once it was timed, or could not be, the prediction beside it."""
    first, *others = parts_of(measured)
    nothing: Mapping[str, Any] = {}
    known = [
        {**_untimed(predicted_of(before)), **_names_of(before), **now}
        for before, now in zip_longest(point.others, others, fillvalue=nothing)
    ]
    return {**joined([{**_untimed(point.predicted), **first}, *known]), "tries": point.tries + 1}


def _untimed(predicted: Mapping[str, float] | None) -> dict[str, Any]:
    return {"value": None, "verdict": PREDICTED, PREDICTED: predicted}


def _names_of(part: Mapping[str, Any]) -> dict[str, Any]:
    return {name: part[name] for name in NAMES if name in part}
