"""A task's rows, ready for a model: read, checked, split and tokenised."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from trimtab_workers._encoding import Encoded, encode
from trimtab_workers._reading import read_rows
from trimtab_workers._splits import halve
from trimtab_workers._tables import read_lines
from trimtab_workers._values import are_whole, as_classes, checked_labels, checked_text
from trimtab_workers.errors import DataError
from trimtab_workers.labels import LabelMap
from trimtab_workers.sources import (
    ModelFacts,
    check_model_folder,
    load_tokenizer,
    tokenizer_fingerprint,
)
from trimtab_workers.task import DataSource, Task

__all__ = ["Encoded", "TaskData", "load_task_data", "read_rows"]


@dataclass(frozen=True, eq=False)
class TaskData:
    """Everything a worker needs to know about a task's data.

    Attributes:
        train: Rows to train and calibrate on.
        search: The half of the validation rows that every decision is made on.
        certify: The other half, for the final measurement only.
        validation_lengths: Tokens of every validation row, after truncation.
        labels: The classes.
        truncated: How many rows of train and validation together were cut.
        n_rows: How many rows there are in train and validation together.
        max_length: The length they were cut to: the task's, or the model's where that is less.
        pad_token_id: What batches are padded with.
        fingerprint: sha256 of the values read, the seed, the length, the classes and the tokenizer.
        unlabeled: More rows to train exits on, whose labels mean nothing; None where there are
            none.
    """

    train: Encoded
    search: Encoded
    certify: Encoded
    validation_lengths: list[int]
    labels: LabelMap
    truncated: int
    n_rows: int
    max_length: int
    pad_token_id: int
    fingerprint: str
    unlabeled: Encoded | None = None


@dataclass(frozen=True)
class _Rows:
    shown: str
    texts: list[list[str]]
    labels: list[str]


def load_task_data(task: Task, model_folder: Path) -> TaskData:
    """Reads, checks, splits and tokenises a task's rows for a model.

    Raises:
        DataError: The rows are not there, not well-formed, too few, or do not fit the model.
        ModelError: The model folder or its tokenizer cannot be used.
    """
    facts = check_model_folder(model_folder)
    tokenizer = load_tokenizer(model_folder)
    train, validation = _read(task, task.train), _read(task, task.validation)
    whole = are_whole(train.labels)
    train_classes = as_classes(train.labels, whole=whole)
    labels = _label_map(train.shown, train_classes, facts)
    train_ids = labels.encode(train_classes, shown=train.shown)
    validation_ids = labels.encode(
        as_classes(validation.labels, whole=whole), shown=validation.shown
    )
    search, certify = halve(validation_ids, task.seed, shown=validation.shown)
    max_length = min(task.max_length, facts.max_positions)
    limits: dict[str, Any] = {"max_length": max_length, "facts": facts}
    train_rows, cut_train = encode(tokenizer, train.texts, train_ids, **limits)
    rows, cut_validation = encode(tokenizer, validation.texts, validation_ids, **limits)
    more = None if task.unlabeled is None else _read_unlabeled(task, task.unlabeled)
    return TaskData(
        train=train_rows,
        search=rows.select(search),
        certify=rows.select(certify),
        validation_lengths=[int(length) for length in rows.lengths],
        labels=labels,
        truncated=cut_train + cut_validation,
        n_rows=len(train_rows) + len(rows),
        max_length=max_length,
        pad_token_id=int(tokenizer.pad_token_id),
        fingerprint=_fingerprint(task, (train, validation), more, labels, max_length, model_folder),
        unlabeled=None if more is None else _encode_unlabeled(tokenizer, more, limits),
    )


def _read(task: Task, source: DataSource) -> _Rows:
    if not 1 <= len(task.text) <= 2:
        raise DataError(f"text must name one column or two, got {list(task.text)}")
    columns = read_rows(source, (*task.text, task.label), allow_hub=task.allow_hub)
    shown = str(source)
    return _Rows(
        shown=shown,
        texts=[checked_text(shown, column, columns[column]) for column in task.text],
        labels=checked_labels(shown, task.label, columns[task.label]),
    )


def _read_unlabeled(task: Task, source: DataSource) -> list[list[str]]:
    """Reads the columns of text; a file of lines has one."""
    path = Path(source.path or "")
    if path.suffix.lower() != ".txt":
        columns = read_rows(source, task.text, allow_hub=task.allow_hub)
        return [checked_text(str(source), column, columns[column]) for column in task.text]
    if len(task.text) > 1:
        raise DataError(
            f"{path}: text in two columns must come from a table, but a .txt file has one text a "
            "line"
        )
    return [read_lines(path)]


def _encode_unlabeled(tokenizer: Any, texts: list[list[str]], limits: dict[str, Any]) -> Encoded:
    rows, _ = encode(tokenizer, texts, np.zeros(len(texts[0]), dtype=np.int64), **limits)
    return rows


def _label_map(shown: str, classes: list[int | str], facts: ModelFacts) -> LabelMap:
    try:
        labels = LabelMap.from_values(classes, facts)
    except DataError as error:
        raise DataError(f"{shown}: {error}") from None
    distinct = len(set(classes))
    if len(classes) < 2 * distinct:
        raise DataError(
            f"{shown}: at least two training rows for each class are needed on average, "
            f"got {len(classes)} rows of {distinct} classes"
        )
    return labels


def _fingerprint(
    task: Task,
    parts: tuple[_Rows, _Rows],
    unlabeled: list[list[str]] | None,
    labels: LabelMap,
    max_length: int,
    folder: Path,
) -> str:
    """Hashes the values that were read, so that an untouched column may change in the file."""
    digest = hashlib.sha256()
    facts = [task.text, task.label, task.seed, max_length, labels.names]
    digest.update(json.dumps([*facts, tokenizer_fingerprint(folder)]).encode())
    for part in parts:
        digest.update(json.dumps([part.texts, part.labels]).encode())
    if unlabeled is not None:  # without, it is what it was before there was such text
        digest.update(json.dumps(["unlabeled", unlabeled]).encode())
    return digest.hexdigest()
