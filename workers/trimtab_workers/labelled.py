"""Labelled rows for a finished checkpoint, which brings its own classes and tokenizer."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from trimtab_workers._config import read_json, refuse_auto_map
from trimtab_workers._encoding import Encoded, encode
from trimtab_workers._loading import tokenizer_faults
from trimtab_workers._quiet import quiet_transformers
from trimtab_workers._reading import read_rows
from trimtab_workers._values import are_whole, as_classes, checked_labels, checked_text
from trimtab_workers._words import did_you_mean, listed
from trimtab_workers.errors import DataError
from trimtab_workers.sources import ModelFacts
from trimtab_workers.task import DataSource

if TYPE_CHECKING:
    from trimtab_strategies.elastic import TrimtabConfig


def load_labelled(
    source: DataSource,
    checkpoint: Path,
    config: TrimtabConfig,
    *,
    text: tuple[str, ...],
    label: str,
    max_length: int,
) -> Encoded:
    """Reads, checks and tokenises labelled rows for a checkpoint of ours.

    Raises:
        DataError: The rows are not there, not well-formed, or have labels the model does not know.
    """
    columns = read_rows(source, (*text, label), allow_hub=False)
    shown = str(source)
    texts = [checked_text(shown, column, columns[column]) for column in text]
    values = checked_labels(shown, label, columns[label])
    facts = _facts_of(config)
    ids = class_ids(values, [facts.id2label[i] for i in range(facts.num_labels)], shown=shown)
    rows, _ = encode(load_own_tokenizer(checkpoint), texts, ids, max_length=max_length, facts=facts)
    return rows


def class_ids(labels: Sequence[str], names: Sequence[str], *, shown: str) -> NDArray[np.int64]:
    """Finds the model's class for every label; the file need not have all of its classes.

    Labels are names of classes, where `1.0` also stands for `1`. Only where none of them is, and no
    name is a number, whole numbers are class ids.

    Args:
        labels: Labels as text.
        names: The names of the model's classes, at the places of their ids.
        shown: What to call the data in a message.

    Raises:
        DataError: Some labels are no classes of the model.
    """
    ids = {name: i for i, name in enumerate(names)}
    distinct = dict(zip(labels, as_classes(labels, whole=True), strict=True))
    found = {label: ids.get(label, ids.get(str(value))) for label, value in distinct.items()}
    are_names = any(i is not None for i in found.values()) or not are_whole(labels)
    if not are_names and not any(are_whole([name]) for name in names):
        found = {label: _as_id(value, len(names)) for label, value in distinct.items()}
    unknown = sorted(label for label, i in found.items() if i is None)
    if unknown:
        raise DataError(
            f"{shown}: every label must be one of the classes of the model ({listed(names)}) or, "
            f"where none is a number, their ids 0 to {len(names) - 1}, got {listed(unknown)}"
            f"{did_you_mean(unknown[0], names)}"
        )
    return np.array([found[label] for label in labels], dtype=np.int64)


def load_own_tokenizer(checkpoint: Path) -> Any:
    """Loads the tokenizer that lies in a checkpoint of ours; runs none of its code.

    Raises:
        ModelError: It names code of its own, or its files are not well-formed.
    """
    from transformers import AutoTokenizer

    settings = checkpoint / "tokenizer_config.json"
    refuse_auto_map(settings, read_json(settings))
    with quiet_transformers(), tokenizer_faults(checkpoint, "be loaded"):
        return AutoTokenizer.from_pretrained(
            checkpoint, trust_remote_code=False, local_files_only=True
        )


def _as_id(value: int | str, n: int) -> int | None:
    return value if isinstance(value, int) and 0 <= value < n else None


def _facts_of(config: TrimtabConfig) -> ModelFacts:
    unusable = config.pad_token_id + 1 if config.positions_skip_padding else 0
    return ModelFacts(
        model_type=config.family,
        has_head=True,
        num_labels=config.num_labels,
        id2label=dict(config.id2label),
        max_positions=config.max_position_embeddings - unusable,
        pad_token_id=config.pad_token_id,
        vocab_size=config.vocab_size,
        type_vocab_size=config.type_vocab_size,
        hidden_size=config.hidden_size,
        num_layers=config.num_hidden_layers,
        num_heads=max(config.heads_per_layer),
        intermediate_size=max(config.filters_per_layer),
    )
