"""Predictions for a saved model, from its configuration and the records that lie beside it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from trimtab_strategies.outcomes import Pricing
from trimtab_strategies.records import Records, records_file
from trimtab_workers.latency.predict import predict_many
from trimtab_workers.latency.table import LatencyTable
from trimtab_workers.latency.workload import Workload

Prediction = dict[str, float]
CONFIG = "config.json"


def predict_saved(
    folder: Path,
    table: LatencyTable,
    workload: Workload,
    settings: Sequence[Mapping[str, Any]],
) -> list[Prediction | None]:
    """Gives ``p50``, ``p95`` and ``mean`` in ms at each setting of a model's knobs.

    None where the model was not recorded at the scale that a setting names, or its files are gone.
    No weights are read, so that torch is not needed.
    """
    by_file: dict[str, list[int]] = {}
    for place, knobs in enumerate(settings):
        by_file.setdefault(records_file(knobs), []).append(place)
    answers: list[Prediction | None] = [None] * len(settings)
    for file, places in by_file.items():
        try:
            pricing = Pricing.of(json.loads((folder / CONFIG).read_text(encoding="utf-8")))
            records = Records.load(folder / file)
        except (OSError, ValueError, KeyError):
            continue
        found = predict_many(table, pricing, records, [settings[p] for p in places], workload)
        for place, prediction in zip(places, found, strict=True):
            answers[place] = prediction
    return answers
