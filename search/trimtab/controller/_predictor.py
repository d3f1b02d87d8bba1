"""What points will take, by the table of parts: from the records that were kept beside a model."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from trimtab.controller._baseline import Baseline
from trimtab.controller._session import Session
from trimtab_storage import ArtifactError, NewArtifact
from trimtab_strategies.cost import LengthHistogram
from trimtab_strategies.outcomes import NO_EXITS, Pricing
from trimtab_strategies.recipe import stable_key
from trimtab_strategies.records import Records
from trimtab_workers.jobs import TableJob
from trimtab_workers.latency.predict import predict_many, share_within
from trimtab_workers.latency.prices import prices_of
from trimtab_workers.latency.saved import Prediction, predict_saved
from trimtab_workers.latency.table import LatencyTable
from trimtab_workers.latency.workload import Statistic, Workload

KIND = "latency-table"
VERSION = 2
"""Of what the parts are and how they are run; another one is measured anew."""


class Predictor:
    """Predicts latencies for one workload; the table is measured once and kept in the database.

    Reads the files of models where they lie, so that no worker is needed for it. What parts do not
    tell, such as how much times scatter, is taken to be as it is for the baseline: each statistic
    is scaled so that the baseline's own is met.
    """

    def __init__(
        self, session: Session, baseline: Baseline, workload: Workload, reference: Mapping[str, Any]
    ) -> None:
        self._files, self._workload = session.files, workload
        self._table = LatencyTable.from_plain(_table(session, baseline.key, workload, reference))
        self._shape = baseline.survey.shape
        self._lengths = _lengths_of(baseline.survey.histogram)
        dense = Pricing(self._shape, "ltp", NO_EXITS)
        records = _records_of(self._lengths, self._shape.n_layers)
        (by_parts,) = predict_many(self._table, dense, records, [{}], workload)
        self._scale = {name: reference[name] / by_parts[name] for name in by_parts}

    def of(self, settings: Sequence[tuple[str, Mapping[str, Any]]]) -> list[Prediction | None]:
        """Gives p50, p95 and mean of each model at its knobs; None where its files are gone."""
        models: dict[str, list[int]] = {}
        for place, (key, _) in enumerate(settings):
            models.setdefault(key, []).append(place)
        found: list[Prediction | None] = [None] * len(settings)
        for key, places in models.items():
            each = [settings[place][1] for place in places]
            for place, one in zip(places, self._of_model(key, each), strict=True):
                found[place] = one
        return found

    def share_within(self, statistic: Statistic, limit_ms: float) -> float | None:
        """Gives the share of the dense FLOPs at which sliced models are within a limit."""
        by_parts = limit_ms / self._scale[statistic]
        return share_within(
            self._table, self._shape, self._lengths, self._workload, statistic, by_parts
        )

    def prices(self, statistic: Statistic) -> str:
        """Gives what heads and filters take, as shares of what they all do in the dense model."""
        return str(prices_of(self._table, self._shape, self._lengths, self._workload, statistic))

    def _of_model(
        self, key: str, knobs: Sequence[Mapping[str, Any]]
    ) -> Iterator[Prediction | None]:
        try:
            folder = self._files.path(key)
        except ArtifactError:  # dropped, where it would have to be fetched
            yield from [None] * len(knobs)
            return
        for one in predict_saved(folder, self._table, self._workload, knobs):
            yield one and {name: ms * self._scale[name] for name, ms in one.items()}


def _lengths_of(histogram: LengthHistogram) -> list[int]:
    return [length for length, count in histogram.counts.items() for _ in range(count)]


def _records_of(lengths: Sequence[int], n_layers: int) -> Records:
    """Gives the records of a model that keeps every token and has no exits."""
    known = np.array(lengths, dtype=np.int64)
    nothing = np.zeros((len(known), 2))
    kept, labels = np.repeat(known[:, None], n_layers, axis=1), np.zeros_like(known)
    return Records(known, kept, (), nothing[:, None][:, :0], nothing, labels)


def _table(
    session: Session, baseline_key: str, workload: Workload, reference: Mapping[str, Any]
) -> dict[str, Any]:
    # What a faster machine takes less of, it takes less of everywhere: that is what scaling is for.
    machine = {name: reference[name] for name in ("device", "threads")}
    shape = {**workload.to_plain(), "seed": None}
    key = stable_key(KIND, VERSION, baseline_key, shape, machine)
    row = session.store.artifact(key)
    if row is not None:
        return dict(row.meta)
    job = TableJob(session.place, baseline_key, workload)
    with session.spending.on("table"):
        table: dict[str, Any] = session.runner.run(job, "timing parts of the model")
    artifact = NewArtifact(
        key=key,
        kind=KIND,
        parent_key=baseline_key,
        recipe=[],
        strategy=None,
        path=None,
        sha256=None,
        size_bytes=None,
        meta=table,
        seconds=0.0,
    )
    session.store.record_artifact(session.lease, artifact)
    return table
