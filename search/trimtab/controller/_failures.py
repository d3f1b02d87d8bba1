"""Which steps are known to fail: of this run and, by the events that it leaves, of earlier ones."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Any

from trimtab.controller._runner import MAX_ATTEMPTS
from trimtab.spec._sections import Workers
from trimtab_storage import EventRow
from trimtab_workers.executors import Failure

FAILED = "trial-failed"
"""The kind of the events that tell of failures."""

MOST_FAILURES = 2
"""How many trials may fail at one step; those that need it later fail without trying it."""


LIMITED = ("timeout", "oom_host", "oom_device")
"""Failures that depend on what the workers of a run were given."""


def limits_of(workers: Workers) -> dict[str, Any]:
    """Gives what decides whether a job runs for too long, or out of memory."""
    return workers.model_dump(mode="json", exclude={"address"})


class Failures:
    """The steps at which trials failed, each named by the keys of what it was to make.

    A dead worker may be chance, and so may a lack of memory beside others: they count once a step
    took all attempts of a trial. However often
    a trial failed at a step, it is one trial, so that it does not matter whether a run was killed
    after it had written of a failure and before it had acted on it. What failed for want of time or
    memory in an earlier run counts only if workers had the same ``limits`` there.
    """

    def __init__(
        self, events: Iterable[EventRow] = (), limits: Mapping[str, Any] | None = None
    ) -> None:
        self._crashes: dict[tuple[str, int], set[int]] = {}
        self._failed: dict[str, dict[int, Failure]] = {}
        for event in events:
            # Earlier versions wrote no steps, and forgot them at the end of a run.
            if (steps := event.data.get("steps")) and event.data.get("limits", limits) == limits:
                reason, _, message = event.data["reason"].partition(": ")
                in_doubt = event.data.get("in_doubt", False)
                failure = Failure(reason, message, event.data["detail"], in_doubt)
                self.note(steps, event.data["trial"], event.data["attempt"], failure)

    def note(self, steps: Iterable[str], trial: int, attempt: int, failure: Failure) -> None:
        """Takes down that an attempt of a trial, which is told by its number, failed at steps."""
        is_chance = failure.is_worth_another_try or failure.reason == "cancelled"
        for step in steps:
            if not is_chance or self._used_up(step, trial, attempt, failure):
                self._failed.setdefault(step, {})[trial] = failure

    def known(self, steps: Collection[str]) -> tuple[int, Failure] | None:
        """Gives the last failure of the first of some steps that is broken, and its trial."""
        found = (self._failed.get(step, {}) for step in sorted(steps))
        broken = next((failed for failed in found if len(failed) >= MOST_FAILURES), None)
        return None if broken is None else list(broken.items())[-1]

    def _used_up(self, step: str, trial: int, attempt: int, failure: Failure) -> bool:
        """Tells whether by now all attempts of a trial have met with such a chance at a step."""
        if not failure.is_worth_another_try:
            return False
        attempts = self._crashes.setdefault((step, trial), set())
        attempts.add(attempt)
        return len(attempts) >= MAX_ATTEMPTS
