"""Labelled rows for a finished checkpoint, which brings its own classes and tokenizer."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from trimtab_workers._encoding import Encoded, encode
from trimtab_workers._quiet import quiet_transformers
from trimtab_workers._reading import read_rows
from trimtab_workers._values import are_whole, as_classes, checked_labels, checked_text
from trimtab_workers.labels import LabelMap
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
    classes = as_classes(values, whole=are_whole(values))
    facts = _facts_of(config)
    ids = LabelMap.from_values(classes, facts).encode(classes, shown=shown)
    rows, _ = encode(load_own_tokenizer(checkpoint), texts, ids, max_length=max_length, facts=facts)
    return rows


def load_own_tokenizer(checkpoint: Path) -> Any:
    """Loads the tokenizer that lies in a checkpoint of ours; runs none of its code."""
    from transformers import AutoTokenizer

    with quiet_transformers():
        return AutoTokenizer.from_pretrained(
            checkpoint, trust_remote_code=False, local_files_only=True
        )


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
