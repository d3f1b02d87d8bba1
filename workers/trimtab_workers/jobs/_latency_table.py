"""Measuring the table of parts that latencies are predicted by."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from trimtab_workers.executors import WorkerContext
from trimtab_workers.jobs._place import Place, cpu_threads
from trimtab_workers.latency._taking_turns import turn_to_time

if TYPE_CHECKING:
    from pathlib import Path

    from trimtab_workers.latency.workload import Workload

CONFIG = "config.json"


@dataclass(frozen=True)
class TableJob:
    """Measures what the parts of models take that are made from a baseline."""

    place: Place
    baseline_key: str
    workload: Workload

    def run(self, context: WorkerContext) -> dict[str, Any]:
        """Gives a ``LatencyTable`` as JSON has it."""
        from trimtab_strategies.elastic import TrimtabConfig
        from trimtab_workers.devices import pick_device
        from trimtab_workers.latency.bench import usable_cpus
        from trimtab_workers.latency.measuring import measure_table

        named = self.workload.device
        device = pick_device(context.device if named == "auto" else named)
        config = TrimtabConfig.from_dict(_config(self.place.files.path(self.baseline_key)))
        lengths = self.workload.lengths or self.place.data(context).validation_lengths
        threads = self.workload.threads or usable_cpus()
        with turn_to_time(device.type, context), cpu_threads(threads):
            context.report("timing parts of the model", 0, 1)
            table = measure_table(config, self.workload, max(lengths), device)
        return table.to_plain()


def _config(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
    return found
