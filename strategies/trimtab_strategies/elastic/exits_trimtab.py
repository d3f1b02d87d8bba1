"""Early exits: classifiers that read a lower layer, and the rules by which samples leave there.

Legend of shapes:
    B  samples that are still there    d  hidden size    w  width of an exit    C  classes
    n  padded length                   R  rows: all their tokens, one sample after the other
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Protocol

import torch
from torch import nn
from torch.nn import functional

from .configuration_trimtab import TrimtabConfig

ATTENTION_HEADS = 2
"""Of the small self-attention of a FastBERT exit."""


class Tokens(Protocol):
    """The hidden states that an exit reads, however they are laid out."""

    def first(self) -> torch.Tensor:
        """Gives each sample's first token, [B, d]."""

    def mean(self) -> torch.Tensor:
        """Gives the mean of each sample's live tokens, [B, d]."""

    def padded(
        self, project: Callable[[torch.Tensor], torch.Tensor]
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Applies ``project`` to every token and gives [B, n, w] and the live ones, [B, n].

        None in their place says that all are.
        """


class ExitHead(nn.Module):
    """One exit's classifier.

    ``linear`` and ``mlp`` (d, w, w, C with tanh) read the first token, the mean of the live tokens
    or both side by side; ``attention`` narrows all tokens to w, lets them attend to each other once
    and classifies the first (FastBERT).
    """

    def __init__(self, config: TrimtabConfig, settings: dict[str, Any]) -> None:
        super().__init__()
        self.kind, self.read = settings["kind"], settings["read"]
        d, w, n_classes = config.hidden_size, int(settings["width"]), config.num_labels
        wide = d * (2 if self.read == "both" else 1)
        if self.kind == "linear":
            self.out = nn.Linear(wide, n_classes)
            return
        if self.kind == "attention":
            self.qkv, self.attention_out = nn.Linear(w, 3 * w), nn.Linear(w, w)
            wide = d
        self.narrow = nn.Linear(wide, w)
        self.dense = nn.Linear(w, w)
        self.out = nn.Linear(w, n_classes)

    def forward(self, tokens: Tokens) -> torch.Tensor:
        """Gives this exit's logits, [B, C]."""
        if self.kind == "attention":
            return self.classify(self._attend(tokens))
        return self.classify(self.state(tokens))

    def state(self, tokens: Tokens) -> torch.Tensor:
        """Gives what the head reads of the tokens, [B, d] or [B, 2d]; it has no weights in it."""
        if self.read == "both":
            return torch.cat([tokens.first(), tokens.mean()], dim=1)
        return tokens.mean() if self.read == "mean" else tokens.first()

    def classify(self, state: torch.Tensor) -> torch.Tensor:
        """Turns what was read (of ``attention``: what came out of it, [B, w]) into logits."""
        if self.kind == "mlp":
            state = torch.tanh(self.narrow(state))
        if self.kind != "linear":
            state = torch.tanh(self.dense(state))
        logits: torch.Tensor = self.out(state)
        return logits

    def _attend(self, tokens: Tokens) -> torch.Tensor:
        """Lets the first token attend to all, narrowed; only its outcome is read, [B, w]."""
        states, live = tokens.padded(self._narrowed)
        width, (weight, bias) = states.shape[-1], (self.qkv.weight, self.qkv.bias)
        asking = functional.linear(states[:, :1], weight[:width], bias[:width])
        key, value = functional.linear(states, weight[width:], bias[width:]).chunk(2, dim=-1)
        attended = functional.scaled_dot_product_attention(
            _by_head(asking),
            _by_head(key),
            _by_head(value),
            attn_mask=None if live is None else live[:, None, None, :],
        )
        gathered: torch.Tensor = self.attention_out(attended.flatten(1))
        return gathered

    def _narrowed(self, rows: torch.Tensor) -> torch.Tensor:
        return torch.tanh(self.narrow(rows))


def _by_head(part: torch.Tensor) -> torch.Tensor:
    return part.reshape(*part.shape[:2], ATTENTION_HEADS, -1).transpose(1, 2)


def make_exits(config: TrimtabConfig) -> nn.ModuleList:
    """Builds the exits that a configuration names, in the order of their layers."""
    settings = config.exits
    if settings is None:
        return nn.ModuleList()
    return nn.ModuleList(ExitHead(config, settings) for _ in settings["layers"])


def uncertainty(logits: torch.Tensor) -> torch.Tensor:
    """Gives the normalised entropy of predictions, in [0, 1]: [B] of logits [B, C].

    In double precision, as thresholds are chosen: those of sure predictions lie close together.
    """
    # Apple's devices have no doubles.
    wide = (logits.cpu() if logits.device.type == "mps" else logits).double()
    logp = torch.log_softmax(wide, dim=-1)
    entropy: torch.Tensor = -(logp.exp() * logp).sum(dim=-1)
    return (entropy / math.log(logits.shape[-1])).to(logits.device)


class Leaving:
    """Decides, exit after exit, which of the samples that are still there leave.

    ``tau``: where the uncertainty is at most that. ``patience``: at the first exit where as many
    exits in a row, this one included, have agreed with the one before them (PABEE);
    ``agreements``: the same without starting anew at a disagreement.
    """

    def __init__(self, knobs: dict[str, Any], n_samples: int, device: torch.device) -> None:
        self._tau, self._wanted = knobs.get("tau"), knobs.get("patience", knobs.get("agreements"))
        self._starts_anew = "patience" in knobs
        self._said = torch.full((n_samples,), -1, device=device)
        self._agreed = torch.full((n_samples,), -1, device=device)

    @property
    def is_possible(self) -> bool:
        """Tells whether anybody can leave at all; if not, exits need not be read."""
        return not (self._tau is None and self._wanted is None)

    def decide(self, logits: torch.Tensor, samples: torch.Tensor) -> torch.Tensor:
        """Tells which of ``samples`` [b], by their numbers, leave at this exit, [b] of bool."""
        if self._tau is not None:
            certain: torch.Tensor = uncertainty(logits) <= self._tau
            return certain
        assert self._wanted is not None
        said = logits.argmax(dim=-1)
        agrees = said == self._said[samples]
        before = self._agreed[samples]
        if self._starts_anew:
            before = before * agrees
        # The first exit has none before it to agree with.
        self._agreed[samples] = torch.where(self._said[samples] < 0, 0, before + agrees)
        self._said[samples] = said
        leaves: torch.Tensor = self._agreed[samples] >= self._wanted
        return leaves
