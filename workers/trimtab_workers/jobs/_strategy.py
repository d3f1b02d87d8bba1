"""Jobs that carry out one step of a recipe: first what can be shared, then the models."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trimtab_strategies import registry
from trimtab_strategies.base import Calibration, MakeBatches, Value, Variant
from trimtab_workers.executors import WorkerContext
from trimtab_workers.jobs._place import (
    Look,
    Measurement,
    Place,
    Stored,
    fitting_threads,
    save_measured,
)

if TYPE_CHECKING:
    from trimtab_workers.data import Encoded

STATISTICS_FILE = "statistics.safetensors"


@dataclass(frozen=True)
class StatisticsResult:
    """The saved statistics of a strategy on one parent."""

    stored: Stored
    seconds: float


@dataclass(frozen=True)
class StatisticsJob:
    """Measures what all recipes with the same statistics choices share, and saves it."""

    place: Place
    parent_key: str
    key: str
    strategy: str
    choices: tuple[tuple[str, Value], ...]

    def run(self, context: WorkerContext) -> StatisticsResult:
        """Runs the strategy's ``prepare`` on the parent artifact."""
        from safetensors.torch import save_file

        started = time.monotonic()
        model = self.place.elastic_model(context, self.parent_key)
        calibration = calibration_of(self.place, context, model)
        with fitting_threads(self.place.task, model):
            tensors = registry.get(self.strategy).prepare(
                model, calibration, dict(self.choices), context.report
            )
        if tensors is None:
            raise ValueError(f"strategy {self.strategy!r} must prepare statistics, but gave none")
        plain = {name: tensor.contiguous() for name, tensor in tensors.items()}

        def write(folder: Path) -> None:
            save_file(plain, folder / STATISTICS_FILE)

        return StatisticsResult(self.place.files.save(self.key, write), time.monotonic() - started)


@dataclass(frozen=True)
class RungResult:
    """One model that a step made: its artifact, its full choices, and what was measured."""

    key: str
    choices: dict[str, Value]
    stored: Stored
    measurement: Measurement
    notes: dict[str, Any]
    seconds: float


@dataclass(frozen=True)
class LadderJob:
    """Applies a strategy to a parent artifact, once for each rung, and measures every model.

    ``rungs`` are pairs of the cost wanted, as a fraction of the parent's, and the key under which
    that model is saved. ``statistics_key`` names saved statistics; None where there are none. With
    ``look`` only that much is learned from and measured on.
    """

    place: Place
    parent_key: str
    statistics_key: str | None
    strategy: str
    choices: tuple[tuple[str, Value], ...]
    rungs: tuple[tuple[float, str], ...]
    look: Look | None = None

    def run(self, context: WorkerContext) -> list[RungResult]:
        """Makes, saves and measures every rung; the parent stays loaded for the next job.

        What the rungs share is counted in the seconds of the first.
        """
        from safetensors.torch import load_file

        statistics = None
        if self.statistics_key is not None:
            statistics = load_file(self.place.files.path(self.statistics_key) / STATISTICS_FILE)
        model = self.place.elastic_model(context, self.parent_key)
        with fitting_threads(self.place.task, model):
            return self._make(context, model, statistics)

    def _make(self, context: WorkerContext, model: Any, statistics: Any) -> list[RungResult]:
        share = 1.0 if self.look is None else self.look.share
        variants = registry.get(self.strategy).apply(
            model,
            calibration_of(self.place, context, model, share),
            dict(self.choices),
            statistics,
            [rung for rung, _ in self.rungs],
            context.report,
        )
        results, started = [], time.monotonic()
        for (_, key), variant in zip(self.rungs, variants, strict=True):
            results.append(self._keep(context, key, variant, started))
            started = time.monotonic()
        return results

    def _keep(
        self, context: WorkerContext, key: str, variant: Variant, started: float
    ) -> RungResult:
        n_rows = None if self.look is None else self.look.n_rows
        measurement, records = self.place.sweep(context, variant.model, "search", n_rows)

        def write(folder: Path) -> None:
            save_measured(variant.model, records, folder)

        stored = self.place.files.save(key, write)
        seconds = time.monotonic() - started
        return RungResult(
            key, dict(variant.choices), stored, measurement, dict(variant.notes), seconds
        )


def calibration_of(
    place: Place, context: WorkerContext, model: Any, share: float = 1.0
) -> Calibration:
    """Gives a strategy its view of the training rows: one seeded order, batches by length.

    With a ``share`` it is that part of the rows, the first of the same order.
    """
    data = place.data(context)
    more = data.unlabeled
    return Calibration(
        math.ceil(share * len(data.train)),
        place.histogram(context),
        _batches_of(data.train, place.task.seed, model),
        n_unlabeled=0 if more is None else math.ceil(share * len(more)),
        unlabeled=None if more is None else _batches_of(more, place.task.seed, model),
    )


def _batches_of(every: Encoded, seed: int, model: Any) -> MakeBatches:
    import numpy as np

    from trimtab_workers.batching import collate, length_sorted_batches

    order = np.random.default_rng(seed).permutation(len(every))

    def batches(stop: int, batch_size: int, start: int = 0) -> Sequence[dict[str, Any]]:
        rows = every.select(order[start:stop])
        return [
            collate(rows, indices, model.config.pad_token_id, model.device)
            for indices in length_sorted_batches(rows, batch_size)
        ]

    return batches
