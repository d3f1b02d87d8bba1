"""Timing a checkpoint as its user will: loaded in a process of its own, on the target device."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from trimtab_workers.executors import WorkerContext
from trimtab_workers.jobs._place import Place
from trimtab_workers.latency._taking_turns import turn_to_time
from trimtab_workers.latency.bench import BenchResult, settings_of
from trimtab_workers.latency.workload import Statistic, Workload


@dataclass(frozen=True)
class DeliveredJob:
    """Times the checkpoint in ``folder`` in a fresh process, in pairs with the dense model.

    Requests are those that points are timed on; only their tokens are handed over. Times are taken
    as they pass. The folder must be one that the worker sees too.
    """

    place: Place
    baseline_key: str
    folder: str
    workload: Workload
    statistic: Statistic
    is_relative: bool = False
    limit_s: float = 20.0
    n_requests: int = 128
    also: tuple[Statistic, ...] = ()
    is_both: bool = False

    def run(self, context: WorkerContext) -> BenchResult:
        """Has another process load both models and time them.

        Raises:
            BenchError: with what that process said.
        """
        from trimtab_workers.latency.process import measure_in_fresh_process
        from trimtab_workers.latency.requests import requests_of

        requests = requests_of(self.place, context, self.workload, self.n_requests)
        settings = settings_of(
            self.workload,
            self.statistic,
            context.device,
            limit_s=self.limit_s,
            is_relative=self.is_relative,
            also=self.also,
            is_both=self.is_both,
        )
        baseline = self.place.files.path(self.baseline_key)
        # The other process loads models too, which would disturb whoever is timing.
        with turn_to_time(_type_of(settings.device), context):
            context.report("timing", 0, 1)
            return measure_in_fresh_process(Path(self.folder), baseline, requests, settings)


def _type_of(device: str) -> str:
    """Gives the type of a device; of one that is not here it is the other process that tells."""
    from trimtab_workers.devices import pick_device
    from trimtab_workers.errors import WorkerInputError

    try:
        return pick_device(device).type
    except WorkerInputError:
        return device
