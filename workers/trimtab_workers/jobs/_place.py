"""What all jobs share: where their data, models and artifact files are, and how to measure."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol, cast

from trimtab_workers.executors import WorkerContext
from trimtab_workers.task import Task

if TYPE_CHECKING:
    from trimtab_strategies.cost import LengthHistogram
    from trimtab_strategies.elastic import TrimtabConfig, TrimtabForSequenceClassification
    from trimtab_workers.data import TaskData

Split = Literal["search", "certify"]


class Stored(Protocol):
    """Where an artifact's files lie, and how to tell that they are still the same."""

    @property
    def path(self) -> str: ...  # noqa: D102
    @property
    def sha256(self) -> str: ...  # noqa: D102
    @property
    def size_bytes(self) -> int: ...  # noqa: D102


class Files(Protocol):
    """Artifact files by key, on storage that every worker reaches; must be picklable."""

    def save(self, key: str, write: Callable[[Path], None]) -> Stored:
        """Calls ``write`` with an empty folder and makes what it wrote appear in one piece."""

    def path(self, key: str) -> Path:
        """Gives the folder of a saved artifact."""


@dataclass(frozen=True)
class Measurement:
    """One model measured on one split: the metric's value, and what a sample costs on average.

    ``flops`` is static: the mean over the lengths of the whole validation file, the one workload
    that every model of a study is priced on.
    """

    split: Split
    metric: float
    n: int
    flops: float
    params: int


@dataclass(frozen=True)
class Place:
    """The task and model of a study, and its artifact files; part of every job."""

    task: Task
    model: str
    files: Files

    def model_folder(self) -> Path:
        """Finds the folder of the study's original model."""
        from trimtab_workers.sources import resolve_model

        return resolve_model(self.model, allow_hub=self.task.allow_hub)

    def data(self, context: WorkerContext) -> TaskData:
        """Loads and tokenises the task's data, once in a worker's life."""
        from trimtab_workers.data import load_task_data

        key = f"data:{self.task}:{self.model}"
        if key not in context.cache:
            context.report("reading data", 0, 1)
            context.cache[key] = load_task_data(self.task, self.model_folder())
        return cast("TaskData", context.cache[key])

    def histogram(self, context: WorkerContext) -> LengthHistogram:
        """Gives the workload that models are priced on."""
        from trimtab_strategies.cost import LengthHistogram

        return LengthHistogram.from_lengths(self.data(context).validation_lengths)

    def elastic_model(self, context: WorkerContext, key: str) -> TrimtabForSequenceClassification:
        """Loads a model artifact onto the worker's device; the last one loaded is kept."""
        from trimtab_workers.devices import pick_device

        if context.cache.get("model-key") != key:
            model = load_elastic(self.files.path(key)).to(pick_device(context.device))
            context.cache.update({"model-key": key, "model": model})
        return cast("TrimtabForSequenceClassification", context.cache["model"])

    def measure(
        self, context: WorkerContext, model: TrimtabForSequenceClassification, split: Split
    ) -> Measurement:
        """Evaluates a model on one half of the validation rows and prices it."""
        from trimtab_strategies.cost import mean_flops
        from trimtab_strategies.slicing import shape_of
        from trimtab_workers.evaluation import evaluate

        data = self.data(context)
        rows = data.search if split == "search" else data.certify
        result = evaluate(
            model,
            rows,
            metric=self.task.metric,
            pad_token_id=model.config.pad_token_id,
            device=model.device,
            progress=context.report,
        )
        flops = mean_flops(shape_of(model.config), self.histogram(context))
        return Measurement(split, result.metric, len(rows), flops, model.num_parameters())


def load_elastic(folder: Path) -> TrimtabForSequenceClassification:
    """Loads an elastic model from a folder of ours; every weight must find its place.

    Raises:
        ModelError: if a weight is missing, unexpected or of another shape, or the configuration
            asks for what is not safe.
    """
    import torch

    from trimtab_strategies.elastic import TrimtabConfig, TrimtabForSequenceClassification
    from trimtab_workers._config import read_elastic_config
    from trimtab_workers._quiet import quiet_transformers
    from trimtab_workers._weights import check_room, weight_files
    from trimtab_workers.errors import ModelError

    declared = set(inspect.signature(TrimtabConfig).parameters) - {"kwargs"}
    config = TrimtabConfig(**read_elastic_config(folder, declared))
    check_room(folder, weight_files(folder), _least_sizes(config))
    with quiet_transformers():
        model, info = TrimtabForSequenceClassification.from_pretrained(
            folder,
            config=config,
            local_files_only=True,
            use_safetensors=True,
            trust_remote_code=False,
            dtype=torch.float32,
            output_loading_info=True,
        )
    wrong = {name: keys for name, keys in info.items() if keys}
    if wrong:
        raise ModelError(f"every weight of {folder} must find its place, but got {wrong}")
    loaded: TrimtabForSequenceClassification = model.eval()
    return loaded


def _least_sizes(config: TrimtabConfig) -> dict[str, int]:
    width = config.embedding_size
    return {
        "word embeddings": config.vocab_size * width,
        "position embeddings": config.max_position_embeddings * width,
        "heads": sum(config.heads_per_layer) * config.head_dim * config.hidden_size,
        "feed-forward filters": sum(config.filters_per_layer) * config.hidden_size,
    }


@contextmanager
def cpu_threads(count: int | None) -> Iterator[None]:
    """Lets torch use ``count`` CPU threads for a while; None changes nothing."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(before if count is None else count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def save_elastic(model: TrimtabForSequenceClassification, folder: Path) -> None:
    """Writes an elastic model's configuration and weights (safetensors) into a folder."""
    from trimtab_workers._quiet import quiet_transformers

    with quiet_transformers():
        model.save_pretrained(folder)
