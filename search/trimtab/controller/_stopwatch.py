"""Latency in a search: points near the frontier are timed while nothing else of ours runs.

A trial's points come with what the table of parts predicts for them. From time to time no more
jobs are sent out, and when the last has come back the most useful points are timed on the slot that
is now exclusive, interleaved with the dense model.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from trimtab._parts import parts_of
from trimtab.controller._baseline import Baseline
from trimtab.controller._expected import Expectation, is_predicted, is_timed, with_predictions
from trimtab.controller._forecast import Forecast
from trimtab.controller._limits import latencies_of
from trimtab.controller._reference import check_of, margin_of
from trimtab.controller._session import Session
from trimtab.controller._timing import PointTimer, measured_of
from trimtab.controller._to_time import (
    Prospective,
    is_settled,
    slowness,
    worth_timing,
    would_be_delivered,
)
from trimtab.emission import LatencyCheck
from trimtab_storage import NewPoint, PointRow
from trimtab_workers.latency.asked import Asked

MOST_AT_ONCE = 4
TRIALS_EACH = 3
LEAST_AIM = 0.1
SHARE_OF_TIME = 0.1
"""The part of a study's time that timing may take, all of it; only what is to be delivered may take
more, and as long as there are trials to come no more than twice that much."""
FREE_TO_BEGIN, FREE_AT_MOST = 0.05, 0.1
"""The parts of a study's time that its workers were kept free for timing, at most: when they are
kept free again, and when that is given up as those that are busy take too long."""
MOST_TURNS_AT_THE_END = 20
"""How many models the end of a search times, the dense one in each round as well."""


def stopwatch_of(session: Session, baseline: Baseline) -> Stopwatch | None:
    """Gives the stopwatch of a study with a latency budget; None where it has none."""
    wanted = latencies_of(session.spec)
    if not wanted:
        return None
    stopwatch = Stopwatch(session, baseline, wanted)
    stopwatch.predict_others()
    return stopwatch


class Stopwatch:
    """Predicts and times the points of one study against references of the dense model."""

    def __init__(self, session: Session, baseline: Baseline, wanted: Sequence[Asked]) -> None:
        assert session.baseline is not None and session.limits is not None
        self._references = parts_of(session.baseline["latency_ms"])
        self._session, self._baseline, self._wanted = session, baseline, wanted
        self._limits = session.limits
        self._forecast = Forecast(session, baseline, wanted, self._references)
        self._timer = PointTimer(session, baseline, wanted, self._references)
        first, *others = (
            Expectation(asked.statistic, reference["value"], margin_of(reference, asked))
            for asked, reference in zip(wanted, self._references, strict=True)
        )
        self.expectation = replace(first, others=tuple(others))
        self._points: dict[int, Prospective] = {}
        self._seen_id, self._ended = 0, 0

    # What a search goes by

    def aim(self, flops_budget: float | None) -> float | None:
        """Gives the share of the FLOPs to make models at: within all budgets, as it is expected.

        Where models that should be within the limit were timed and are not, it is less by as much.
        Round, so that the same models serve again when the table says a little more or less.
        """
        limits = self._limits.latencies_ms
        if not limits:
            return flops_budget
        self._read()
        slower = slowness(self._points.values(), self._limits, self.expectation)
        share = self._forecast.share_within(
            [
                limit / margin / slow
                for limit, margin, slow in zip(
                    limits, self.expectation.margins, slower, strict=True
                )
            ]
        )
        rounded = LEAST_AIM if share is None else max(LEAST_AIM, int(share * 50) / 50)
        return rounded if flops_budget is None else min(rounded, flops_budget)

    def prices(self) -> str:
        """Gives what heads and filters take, for steps that count in time."""
        return self._forecast.prices(self._limits.latencies_ms)

    def with_predictions(self, points: Sequence[NewPoint]) -> list[NewPoint]:
        """Gives new points the latency that is predicted for them."""
        predicted = self._forecast.of([(point.artifact_key, point.knobs) for point in points])
        return [
            replace(point, latency=guess) for point, guess in zip(points, predicted, strict=True)
        ]

    def predict_others(self) -> None:
        """Gives a prediction to points without one, such as those of runs without the budget."""
        every = self._session.store.points(self._session.study.id)
        without = [p for p in every if not is_timed(p.latency) and not is_predicted(p.latency)]
        found = self._forecast.of([(point.artifact_key, point.knobs) for point in without])
        self._timer.record(
            {
                point.id: with_predictions(point.latency, guess)
                for point, guess in zip(without, found, strict=True)
                if guess is not None
            }
        )

    # The exclusive slot

    def note_end(self) -> None:
        """Takes down that a trial has ended."""
        self._ended += 1

    def is_due(self) -> bool:
        """Tells whether to time points as soon as nothing runs.

        Alone, a worker has nothing to wait for after a trial; several have to wait for each other,
        so that they are asked to less often.
        """
        slots = self._session.runner.executor.slots
        if self._ended < (1 if slots == 1 else TRIALS_EACH * slots):
            return False
        if self._waited_more_than(FREE_TO_BEGIN):
            return False
        if self._next(MOST_AT_ONCE):
            return True
        self._ended = 0  # nor will there be before another trial has ended
        return False

    def may_wait(self) -> bool:
        """Tells whether to keep workers free any longer; if not, it is not due for some trials."""
        if not self._waited_more_than(FREE_AT_MOST):
            return True
        self._ended = 0
        return False

    def wanted_keys(self) -> set[str]:
        """Gives the models that may be timed, now or at the end, whose weights must stay."""
        self._read()
        wanted = worth_timing(self._points.values(), self._limits, MOST_AT_ONCE)
        return {point.artifact_key for point in wanted}

    def take(self) -> list[PointRow]:
        """Times the most useful points now; nothing else of ours may run. Gives their rows."""
        self._ended = 0
        return self._time(self._next(MOST_AT_ONCE))

    def settle(self) -> list[PointRow]:
        """Times points until the best one is one that was timed, within reason.

        Where timing took enough time, it is one after the other, and when the time is up the one
        point that would be delivered, once.
        """
        changed: list[PointRow] = []
        left, has_time = MOST_TURNS_AT_THE_END, True
        while left > 0 and has_time and not self._is_settled():
            has_time = self._session.remaining_s > 0
            most = MOST_AT_ONCE if has_time and not self._is_over() else 1
            chosen = worth_timing(self._points.values(), self._limits, most)
            changed += self._time(chosen)
            left -= 1 + len(chosen)
        return changed

    def closest(self, points: Sequence[PointRow]) -> PointRow:
        """Gives the point to deliver where none is known to meet the limits: as is expected."""
        known = {point.id: point for point in points}
        expected = [Prospective.of(point, self.expectation) for point in points]
        nearest = would_be_delivered(expected, self._limits)
        assert nearest is not None, "a study that delivers has points that were made"
        return known[nearest.id]

    # Delivery

    def check(self) -> LatencyCheck:
        """Gives how a checkpoint is timed before it is delivered."""
        return check_of(self._wanted, self._limits, self._references)

    def note_delivered(self, point: PointRow, latency: Mapping[str, Any]) -> list[PointRow]:
        """Takes down what a written checkpoint took, of which its point had told otherwise."""
        rows = self._timer.record({point.id: measured_of(point.latency, latency)})
        self._take_in(rows)
        return rows

    def _time(self, chosen: Sequence[Prospective]) -> list[PointRow]:
        rows = self._timer.time(chosen)
        self._take_in(rows)
        return rows

    def _next(self, most: int) -> list[Prospective]:
        """Gives what to time now; when enough time went into it, only what would be delivered.

        That too can wait for the end once points alone took twice what all may take.
        """
        settled = self._is_settled()
        if self._is_over():
            can_wait = self._timer.spent_s > 2 * SHARE_OF_TIME * self._session.elapsed_s
            most = 0 if settled or can_wait else 1
        return worth_timing(self._points.values(), self._limits, most)

    def _waited_more_than(self, share: float) -> bool:
        return self._session.spending.of("waiting") > share * self._session.elapsed_s

    def _is_over(self) -> bool:
        """Tells whether timing took its share: the baseline, the table, points and deliveries."""
        return self._session.spending.cost(self._session.elapsed_s).share > SHARE_OF_TIME

    def _is_settled(self) -> bool:
        """Tells whether what would be delivered was timed, of all points there are by now."""
        self._read()
        return is_settled(self._points.values(), self._limits)

    def _read(self) -> None:
        self._take_in(self._session.store.points(self._session.study.id, after_id=self._seen_id))
        self._seen_id = max(self._points, default=0)

    def _take_in(self, rows: Sequence[PointRow]) -> None:
        for row in rows:
            self._points[row.id] = Prospective.of(row, self.expectation)
