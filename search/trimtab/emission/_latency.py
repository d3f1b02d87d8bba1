"""Delivered means measured: a checkpoint is timed in a fresh process before it takes its place."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from trimtab.errors import JobError, TrimtabError
from trimtab.forge import Forge
from trimtab.selection import SLACK, Choice
from trimtab_storage import PointRow
from trimtab_workers.jobs import BenchResult, DeliveredJob
from trimtab_workers.latency.summary import Latency
from trimtab_workers.latency.workload import Statistic, Workload

MOST_TRIES, LIMIT_S = 2, 10.0
MOST_CANDIDATES = 5

LatencyFacts = Mapping[str, Any]
Delivered = tuple[dict[str, Any], dict[str, Any]]


class LatencyMissedError(TrimtabError):
    """What was written takes longer than its budget allows."""

    def __init__(self, latency: LatencyFacts, max_ms: float) -> None:
        super().__init__(
            f"the written checkpoint takes up to {latency['high']:.4g} ms "
            f"({latency['statistic']}), and {max_ms:.4g} ms are allowed"
        )
        self.latency = dict(latency)


@dataclass(frozen=True)
class LatencyCheck:
    """How a checkpoint is timed, and the most that it may take.

    ``reference`` is the baseline's latency that a relative budget was worked out from; None for a
    budget in milliseconds, which is about the time that passes.
    """

    statistic: Statistic
    workload: Workload
    max_ms: float | None
    reference: LatencyFacts | None = None

    def measure(self, forge: Forge, folder: Path, baseline_key: str) -> Delivered:
        """Times the checkpoint in ``folder``, again where that was not stable.

        Gives the latency and the times behind it, which are none where it could not be timed.
        ``holds`` says whether it is within the budget: None where that cannot be told.
        """
        job = DeliveredJob(
            forge.place,
            baseline_key,
            str(folder),
            self.workload,
            self.statistic,
            is_relative=self.reference is not None,
            limit_s=LIMIT_S,
        )
        try:
            result = self._timed(forge, job)
        except JobError as error:
            return self._untold(str(error)), {}
        timed = result.latency
        if self.reference is not None:
            timed = timed.relative_to(Latency.from_plain(self.reference))
        latency = timed.to_plain()
        told = {**latency, "holds": self.holds(latency), "max_ms": self.max_ms}
        return told, result.samples

    def _timed(self, forge: Forge, job: DeliveredJob) -> BenchResult:
        for _ in range(MOST_TRIES):
            result: BenchResult = forge.run(job, "timing the checkpoint in a fresh process")
            if result.latency.verdict == "stable":
                break
        return result

    def _untold(self, reason: str) -> dict[str, Any]:
        """Gives what is said of a checkpoint that could not be timed."""
        said = {"statistic": self.statistic, "value": None, "verdict": "unstable"}
        return {**said, "reason": reason, "holds": None, "max_ms": self.max_ms}

    def holds(self, latency: LatencyFacts) -> bool | None:
        """Tells whether a latency is within the budget, at the upper end of its interval."""
        if self.max_ms is None or latency["verdict"] != "stable":
            return None
        return bool(latency["high"] <= self.max_ms * (1 + SLACK))

    def judged(self, choice: Choice[PointRow], latency: LatencyFacts) -> Choice[PointRow]:
        """Gives a choice as it stands once its checkpoint was timed."""
        if latency["holds"] is not False or not choice.feasible:
            return choice
        more = f"raise latency from {self.max_ms:.4g} ms to {1.01 * latency['high']:.3g} ms"
        return replace(choice, feasible=False, relaxations=[more])

    def insist(self, latency: LatencyFacts) -> None:
        """Refuses a checkpoint that is known to take too long.

        Raises:
            LatencyMissedError: saying by how much.
        """
        if latency["holds"] is False:
            assert self.max_ms is not None
            raise LatencyMissedError(latency, self.max_ms)


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
