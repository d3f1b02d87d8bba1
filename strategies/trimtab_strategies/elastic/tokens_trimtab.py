"""Token rules: which of a sample's tokens a layer lets go, by how much they are attended to.

Legend of shapes:
    B  samples    n  padded length    L  layers
    received [B, n]  attention that each token receives: summed over the queries that are there,
                     averaged over heads, so that it adds up to a sample's number of tokens
    live     [B, n]  True at real tokens that were not let go before

Rules act between a layer's attention and its feed-forward part. The first token, which the
classifier reads, always stays, and a token that was let go never returns.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import nn

from .configuration_trimtab import TrimtabConfig

Placement = Literal["ltp", "acc"]


class ThresholdRule(nn.Module):
    """Learned token pruning: tokens whose score is not above their layer's threshold go.

    The score is ``received / N``, with N the configured length (``fixed``: it means the same at
    every length) or the sample's own number of tokens (``live``). A threshold is a fixed ``base``
    and a learned ``offset``; both are saved. Source: LTP, with 1-based linear thresholds.
    """

    placement: Placement = "ltp"

    def __init__(self, n_layers: int, settings: dict[str, Any]) -> None:
        super().__init__()
        self.normaliser = settings["normaliser"]
        self.reference_length = float(settings["reference_length"])
        self.register_buffer("base", torch.zeros(n_layers))
        self.offset = nn.Parameter(torch.zeros(n_layers))
        self.base: torch.Tensor

    def thresholds(self, scale: float = 1.0) -> torch.Tensor:
        """Gives all layers' thresholds, [L]."""
        return (self.base + self.offset) * scale

    def keep_all(self, scale: float) -> list[bool]:
        """Tells of all layers whether nothing can go there, so that nothing need be looked at."""
        kept: list[bool] = (self.thresholds(scale).detach() < 0).tolist()
        return kept

    def scores(self, received: torch.Tensor, live: torch.Tensor) -> torch.Tensor:
        """Gives the scores that thresholds are compared with, [B, n]."""
        if self.normaliser == "live":
            return received / live.sum(dim=1, keepdim=True).clamp(min=1)
        return received / self.reference_length

    def keeps(
        self, layer: int, received: torch.Tensor, live: torch.Tensor, scale: float
    ) -> torch.Tensor:
        """Tells which tokens stay, [B, n] of bool."""
        above = self.scores(received, live) > self.thresholds(scale)[layer]
        return with_first(above) & live

    def soft_keeps(
        self, layer: int, received: torch.Tensor, live: torch.Tensor, temperature: float
    ) -> torch.Tensor:
        """Gives the differentiable share of each token that stays, [B, n]; 1 for the first."""
        distance = self.scores(received, live) - self.thresholds()[layer]
        shares = torch.sigmoid(distance / temperature)
        return torch.cat([torch.ones_like(shares[:, :1]), shares[:, 1:]], dim=1)


class ShareRule(nn.Module):
    """ACC: of each sample's tokens, a layer keeps the share that are attended to most.

    ``max(1, floor(share * scale * tokens))`` stay, never more than there are; the first token is
    one of them, and of equals the earlier stay. Source: ACC, with the shares of its profile.
    """

    placement: Placement = "acc"

    def __init__(self, n_layers: int, settings: dict[str, Any]) -> None:
        super().__init__()
        self.shares = [float(share) for share in settings["shares"]]
        if len(self.shares) != n_layers:
            raise ValueError(
                f"a token rule must have a share for each of {n_layers} layers, "
                f"but got {len(self.shares)}"
            )

    def keep_all(self, scale: float) -> list[bool]:
        """Tells of all layers whether nothing can go there, so that nothing need be looked at."""
        return [share * scale >= 1 for share in self.shares]

    def keeps(
        self, layer: int, received: torch.Tensor, live: torch.Tensor, scale: float
    ) -> torch.Tensor:
        """Tells which tokens stay, [B, n] of bool."""
        wanted = self._counts(layer, live.shape[1], scale).to(live.device)[live.sum(dim=1)]
        # Dead tokens come last; sorting is stable, so that of equals the earlier stay.
        ranked = received.float().masked_fill(~live, -1.0)
        ranked = torch.cat([torch.full_like(ranked[:, :1], torch.inf), ranked[:, 1:]], dim=1)
        order = ranked.argsort(dim=1, descending=True, stable=True)
        rank = torch.empty_like(order).scatter_(
            1, order, torch.arange(order.shape[1], device=order.device).expand_as(order)
        )
        return (rank < wanted[:, None]) & live

    def _counts(self, layer: int, longest: int, scale: float) -> torch.Tensor:
        """Gives how many tokens stay of 0 to ``longest``; in double precision, on the CPU."""
        tokens = torch.arange(longest + 1, dtype=torch.float64)
        wanted = torch.floor(self.shares[layer] * scale * tokens + 1e-9).long()
        return wanted.clamp(min=1).minimum(tokens.long())


TokenRule = ThresholdRule | ShareRule
_KINDS: dict[str, type[ThresholdRule] | type[ShareRule]] = {
    "threshold": ThresholdRule,
    "share": ShareRule,
}
_SCALES = {"ltp": "delta_scale", "acc": "alpha_sc"}


def make_token_rule(config: TrimtabConfig) -> TokenRule | None:
    """Builds the rule that a configuration names."""
    if config.token_rule is None:
        return None
    return _KINDS[config.token_rule["kind"]](config.num_hidden_layers, config.token_rule)


def scale_of(rule: TokenRule, knobs: dict[str, Any]) -> float:
    """Reads the knob that this rule is scaled by."""
    return float(knobs.get(_SCALES[rule.placement], 1.0))


def acting(
    rule: TokenRule | None, heads: Sequence[int], knobs: dict[str, Any]
) -> list[TokenRule | None]:
    """Gives the rule for those layers that may let tokens go, and None for the others.

    A layer without ``heads`` does not know which. Asked once for a pass, as a device has to be
    waited for.
    """
    if rule is None:
        return [None] * len(heads)
    kept = rule.keep_all(scale_of(rule, knobs))
    return [rule if count and not all_ else None for count, all_ in zip(heads, kept, strict=True)]


def with_first(kept: torch.Tensor) -> torch.Tensor:
    """Adds the first token of every sample to ``kept`` [B, n]."""
    return torch.cat([torch.ones_like(kept[:, :1]), kept[:, 1:]], dim=1)
