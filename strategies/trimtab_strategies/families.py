"""How the weights of each stock family map onto the elastic model: one small table a family."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from transformers import PretrainedConfig, PreTrainedModel

from trimtab_strategies.dialects import DIALECTS
from trimtab_strategies.elastic import TrimtabConfig, TrimtabForSequenceClassification

_EMBEDDINGS = {
    "embeddings.word_embeddings": "embeddings.word",
    "embeddings.position_embeddings": "embeddings.position",
    "embeddings.token_type_embeddings": "embeddings.token_type",
    "embeddings.LayerNorm": "embeddings.norm",
    "embeddings_project": "embeddings.project",
}
_LAYER = {
    "attention.self.query": "qkv.0",
    "attention.self.key": "qkv.1",
    "attention.self.value": "qkv.2",
    "attention.output.dense": "attention_out",
    "attention.output.LayerNorm": "attention_norm",
    "intermediate.dense": "up",
    "output.dense": "down",
    "output.LayerNorm": "output_norm",
}
_DISTILBERT_LAYER = {
    "attention.q_lin": "qkv.0",
    "attention.k_lin": "qkv.1",
    "attention.v_lin": "qkv.2",
    "attention.out_lin": "attention_out",
    "sa_layer_norm": "attention_norm",
    "ffn.lin1": "up",
    "ffn.lin2": "down",
    "output_layer_norm": "output_norm",
}
_CLASSIFIER = {"classifier.dense": "head.dense", "classifier.out_proj": "head.out"}


@dataclass(frozen=True)
class Family:
    """A stock architecture: where its modules are, and what tells it apart.

    ``head`` maps modules of the whole model, ``layer`` those inside ``<prefix>.<layers>.<i>``; the
    right-hand names are the elastic model's, with a number for each part of a product that is one
    there and several in the stock model. ``switches`` are set in every elastic configuration of
    the family; its dialect, under the same name, says how the stock one is read.
    """

    prefix: str
    layers: str
    layer: Mapping[str, str]
    head: Mapping[str, str]
    switches: Mapping[str, Any] = field(default_factory=dict)

    def module_names(self, n_layers: int) -> dict[str, str]:
        """Maps each stock module's full name to the elastic module that takes its weights."""
        outer = {f"{self.prefix}.{stock}": elastic for stock, elastic in _EMBEDDINGS.items()}
        inner = {
            f"{self.prefix}.{self.layers}.{index}.{stock}": f"layers.{index}.{elastic}"
            for index in range(n_layers)
            for stock, elastic in self.layer.items()
        }
        return {**outer, **inner, **self.head}


FAMILIES: Mapping[str, Family] = {
    "bert": Family(
        "bert",
        "encoder.layer",
        _LAYER,
        {"bert.pooler.dense": "head.dense", "classifier": "head.out"},
    ),
    "roberta": Family(
        "roberta", "encoder.layer", _LAYER, _CLASSIFIER, {"dropout_before_head": True}
    ),
    "distilbert": Family(
        "distilbert",
        "transformer.layer",
        _DISTILBERT_LAYER,
        {"pre_classifier": "head.dense", "classifier": "head.out"},
        {
            "head_activation": "relu",
            "dropout_after_attention": False,
            "type_vocab_size": 0,
            "layer_norm_eps": 1e-12,
        },
    ),
    "electra": Family(
        "electra",
        "encoder.layer",
        _LAYER,
        _CLASSIFIER,
        {"head_activation": "gelu", "dropout_before_head": True},
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
    dialect = DIALECTS[config.model_type]

    def stated(name: str) -> Any:
        return getattr(config, dialect.name_of(name))

    n_layers, n_heads = stated("num_hidden_layers"), stated("num_attention_heads")
    names = (*_SHARED_SETTINGS, *dialect.own_sizes)
    settings = {name: stated(name) for name in names if name not in dialect.lacks}
    settings |= FAMILIES[config.model_type].switches
    return TrimtabConfig(
        family=config.model_type,
        head_dim=stated("hidden_size") // n_heads,
        heads_per_layer=[n_heads] * n_layers,
        filters_per_layer=[stated("intermediate_size")] * n_layers,
        positions_skip_padding=dialect.positions_skip_padding,
        **settings,
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
        weights[f"{names[module]}.{leaf}"] = tensor
    model: TrimtabForSequenceClassification = TrimtabForSequenceClassification(config)
    model.to(stock.dtype)
    model.load_state_dict(_joined(weights))  # strict: a missing partner is an error
    model.eval()
    return model


def _joined(weights: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Puts numbered parts one below the other: ``qkv.0.weight`` to ``qkv.2.weight`` into one."""
    parts: dict[str, dict[str, torch.Tensor]] = {}
    for name, tensor in weights.items():
        module, _, leaf = name.rpartition(".")
        owner, _, number = module.rpartition(".")
        is_part = owner.endswith("qkv")
        whole, place = (f"{owner}.{leaf}", number) if is_part else (name, "0")
        parts.setdefault(whole, {})[place] = tensor
    return {
        name: torch.cat([found[place] for place in sorted(found)]) for name, found in parts.items()
    }
