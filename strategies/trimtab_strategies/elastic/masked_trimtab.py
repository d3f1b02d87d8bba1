"""The masked forward: every token of every sample in every layer, and masks on what has gone.

The plain form, which the packed forward must agree with, and the one that is trained.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from .exits_trimtab import Leaving
from .layers_trimtab import ElasticLayer
from .tokens_trimtab import ThresholdRule, acting, scale_of
from .trace_trimtab import Trace

if TYPE_CHECKING:
    from .modeling_trimtab import Gates, TrimtabForSequenceClassification


@dataclass
class Softness:
    """Soft token pruning, for training thresholds: how soft, and what came of it.

    ``temperature`` divides the distance to the threshold. ``kept`` holds, after a pass, the mean
    share of live tokens that each layer keeps, with gradients. Source: LTP's soft stage.
    """

    temperature: float
    kept: list[torch.Tensor]


@dataclass
class MaskedTokens:
    """Hidden states [B, n, d] and the live tokens, [B, n] of bool, as exits read them."""

    hidden: torch.Tensor
    live: torch.Tensor

    def first(self) -> torch.Tensor:
        """Gives each sample's first token, [B, d]."""
        return self.hidden[:, 0]

    def mean(self) -> torch.Tensor:
        """Gives the mean of each sample's live tokens, [B, d]."""
        weights = self.live.to(self.hidden)[:, :, None]
        return (self.hidden * weights).sum(dim=1) / weights.sum(dim=1)

    def padded(
        self, project: Callable[[torch.Tensor], torch.Tensor]
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Applies ``project`` to every token and gives [B, n, w] and the live ones, [B, n]."""
        return project(self.hidden), self.live


def run_masked(
    model: TrimtabForSequenceClassification,
    input_ids: torch.Tensor,
    attention_mask: torch.Tensor | None,
    token_type_ids: torch.Tensor | None,
    gates: Gates | None = None,
    trace: Trace | None = None,
    softness: Softness | None = None,
) -> torch.Tensor:
    """Gives the logits [B, C] of ``input_ids`` [B, n].

    With ``trace`` nobody leaves, and what is seen is written there. With ``softness`` the token
    rule scales what a layer puts out instead of taking tokens away.
    """
    layers, exits = model.encoder_layers, model.exits_by_layer(every=trace is not None)
    knobs = model.config.knobs
    leaving = Leaving(knobs, len(input_ids), input_ids.device)
    rules = acting(model.token_rule, model.config.heads_per_layer, knobs)
    hidden = model.embeddings(input_ids, token_type_ids)
    live = torch.ones_like(input_ids) if attention_mask is None else attention_mask
    live, everybody = live.bool(), torch.arange(len(input_ids), device=input_ids.device)
    logits, there = None, torch.ones_like(everybody, dtype=torch.bool)
    reads_exits = trace is not None or (leaving.is_possible and not model.training)
    for index, layer in enumerate(layers):
        # The head reads nothing else. In training, dropout falls as in the stock models.
        first_only = index == len(layers) - 1 and not model.training and trace is None
        is_soft = softness is not None and layer.n_heads > 0
        if first_only or not (is_soft or rules[index]):
            hidden = layer(hidden, model.key_mask(live), *_gates_of(gates, index), first_only)
        else:
            hidden, live = _run_layer(model, layer, index, hidden, live, gates, softness)
        if trace is not None:
            trace.note_tokens(index, everybody, live.sum(dim=1))
        place = exits.get(index)
        if place is None or not reads_exits:
            continue
        said = model.exits[place](MaskedTokens(hidden, live))
        if trace is not None:
            trace.note_exit(place, everybody, said)
            continue
        goes = leaving.decide(said, everybody) & there
        logits = torch.zeros_like(said) if logits is None else logits
        logits = torch.where(goes[:, None], said, logits)
        there = there & ~goes
    final: torch.Tensor = model.head(hidden)
    return final if logits is None else torch.where(there[:, None], final, logits)


def _run_layer(
    model: TrimtabForSequenceClassification,
    layer: ElasticLayer,
    index: int,
    hidden: torch.Tensor,
    live: torch.Tensor,
    gates: Gates | None,
    softness: Softness | None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Runs one layer under its token rule; gives what it puts out and who is live after it."""
    rule = model.token_rule
    assert rule is not None
    head_gates, filter_gates = _gates_of(gates, index)
    parts = layer.asked(hidden)
    context, received = layer.attend_and_weigh(*parts, model.key_mask(live), live)
    attended = layer.attended(hidden, layer.gate_context(context, head_gates))
    put_out = layer.fed_forward(attended, filter_gates)
    if softness is None:
        kept = rule.keeps(index, received, live, scale_of(rule, model.config.knobs))
        return put_out, kept
    assert isinstance(rule, ThresholdRule), "only thresholds have a soft form"
    shares = rule.soft_keeps(index, received, live, softness.temperature)
    softness.kept.append((shares * live).sum() / live.sum())
    return put_out * shares[:, :, None], live


def _gates_of(gates: Gates | None, index: int) -> tuple[torch.Tensor | None, torch.Tensor | None]:
    return (None, None) if gates is None else (gates.heads[index], gates.filters[index])
