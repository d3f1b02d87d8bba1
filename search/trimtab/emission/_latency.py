"""Delivered means measured: a checkpoint is timed in a fresh process before it takes its place."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from trimtab._parts import joined, joined_as, parts_of, requests_text
from trimtab._rules import SLACK
from trimtab.emission._distribution import distribution_of
from trimtab.errors import JobError, TrimtabError
from trimtab.forge import Forge
from trimtab.selection import Choice, Limits, choose, is_feasible
from trimtab_storage import PointRow
from trimtab_workers.jobs import BenchResult, DeliveredJob
from trimtab_workers.latency.asked import Asked, Timing, in_order, timings_of
from trimtab_workers.latency.summary import Latency
from trimtab_workers.latency.workload import Statistic, Workload

MOST_TRIES, LIMIT_S = 2, 10.0
MOST_CANDIDATES = 5

LatencyFacts = Mapping[str, Any]
Delivered = tuple[dict[str, Any], dict[str, Any]]


class LatencyMissedError(TrimtabError):
    """What was written takes longer than its budget allows.

    ``part`` is the part of the latency that tells so, where the budget has several limits.
    """

    def __init__(
        self, latency: LatencyFacts, max_ms: float, part: LatencyFacts | None = None
    ) -> None:
        slow = part or latency
        what = slow["statistic"] if part is None else requests_text(part, parts_of(latency))
        super().__init__(
            f"the written checkpoint takes up to {slow['high']:.4g} ms ({what}), and "
            f"{max_ms:.4g} ms are allowed"
        )
        self.latency = dict(latency)


@dataclass(frozen=True)
class LatencyCheck:
    """How a checkpoint is timed, and the most that it may take.

    ``reference`` is the baseline's latency that a relative budget was worked out from; None for a
    budget in milliseconds, which is about the time that passes. ``others`` are the same for further
    limits, in their order.
    """

    statistic: Statistic
    workload: Workload
    max_ms: float | None
    reference: LatencyFacts | None = None
    others: tuple[LatencyCheck, ...] = ()

    def measure(self, forge: Forge, folder: Path, baseline_key: str) -> Delivered:
        """Times the checkpoint in ``folder``, again where that was not stable.

        Gives the latency and the times behind it, which are none where it could not be timed.
        ``holds`` says whether it is within the whole budget, and within its own limit for each of
        the others: None where that cannot be told. Requests that cannot be timed leave what is
        known of the others.
        """
        timings = timings_of([check.asked for check in self._every])
        found = [self._found(forge, folder, baseline_key, timing) for timing in timings]
        figures = in_order(timings, [own for own, _ in found])
        told = [check._told(each) for check, each in zip(self._every, figures, strict=True)]
        samples = [own for _, own in found]
        latency = self._together(told)
        if samples[0]:
            latency["distribution"] = distribution_of(samples[0])
        return latency, joined(samples) if any(samples) else {}

    @property
    def asked(self) -> Asked:
        """What is timed for the first limit."""
        return Asked(self.statistic, self.workload, self.reference is not None)

    @property
    def _every(self) -> tuple[LatencyCheck, ...]:
        return (self, *self.others)

    def _found(
        self, forge: Forge, folder: Path, baseline_key: str, timing: Timing
    ) -> tuple[Sequence[Latency | str], LatencyFacts]:
        """Gives the figures of one timing and the times, or for each figure why there is none."""
        try:
            result = self._timed(forge, folder, baseline_key, timing)
        except JobError as error:
            return [str(error)] * len(timing.places), {}
        return timing.figures(result), result.samples

    def _timed(self, forge: Forge, folder: Path, baseline_key: str, timing: Timing) -> BenchResult:
        job = DeliveredJob(
            forge.place, baseline_key, str(folder), **timing.settings(), limit_s=LIMIT_S
        )
        for _ in range(MOST_TRIES):
            result: BenchResult = forge.run(job, "timing the checkpoint in a fresh process")
            if all(figure.verdict == "stable" for figure in timing.figures(result)):
                break
        return result

    def _told(self, timed: Latency | str) -> dict[str, Any]:
        """Gives what is said of the first limit, or why nothing can be."""
        if isinstance(timed, str):
            return self._untold(timed)
        if self.reference is not None:
            timed = timed.relative_to(Latency.from_plain(self.reference))
        latency = timed.to_plain()
        return {**latency, "holds": self.holds(latency), "max_ms": self.max_ms}

    def _untold(self, reason: str) -> dict[str, Any]:
        """Gives what is said of a checkpoint that could not be timed."""
        said = {"statistic": self.statistic, "value": None, "verdict": "unstable"}
        return {**said, "reason": reason, "holds": None, "max_ms": self.max_ms}

    def _together(self, parts: Sequence[LatencyFacts]) -> dict[str, Any]:
        """Puts together what is said of each limit; ``holds`` on top is about all of them."""
        if len(parts) == 1:
            return dict(parts[0])
        told = joined_as(parts, [check.asked for check in self._every])
        found = [part["holds"] for part in parts]
        holds = False if False in found else None if None in found else True
        return {**told, "holds": holds}

    def holds(self, latency: LatencyFacts) -> bool | None:
        """Tells whether a latency is within the first limit, at the upper end of its interval."""
        if self.max_ms is None or latency["verdict"] != "stable":
            return None
        return bool(latency["high"] <= self.max_ms * (1 + SLACK))

    def judged(
        self, choice: Choice[PointRow], latency: LatencyFacts, limits: Limits
    ) -> Choice[PointRow]:
        """Gives a choice as it stands once its checkpoint was timed: that is what counts.

        A machine is not the same every day, so that what a search found too slow may hold after
        all; and what it found fast enough may not.
        """
        holds, was_within = latency["holds"], is_feasible(choice.point, limits.on_latency())
        if holds and not was_within:
            point = replace(choice.point, latency=dict(latency))
            return choose([point], limits.without_latency())
        if holds is not False or not choice.feasible:
            return choice
        parts = parts_of(latency)
        raised = [
            f"latency{f' {requests_text(part, parts)}' if self.others else ''} from "
            f"{max_ms:.4g} ms to "
            f"{1.01 * part['high']:.3g} ms"
            for max_ms, part in self._missed(latency)
        ]
        return replace(choice, feasible=False, relaxations=[f"raise {' and '.join(raised)}"])

    def _missed(self, latency: LatencyFacts) -> list[tuple[float, LatencyFacts]]:
        """Gives the limits that are known to be missed, each with the part that tells so."""
        pairs = zip(self._every, parts_of(latency), strict=False)
        missed = [(check.max_ms, part) for check, part in pairs if check.holds(part) is False]
        return [(max_ms, part) for max_ms, part in missed if max_ms is not None]

    def insist(self, latency: LatencyFacts) -> None:
        """Refuses a checkpoint that is known to take too long.

        Raises:
            LatencyMissedError: saying by how much.
        """
        for max_ms, part in self._missed(latency)[:1]:
            raise LatencyMissedError(latency, max_ms, part if self.others else None)


def emit_what_holds(
    choose: Callable[[], Choice[PointRow]],
    emit: Callable[[Choice[PointRow], bool], Any],
    on_miss: Callable[[PointRow, LatencyMissedError], None],
) -> Any:
    """Emits the best point whose checkpoint is as fast as it has to be, or else the closest.

    ``choose`` is asked again after each miss, of which ``on_miss`` is told, so that it then knows
    better. The last candidate is delivered whatever it takes; so is one that was not expected to
    meet the limits. ``emit`` is told whether to insist.
    """
    for _ in range(MOST_CANDIDATES - 1):
        choice = choose()
        if not choice.feasible:
            return emit(choice, False)
        try:
            return emit(choice, True)
        except LatencyMissedError as missed:
            on_miss(choice.point, missed)
    return emit(choose(), False)
