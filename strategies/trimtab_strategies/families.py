"""How the weights of each stock family map onto the elastic model: one small table a family."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from transformers import PretrainedConfig, PreTrainedModel

from trimtab_strategies.elastic import TrimtabConfig, TrimtabForSequenceClassification

_ENCODER = {
    "embeddings.word_embeddings": "embeddings.word",
    "embeddings.position_embeddings": "embeddings.position",
    "embeddings.token_type_embeddings": "embeddings.token_type",
    "embeddings.LayerNorm": "embeddings.norm",
}
_LAYER = {
    "attention.self.query": "query",
    "attention.self.key": "key",
    "attention.self.value": "value",
    "attention.output.dense": "attention_out",
    "attention.output.LayerNorm": "attention_norm",
    "intermediate.dense": "up",
    "output.dense": "down",
    "output.LayerNorm": "output_norm",
}


@dataclass(frozen=True)
class Family:
    """A stock architecture: where its modules are, and what its configuration means.

    ``outer`` maps modules outside the layers, ``layer`` those inside ``layer_prefix.<i>``; the
    right-hand names are the elastic model's. ``settings`` adds what tells this family apart.
    """

    outer: Mapping[str, str]
    layer_prefix: str
    layer: Mapping[str, str]
    settings: Callable[[Any], Mapping[str, Any]] = field(default=lambda config: {})

    def module_names(self, n_layers: int) -> dict[str, str]:
        """Maps each stock module's full name to the elastic module that takes its weights."""
        inner = {
            f"{self.layer_prefix}.{index}.{stock}": f"layers.{index}.{elastic}"
            for index in range(n_layers)
            for stock, elastic in self.layer.items()
        }
        return {**self.outer, **inner}


def _bert_like(prefix: str, head: Mapping[str, str]) -> tuple[dict[str, str], str]:
    outer = {f"{prefix}.{stock}": elastic for stock, elastic in _ENCODER.items()}
    return {**outer, **head}, f"{prefix}.encoder.layer"


_BERT, _BERT_LAYERS = _bert_like(
    "bert", {"bert.pooler.dense": "head.dense", "classifier": "head.out"}
)
_ROBERTA, _ROBERTA_LAYERS = _bert_like(
    "roberta", {"classifier.dense": "head.dense", "classifier.out_proj": "head.out"}
)

FAMILIES: Mapping[str, Family] = {
    "bert": Family(_BERT, _BERT_LAYERS, _LAYER),
    "roberta": Family(
        _ROBERTA,
        _ROBERTA_LAYERS,
        _LAYER,
        lambda config: {"positions_skip_padding": True, "dropout_before_head": True},
    ),
}

_SHARED_SETTINGS = (
    "vocab_size",
    "hidden_size",
    "max_position_embeddings",
    "type_vocab_size",
    "layer_norm_eps",
    "hidden_act",
    "hidden_dropout_prob",
    "attention_probs_dropout_prob",
    "classifier_dropout",
    "initializer_range",
    "pad_token_id",
    "bos_token_id",
    "eos_token_id",
    "id2label",
    "label2id",
)


def elastic_config(config: PretrainedConfig) -> TrimtabConfig:
    """Translates a stock configuration into an elastic one of the same, full widths.

    Raises:
        ValueError: if the family is not one of ``FAMILIES``, or is used as a decoder.
    """
    if config.model_type not in FAMILIES:
        raise ValueError(
            f"the model's family must be one of {', '.join(FAMILIES)}, "
            f"but got {config.model_type!r}"
        )
    if getattr(config, "is_decoder", False):
        raise ValueError("the model must be an encoder, but its config says is_decoder: true")
    n_layers, n_heads = config.num_hidden_layers, config.num_attention_heads
    return TrimtabConfig(
        family=config.model_type,
        head_dim=config.hidden_size // n_heads,
        heads_per_layer=[n_heads] * n_layers,
        filters_per_layer=[config.intermediate_size] * n_layers,
        **{name: getattr(config, name) for name in _SHARED_SETTINGS},
        **FAMILIES[config.model_type].settings(config),
    )


@torch.no_grad()
def to_elastic(stock: PreTrainedModel) -> TrimtabForSequenceClassification:
    """Copies a stock sequence classifier into an elastic model with equal logits, in eval mode.

    Raises:
        ValueError: if the family is unknown, or a weight of either side is left without a partner.
    """
    config = elastic_config(stock.config)
    names = FAMILIES[stock.config.model_type].module_names(config.num_hidden_layers)
    weights = {}
    for full_name, tensor in stock.state_dict().items():
        module, _, leaf = full_name.rpartition(".")
        if module not in names:
            raise ValueError(f"the stock model has a weight that no table names: {full_name}")
        weights[f"{names[module]}.{leaf}"] = tensor.clone()
    model: TrimtabForSequenceClassification = TrimtabForSequenceClassification(config)
    model.to(stock.dtype)
    model.load_state_dict(weights)  # strict: a missing partner is an error
    model.eval()
    return model
