"""The baseline: the user's model as it is, fine-tuned first if it has no head for the task."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from trimtab_workers.executors import WorkerContext
from trimtab_workers.jobs._place import (
    Measurement,
    Place,
    Stored,
    cpu_threads,
    fitting_threads,
    save_measured,
)
from trimtab_workers.task import Finetune


@dataclass(frozen=True)
class BaselineResult:
    """The dense model as an artifact, measured; with what fine-tuning did, where it was needed."""

    stored: Stored
    measurement: Measurement
    finetuning: dict[str, Any] | None
    seconds: float


@dataclass(frozen=True)
class BaselineJob:
    """Makes the dense elastic model that everything else starts from, and measures it.

    Nothing else of a study runs meanwhile, so it may take ``threads`` CPU threads for itself; None
    leaves a worker those that it has.
    """

    place: Place
    key: str
    finetune: Finetune
    threads: int | None = None

    def run(self, context: WorkerContext) -> BaselineResult:
        """Loads, fine-tunes where needed, converts, measures, saves with the tokenizer."""
        with cpu_threads(self.threads):
            return self._make(context)

    def _make(self, context: WorkerContext) -> BaselineResult:
        from trimtab_strategies.families import to_elastic
        from trimtab_workers.devices import pick_device
        from trimtab_workers.sources import check_model_folder, load_stock_model, load_tokenizer
        from trimtab_workers.training import finetune

        started = time.monotonic()
        data, folder = self.place.data(context), self.place.model_folder()
        facts, device = check_model_folder(folder), pick_device(context.device)
        task = self.place.task
        stock = load_stock_model(
            folder,
            num_labels=None if facts.has_head else len(data.labels.names),
            id2label=None if facts.has_head else dict(enumerate(data.labels.names)),
            seed=task.seed,
        ).to(device)
        report = None
        with fitting_threads(task, stock):
            if not facts.has_head:
                report = finetune(
                    stock,
                    data.train,
                    self.finetune,
                    metric=task.metric,
                    pad_token_id=stock.config.pad_token_id,
                    seed=task.seed,
                    device=device,
                    progress=context.report,
                )
            model = to_elastic(stock)
            measurement, records = self.place.sweep(context, model, "search")
        tokenizer = load_tokenizer(folder)

        def write(target: Path) -> None:
            save_measured(model, records, target)
            tokenizer.save_pretrained(target)

        return BaselineResult(
            stored=self.place.files.save(self.key, write),
            measurement=measurement,
            finetuning=None if report is None else asdict(report),
            seconds=time.monotonic() - started,
        )
