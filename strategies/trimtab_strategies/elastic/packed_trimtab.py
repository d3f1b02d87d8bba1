"""The packed forward: rows of real tokens that are still there, of samples that have not left.

It gives what the masked forward gives, in the time that the work left over takes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from .exits_trimtab import Leaving
from .layers_trimtab import ElasticLayer
from .linear_trimtab import rounded
from .rows_trimtab import PackedTokens, filled
from .tokens_trimtab import TokenRule, acting, scale_of
from .trace_trimtab import Trace

if TYPE_CHECKING:
    from .modeling_trimtab import TrimtabForSequenceClassification


def run_packed(
    model: TrimtabForSequenceClassification,
    input_ids: torch.Tensor,
    real: torch.Tensor,
    token_type_ids: torch.Tensor | None,
    trace: Trace | None = None,
) -> torch.Tensor:
    """Gives the logits [B, C] of ``input_ids`` [B, n], whose tokens are ``real`` [B, n].

    The first token of every row must be real. With ``trace`` nobody leaves: every exit is read, the
    last layer's rule is applied, and what is seen is written there.
    """
    knobs, layers = model.config.knobs, model.encoder_layers
    tokens = _pack(model, input_ids, real, token_type_ids)
    leaving = Leaving(knobs, len(input_ids), input_ids.device)
    exits = model.exits_by_layer(every=trace is not None)
    rules = acting(model.token_rule, model.config.heads_per_layer, knobs)
    logits: torch.Tensor | None = None
    for index, layer in enumerate(layers):
        is_last = index == len(layers) - 1
        if is_last and trace is None:
            _run_last(layer, tokens)
        else:
            _run_layer(layer, index, tokens, rules[index], knobs)
        if trace is not None:
            trace.note_tokens(index, tokens.samples, tokens.live_counts())
        place = exits.get(index)
        if place is None or not (leaving.is_possible or trace is not None):
            continue
        said = model.exits[place](tokens)
        if trace is not None:
            trace.note_exit(place, tokens.samples, said)
            continue
        goes = leaving.decide(said, tokens.samples)
        logits = _note(logits, said, goes, tokens.samples, len(input_ids))
        tokens.leave(goes)
        if not tokens.lengths:
            return logits
    final = model.head(_first_tokens(tokens, is_reduced=trace is None)[:, None])
    everybody = torch.ones_like(tokens.samples, dtype=torch.bool)
    return _note(logits, final, everybody, tokens.samples, len(input_ids))


def _note(
    logits: torch.Tensor | None,
    said: torch.Tensor,
    goes: torch.Tensor,
    samples: torch.Tensor,
    n_samples: int,
) -> torch.Tensor:
    if logits is None:
        logits = said.new_zeros(n_samples, said.shape[1])
    return logits.index_copy(0, samples[goes], said[goes])


def _pack(
    model: TrimtabForSequenceClassification,
    input_ids: torch.Tensor,
    real: torch.Tensor,
    token_type_ids: torch.Tensor | None,
) -> PackedTokens:
    counts = real.sum(dim=1)
    samples = counts.argsort(descending=True, stable=True)
    lengths = counts[samples].tolist()
    positions = model.embeddings.positions(input_ids).expand_as(input_ids)
    parts = [input_ids, positions, *([] if token_type_ids is None else [token_type_ids])]
    chosen = real[samples]
    round_up = rounded if model.encoder_layers[0].qkv.keeps_layout else int
    fill = round_up(sum(lengths)) - sum(lengths)
    ids, where, *types = (filled(part[samples][chosen], fill) for part in parts)
    rows = model.embeddings.embed(ids, types[0] if types else None, where)
    width = max((layer.width for layer in model.encoder_layers), default=0)
    return PackedTokens(rows, lengths, samples, width, round_up)


def _run_layer(
    layer: ElasticLayer,
    index: int,
    tokens: PackedTokens,
    rule: TokenRule | None,
    knobs: dict[str, object],
) -> None:
    rows = tokens.rows
    asked: torch.Tensor = layer.qkv(rows)
    if rule is None:
        context = _context(layer, tokens, asked)
        tokens.rows = layer.fed_forward(layer.attended(rows, context))
        return
    context, kept = _context_and_kept(layer, index, tokens, asked, rule, scale_of(rule, knobs))
    if rule.placement == "ltp":
        tokens.rows = layer.attended(rows, context)
        tokens.let_go(kept)
        tokens.rows = layer.fed_forward(tokens.rows)
    else:
        (context,) = tokens.let_go(kept, context)
        tokens.rows = layer.fed_forward(layer.attended(tokens.rows, context))


def _context(layer: ElasticLayer, tokens: PackedTokens, asked: torch.Tensor) -> torch.Tensor:
    groups, found = tokens.fused_groups(), []
    for group in groups:
        query, key, value = group.pad(asked).tensor_split(3, dim=-1)
        found.append(layer.attend(query, key, value, tokens.mask_in(group)))
    return tokens.joined(groups, found)


def _context_and_kept(
    layer: ElasticLayer,
    index: int,
    tokens: PackedTokens,
    asked: torch.Tensor,
    rule: TokenRule,
    scale: float,
) -> tuple[torch.Tensor, torch.Tensor]:
    groups, found, kept = tokens.groups(), [], []
    for group in groups:
        query, key, value = group.pad(asked).tensor_split(3, dim=-1)
        live = tokens.live_in(group)
        context, received = layer.attend_and_weigh(query, key, value, tokens.mask_in(group), live)
        there = torch.ones_like(received, dtype=torch.bool) if live is None else live
        found.append(context)
        kept.append(group.pack(rule.keeps(index, received, there, scale)))
    return tokens.joined(groups, found), _joined(kept)


def _run_last(layer: ElasticLayer, tokens: PackedTokens) -> None:
    """Runs a layer for the first token of every sample, which alone is read after it: [b, d]."""
    first = tokens.first()
    asking, key, value = layer.asked(tokens.rows, first)
    found = []
    for group in tokens.fused_groups():
        parts = asking[group.samples, None], group.pad(key), group.pad(value)
        found.append(layer.attend(*parts, tokens.mask_in(group))[:, 0])
    tokens.rows = layer.fed_forward(layer.attended(first, _joined(found)))


def _first_tokens(tokens: PackedTokens, *, is_reduced: bool) -> torch.Tensor:
    return tokens.rows if is_reduced else tokens.first()


def _joined(parts: list[torch.Tensor]) -> torch.Tensor:
    return parts[0] if len(parts) == 1 else torch.cat(parts)
