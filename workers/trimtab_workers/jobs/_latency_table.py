"""Predicting latencies: measuring a table of parts once, and reading models' times off it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from trimtab_workers.executors import WorkerContext
from trimtab_workers.jobs._place import Place, cpu_threads

if TYPE_CHECKING:
    from pathlib import Path

    from trimtab_workers.latency.table import LatencyTable
    from trimtab_workers.latency.workload import Workload

Prediction = dict[str, float]
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
        from trimtab_workers.latency.measuring import measure_table

        named = self.workload.device
        device = pick_device(context.device if named == "auto" else named)
        config = TrimtabConfig.from_dict(_config(self.place.files.path(self.baseline_key)))
        lengths = self.workload.lengths or self.place.data(context).validation_lengths
        context.report("timing parts of the model", 0, 1)
        with cpu_threads(self.workload.threads):
            table = measure_table(config, self.workload, max(lengths), device)
        return table.to_plain()


@dataclass(frozen=True)
class PredictJob:
    """Predicts what models take, each at settings of its knobs, from the files kept of them."""

    place: Place
    table: Mapping[str, Any]
    workload: Workload
    wanted: tuple[tuple[str, tuple[Mapping[str, Any], ...]], ...]

    def run(self, context: WorkerContext) -> list[list[Prediction | None]]:
        """Gives ``p50``, ``p95`` and ``mean`` in ms, of each setting of each model.

        None where the model was not recorded at the scale that a setting names.
        """
        from trimtab_workers.latency.table import LatencyTable

        table, answers = LatencyTable.from_plain(self.table), []
        for done, (key, settings) in enumerate(self.wanted):
            context.report("predicting latencies", done, len(self.wanted))
            folder = self.place.files.path(key)
            answers.append(_predictions(folder, table, self.workload, settings))
        return answers


def _predictions(
    folder: Path,
    table: LatencyTable,
    workload: Workload,
    settings: tuple[Mapping[str, Any], ...],
) -> list[Prediction | None]:
    from trimtab_strategies.outcomes import Pricing
    from trimtab_strategies.records import Records, records_file
    from trimtab_workers.latency.predict import predict_many

    pricing = Pricing.of(_config(folder))
    by_file: dict[str, list[int]] = {}
    for place, knobs in enumerate(settings):
        by_file.setdefault(records_file(knobs), []).append(place)
    answers: list[Prediction | None] = [None] * len(settings)
    for file, places in by_file.items():
        if not (folder / file).is_file():
            continue
        records, together = Records.load(folder / file), [settings[place] for place in places]
        found = predict_many(table, pricing, records, together, workload)
        for place, prediction in zip(places, found, strict=True):
            answers[place] = prediction
    return answers


def _config(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
    return found
