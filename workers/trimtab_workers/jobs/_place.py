"""What all jobs share: where their data, models and artifact files are, and how to measure."""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol, cast

from trimtab_workers.executors import WorkerContext
from trimtab_workers.task import Task

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from trimtab_strategies.cost import LengthHistogram
    from trimtab_strategies.elastic import TrimtabConfig, TrimtabForSequenceClassification
    from trimtab_strategies.records import Records
    from trimtab_workers.data import Encoded, TaskData

Split = Literal["search", "certify"]

ROWS_AT_ONCE, LITTLE_MACS = 32, 5e7
"""Of how many texts one product is, and how small the largest one must be for a single thread."""


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

    ``flops`` is the mean over the lengths of the whole validation file, the one workload that every
    model of a study is priced on; where it depends on the rows, the share of their static cost
    that was measured on this split, times that of the workload. ``settings`` are those of the
    knobs with the ``metric`` and ``flops`` at each, the one of this measurement left out.
    """

    split: Split
    metric: float
    n: int
    flops: float
    params: int
    settings: list[dict[str, Any]] = field(default_factory=list)


@dataclass(frozen=True)
class Look:
    """How much of the work is done to find out whether a recipe is worth all of it.

    ``share`` is the part of the training rows that is learned from, ``n_rows`` how many rows of the
    search split judge the model.
    """

    share: float
    n_rows: int


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
        """Loads and tokenises the task's data, once for all workers of a run."""
        from trimtab_workers.data import load_task_data

        key = f"data:{self.task}:{self.model}"
        if key not in context.cache:
            context.report("reading data", 0, 1)
            context.cache[key] = context.shared(
                key, lambda: load_task_data(self.task, self.model_folder())
            )
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
        self,
        context: WorkerContext,
        model: TrimtabForSequenceClassification,
        split: Split,
        knobs: Mapping[str, Any] | None = None,
        n_rows: int | None = None,
    ) -> Measurement:
        """Evaluates a model on one half of the validation rows and prices it.

        With ``knobs`` the model runs as its user will run it, at that one setting. ``n_rows`` of
        the half are looked at, always the same ones; None is all of them.
        """
        return self._measure(context, model, self._rows(context, split, n_rows), split, knobs)[0]

    def sweep(
        self,
        context: WorkerContext,
        model: TrimtabForSequenceClassification,
        split: Split,
        n_rows: int | None = None,
    ) -> tuple[Measurement, dict[str, Records]]:
        """Measures a model at every setting of its knobs, of which it may have none.

        The records behind the settings come by the names of the files that they are to be kept in.
        """
        from trimtab_strategies.records import records_file
        from trimtab_workers.sweeping import has_knobs, plain_records, sweep

        rows, workload = self._rows(context, split, n_rows), self.histogram(context)
        if not has_knobs(model):
            measurement, logits = self._measure(context, model, rows, split)
            records = plain_records(rows, logits, model.config.num_hidden_layers)
            return measurement, {records_file({}): records}
        found, by_file = sweep(model, rows, self.task.metric, workload, context.report)
        plain, others = found[0], [asdict(setting) for setting in found[1:]]
        params = model.num_parameters()
        return (
            Measurement(split, plain.metric, len(rows), plain.flops, params, others),
            by_file,
        )

    def _measure(
        self,
        context: WorkerContext,
        model: TrimtabForSequenceClassification,
        rows: Encoded,
        split: Split,
        knobs: Mapping[str, Any] | None = None,
    ) -> tuple[Measurement, NDArray[Any]]:
        """Gives the logits as well."""
        from trimtab_strategies.cost import mean_flops
        from trimtab_strategies.slicing import shape_of
        from trimtab_workers.evaluation import evaluate
        from trimtab_workers.sweeping import flops_at, has_knobs

        workload = self.histogram(context)
        before, model.config.knobs = model.config.knobs, dict(knobs or {})
        try:
            result = evaluate(
                model,
                rows,
                metric=self.task.metric,
                pad_token_id=model.config.pad_token_id,
                device=model.device,
                progress=context.report,
            )
            if has_knobs(model):
                flops = flops_at(model, rows, workload, progress=context.report)
            else:
                flops = mean_flops(shape_of(model.config), workload)
        finally:
            # The model may be what the worker's next job starts from.
            model.config.knobs = before
        measured = Measurement(split, result.metric, len(rows), flops, model.num_parameters())
        return measured, result.logits

    def _rows(self, context: WorkerContext, split: Split, n_rows: int | None = None) -> Encoded:
        import numpy as np

        data = self.data(context)
        every = data.search if split == "search" else data.certify
        if n_rows is None or n_rows >= len(every):
            return every
        # Files are often sorted by label.
        order = np.random.default_rng(self.task.seed).permutation(len(every))
        return every.select(np.sort(order[:n_rows]))


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
    from trimtab_workers._words import listed
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
            ignore_mismatched_sizes=True,  # the report names them, and they are refused
        )
    wrong = [
        f"{name} {listed(sorted(map(str, keys)), most=3)}" for name, keys in info.items() if keys
    ]
    if wrong:
        raise ModelError(
            f"every weight of {folder} must find its place, but got {'; '.join(wrong)}"
        )
    loaded: TrimtabForSequenceClassification = model.eval()
    return loaded


def _least_sizes(config: TrimtabConfig) -> dict[str, int]:
    width = config.embedding_size
    return {
        "word embeddings": config.vocab_size * width,
        "position embeddings": config.max_position_embeddings * width,
        "heads": sum(config.heads_per_layer) * config.head_dim * config.hidden_size,
        "feed-forward filters": sum(config.filters_per_layer) * config.hidden_size,
        "exits": 0 if config.exits is None else _exits_size(config, config.exits),
    }


def _exits_size(config: TrimtabConfig, exits: Mapping[str, Any]) -> int:
    """Counts the weights of the exits' matrices; those on the classes count for `linear` only."""
    wide = config.hidden_size * (2 if exits["read"] == "both" else 1)
    width = int(exits["width"])
    each = {
        "linear": wide * config.num_labels,
        "mlp": wide * width + width**2,
        # narrowing; queries, keys and values; what comes out of attention; the dense layer
        "attention": config.hidden_size * width + 5 * width**2,
    }
    return len(exits["layers"]) * int(each[exits["kind"]])


def cpu_threads(count: int | None) -> AbstractContextManager[None]:
    """Lets torch use ``count`` CPU threads for a while; None changes nothing."""
    return nullcontext() if count is None else _cpu_threads(count)


@contextmanager
def _cpu_threads(count: int) -> Iterator[None]:
    import torch

    before = torch.get_num_threads()
    try:
        torch.set_num_threads(count)
        yield
    finally:
        torch.set_num_threads(before)


def fitting_threads(task: Task, model: Any) -> AbstractContextManager[None]:
    """Lets torch use one CPU thread where a model has too little to do for more.

    That is where its largest product, of 32 of the longest texts, takes less than a millisecond.
    Where other work runs on the machine, threads that share so little mostly wait for each other:
    with two, one of which shared its core, a study took ten times as long; on idle cores they save
    an eighth. What comes out is then the same however many cores there are. Who says in
    OMP_NUM_THREADS how many there are to be gets these.
    """
    rows, width = ROWS_AT_ONCE * task.max_length, model.config.hidden_size
    is_little = 4 * rows * width**2 < LITTLE_MACS
    return cpu_threads(1 if is_little and "OMP_NUM_THREADS" not in os.environ else None)


def save_elastic(model: TrimtabForSequenceClassification, folder: Path) -> None:
    """Writes an elastic model's configuration and weights (safetensors) into a folder."""
    from trimtab_workers._quiet import quiet_transformers

    with quiet_transformers():
        model.save_pretrained(folder)


def save_measured(
    model: TrimtabForSequenceClassification, records: Mapping[str, Records], folder: Path
) -> None:
    """Writes a model into a folder, and beside it what it was measured by."""
    save_elastic(model, folder)
    for name, taken in records.items():
        taken.save(folder / name)
