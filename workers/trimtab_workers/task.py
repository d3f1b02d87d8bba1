"""What a study is about: plain values that can be pickled to any worker.

Nothing heavy is imported here, so that a spec can be turned into a task in a moment.
"""

from __future__ import annotations

from dataclasses import dataclass

from trimtab_workers.errors import DataError


@dataclass(frozen=True)
class DataSource:
    """Where text comes from, with labels mostly: exactly one of a file and a dataset.

    Attributes:
        path: Absolute path of a `.csv`, `.tsv`, `.jsonl` or `.parquet` file; of text without
            labels also a `.txt` file of one text a line.
        dataset: A hub id, or a local folder that the `datasets` library can load.
        config: The dataset's configuration, where it has several.
        split: The dataset's split, where it has several.
    """

    path: str | None = None
    dataset: str | None = None
    config: str | None = None
    split: str | None = None

    def __post_init__(self) -> None:
        if (self.path is None) == (self.dataset is None):
            raise DataError(
                "a data source must have exactly one of a file path and a dataset, "
                f"got path={self.path!r} and dataset={self.dataset!r}"
            )

    def __str__(self) -> str:
        parts = (self.path or self.dataset, self.config, self.split)
        return ":".join(part for part in parts if part)


@dataclass(frozen=True)
class Finetune:
    """How a model without a head for the task is fine-tuned first."""

    epochs: int = 2
    lr: float = 5e-5
    batch_size: int = 32


@dataclass(frozen=True)
class Task:
    """A classification task: its rows, its columns, its metric.

    Attributes:
        train: Rows to train and calibrate on.
        validation: Rows to decide and to certify on.
        text: One column of text, or two for pairs.
        label: The column of the classes.
        metric: `accuracy`, `f1` or `matthews`.
        max_length: Longest sequence in tokens, special ones included; the rest is cut off.
        seed: Of every split and shuffle.
        allow_hub: Whether models and datasets may be fetched from the hub.
        unlabeled: More text to train exits on; None where there is none.
    """

    train: DataSource
    validation: DataSource
    text: tuple[str, ...]
    label: str
    metric: str
    max_length: int
    seed: int
    allow_hub: bool = False
    unlabeled: DataSource | None = None
