"""Physical removal: from a masked elastic model to a smaller one with the same logits."""

from __future__ import annotations

import torch

from trimtab_strategies.cost import EncoderShape
from trimtab_strategies.elastic import (
    ElasticLayer,
    Gates,
    TrimtabConfig,
    TrimtabForSequenceClassification,
)


def shape_of(config: TrimtabConfig) -> EncoderShape:
    """Gives the widths of an elastic model, as the cost model wants them."""
    return EncoderShape(
        config.hidden_size,
        config.head_dim,
        tuple(config.heads_per_layer),
        tuple(config.filters_per_layer),
    )


def ones_like_gates(model: TrimtabForSequenceClassification) -> Gates:
    """Gives gates that keep every head and filter as it is."""
    config, like = model.config, model.head.out.weight
    return Gates(
        [like.new_ones(count) for count in config.heads_per_layer],
        [like.new_ones(count) for count in config.filters_per_layer],
    )


def empty_beside(
    model: TrimtabForSequenceClassification, config: TrimtabConfig
) -> TrimtabForSequenceClassification:
    """Builds a model of another form, in the type and on the device of ``model``, in eval mode.

    Its weights hold nothing yet: they are all to be loaded.
    """
    with torch.device("meta"):  # nothing is drawn that is overwritten in a moment
        made: TrimtabForSequenceClassification = TrimtabForSequenceClassification(config)
    made.to(model.dtype).to_empty(device=model.device)
    made.eval()
    return made


@torch.no_grad()
def slice_model(
    model: TrimtabForSequenceClassification, gates: Gates
) -> TrimtabForSequenceClassification:
    """Builds the smaller model that equals ``model`` run under ``gates``, in eval mode.

    Heads and filters with a gate of exactly 0 are taken out; any other gate is folded into the
    projection behind it (columns of ``attention_out`` and ``down``). Biases of those projections
    stay as they are: a sub-layer with nothing left still adds its bias. The new model shares no
    memory with the old one.
    """
    config = TrimtabConfig.from_dict(model.config.to_dict())
    config.heads_per_layer = [int(gate.count_nonzero()) for gate in gates.heads]
    config.filters_per_layer = [int(gate.count_nonzero()) for gate in gates.filters]
    small = empty_beside(model, config)
    small.embeddings.load_state_dict(model.embeddings.state_dict())
    small.head.load_state_dict(model.head.state_dict())
    small.exits.load_state_dict(model.exits.state_dict())
    if small.token_rule is not None and model.token_rule is not None:
        small.token_rule.load_state_dict(model.token_rule.state_dict())
    for index, source in enumerate(model.encoder_layers):
        small.layers[index] = cut_layer(config, source, gates.heads[index], gates.filters[index])
    return small


@torch.no_grad()
def cut_layer(
    config: TrimtabConfig,
    source: ElasticLayer,
    head_gates: torch.Tensor | None,
    filter_gates: torch.Tensor | None,
) -> ElasticLayer:
    """Builds one layer with the heads and filters whose gate is not 0, in eval mode.

    None keeps that kind whole. ``config`` gives what all layers of a model share, not the widths.
    """
    like = source.down.weight
    head_gates = like.new_ones(source.n_heads) if head_gates is None else head_gates
    filter_gates = like.new_ones(source.n_filters) if filter_gates is None else filter_gates
    heads, filters = torch.nonzero(head_gates).flatten(), torch.nonzero(filter_gates).flatten()
    with torch.device("meta"):
        layer = ElasticLayer(config, len(heads), len(filters))
    layer.to(like.dtype).to_empty(device=like.device)
    _copy_layer(source, layer)
    _copy_heads(source, layer, heads, head_gates)
    _copy_filters(source, layer, filters, filter_gates)
    return layer.eval()


def _copy_layer(source: ElasticLayer, target: ElasticLayer) -> None:
    """Copies what no width changes: both norms and the biases of the outgoing projections."""
    target.attention_norm.load_state_dict(source.attention_norm.state_dict())
    target.output_norm.load_state_dict(source.output_norm.state_dict())
    target.attention_out.bias.copy_(source.attention_out.bias)
    target.down.bias.copy_(source.down.bias)


def _copy_heads(
    source: ElasticLayer, target: ElasticLayer, kept: torch.Tensor, gates: torch.Tensor
) -> None:
    width = torch.arange(source.head_dim, device=kept.device)
    rows = (kept[:, None] * source.head_dim + width).flatten()
    # Queries, keys and values lie one below the other.
    thrice = torch.cat([rows + part * source.width for part in range(3)])
    target.qkv.weight.copy_(source.qkv.weight[thrice])
    target.qkv.bias.copy_(source.qkv.bias[thrice])
    scale = gates[kept].repeat_interleave(source.head_dim)
    target.attention_out.weight.copy_(source.attention_out.weight[:, rows] * scale)


def _copy_filters(
    source: ElasticLayer, target: ElasticLayer, kept: torch.Tensor, gates: torch.Tensor
) -> None:
    # Never folded into `up`: the activation behind it is not linear.
    target.up.weight.copy_(source.up.weight[kept])
    target.up.bias.copy_(source.up.bias[kept])
    target.down.weight.copy_(source.down.weight[:, kept] * gates[kept])
