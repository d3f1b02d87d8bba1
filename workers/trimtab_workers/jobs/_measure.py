"""Measuring a saved artifact again, on either half of the validation rows."""

from __future__ import annotations

from dataclasses import dataclass

from trimtab_workers.executors import WorkerContext
from trimtab_workers.jobs._place import Measurement, Place, Split


@dataclass(frozen=True)
class MeasureJob:
    """Loads an artifact from its files and measures it."""

    place: Place
    key: str
    split: Split

    def run(self, context: WorkerContext) -> Measurement:
        """Gives the metric on the split and the static cost."""
        model = self.place.elastic_model(context, self.key)
        return self.place.measure(context, model, self.split)
