"""Measuring a saved artifact again, on either half of the validation rows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from trimtab_workers.executors import WorkerContext
from trimtab_workers.jobs._place import Measurement, Place, Split, fitting_threads


@dataclass(frozen=True)
class MeasureJob:
    """Loads an artifact from its files and measures it, on ``n_rows`` of the split or on all."""

    place: Place
    key: str
    split: Split
    knobs: Mapping[str, Any] = field(default_factory=dict)
    n_rows: int | None = None

    def run(self, context: WorkerContext) -> Measurement:
        """Gives the metric on the split and the cost, at one setting of the knobs."""
        model = self.place.elastic_model(context, self.key)
        with fitting_threads(self.place.task, model):
            return self.place.measure(context, model, self.split, self.knobs, self.n_rows)
