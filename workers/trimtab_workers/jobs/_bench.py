"""Timing saved artifacts against the dense baseline, on requests of the search rows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trimtab_workers.executors import WorkerContext
from trimtab_workers.jobs._place import Place, load_elastic
from trimtab_workers.latency._taking_turns import turn_to_time
from trimtab_workers.latency.bench import BenchResult, bench, settings_of
from trimtab_workers.latency.workload import Statistic, Workload

if TYPE_CHECKING:
    import torch

    from trimtab_strategies.elastic import TrimtabForSequenceClassification
    from trimtab_workers.latency.pairs import Model

__all__ = ["BenchJob", "BenchResult", "Candidate", "at_knobs", "load_to_serve"]


@dataclass(frozen=True)
class Candidate:
    """A saved model at one setting of its knobs."""

    key: str
    knobs: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class BenchJob:
    """Times candidates against the baseline; nothing else of ours may run on the node meanwhile.

    Other runs on the host take turns with it. A candidate that is the baseline itself is timed as a
    second copy of it: what it seems to gain or lose is what the measurement is worth.
    ``reference_p50_ms`` is the baseline's median when the study began, at whose speed latencies are
    then stated; ``is_relative`` says that the ratio to the baseline is what is asked for,
    ``is_both`` that the times are too; ``also`` are further statistics that must be sure.
    """

    place: Place
    baseline_key: str
    candidates: tuple[Candidate, ...]
    workload: Workload
    statistic: Statistic
    reference_p50_ms: float | None = None
    is_relative: bool = False
    limit_s: float = 20.0
    n_requests: int = 128
    also: tuple[Statistic, ...] = ()
    is_both: bool = False

    def run(self, context: WorkerContext) -> list[BenchResult]:
        """Gives one result for each candidate, in their order."""
        from trimtab_workers.devices import pick_device
        from trimtab_workers.latency.requests import requests_of

        requests = requests_of(self.place, context, self.workload, self.n_requests)
        settings = settings_of(
            self.workload,
            self.statistic,
            context.device,
            limit_s=self.limit_s,
            reference_p50_ms=self.reference_p50_ms,
            is_relative=self.is_relative,
            also=self.also,
            is_both=self.is_both,
        )
        device = pick_device(settings.device)
        baseline = load_to_serve(self.place.files.path(self.baseline_key), device)
        baseline.config.knobs = {}
        models, limit = self._models(device), max(1, round(self.limit_s))
        with turn_to_time(device.type, context):
            context.report("timing", 0, limit)
            return bench(
                baseline,
                models,
                requests,
                settings,
                lambda seconds: context.report("timing", min(limit, int(seconds)), limit),
            )

    def _models(self, device: torch.device) -> list[Model]:
        """Loads each artifact once, however many settings of it are timed."""
        keys = dict.fromkeys(candidate.key for candidate in self.candidates)
        models = {key: load_to_serve(self.place.files.path(key), device) for key in keys}
        return [at_knobs(models[one.key], one.knobs) for one in self.candidates]


def load_to_serve(folder: Path, device: torch.device) -> TrimtabForSequenceClassification:
    """Loads an elastic model as a user would have it run, on the device."""
    model = load_elastic(folder)
    model.to(device).eval()
    model.keep_layouts()
    return model


def at_knobs(model: TrimtabForSequenceClassification, knobs: Mapping[str, Any]) -> Model:
    """Gives the model as it is at one setting, whatever it was last called with."""
    setting = dict(knobs)

    def call(**request: torch.Tensor) -> Any:
        model.config.knobs = setting
        return model(**request)

    return call
