"""The parts of an elastic encoder: embeddings, one layer of any width, and the classifier head.

Legend of shapes:
    B  batch      n  padded length     d  hidden size
    e  embedding size, mostly d
    H  heads kept in this layer        d_h  width of one head     A  attention width, H * d_h
    F  filters kept in this layer      C  classes
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional
from transformers.activations import ACT2FN

from .configuration_trimtab import TrimtabConfig


class Embeddings(nn.Module):
    """Word, position and token-type embeddings, summed, normalised and, where narrow, widened."""

    def __init__(self, config: TrimtabConfig) -> None:
        super().__init__()
        d, e = config.hidden_size, config.embedding_size
        self.skip_padding = config.positions_skip_padding
        self.pad_token_id = config.pad_token_id
        self.word = nn.Embedding(config.vocab_size, e, padding_idx=config.pad_token_id)
        self.position = nn.Embedding(config.max_position_embeddings, e)
        self.has_types = config.type_vocab_size > 0
        if self.has_types:
            self.token_type = nn.Embedding(config.type_vocab_size, e)
        self.norm = nn.LayerNorm(e, eps=config.layer_norm_eps)
        self.dropout = nn.Dropout(config.hidden_dropout_prob)
        self.project = nn.Identity() if e == d else nn.Linear(e, d)

    def forward(self, input_ids: torch.Tensor, token_type_ids: torch.Tensor | None) -> torch.Tensor:
        """Embeds ``input_ids`` [B, n] into [B, n, d]."""
        summed: torch.Tensor = self.word(input_ids)
        # The order of the sum is the stock models', so that rounding agrees as well.
        if self.has_types:
            kinds = torch.zeros_like(input_ids) if token_type_ids is None else token_type_ids
            summed = summed + self.token_type(kinds)
        embedded: torch.Tensor = self.norm(summed + self.position(self._positions(input_ids)))
        widened: torch.Tensor = self.project(self.dropout(embedded))
        return widened

    def _positions(self, input_ids: torch.Tensor) -> torch.Tensor:
        if not self.skip_padding:
            return torch.arange(input_ids.shape[1], device=input_ids.device)[None, :]
        real = (input_ids != self.pad_token_id).long()
        positions: torch.Tensor = torch.cumsum(real, dim=1) * real + self.pad_token_id
        return positions


class ElasticLinear(nn.Linear):
    """A linear map that may have no inputs or no outputs; with no inputs it gives its bias."""

    def reset_parameters(self) -> None:
        """Draws weights as torch does, except where there are none to draw (torch would warn)."""
        if self.weight.numel():
            super().reset_parameters()
        else:
            nn.init.zeros_(self.bias)


class ElasticLayer(nn.Module):
    """One post-norm encoder layer of ``n_heads`` heads and ``n_filters`` filters; each may be 0.

    The two sub-layers can be run in pieces (``context``, ``attention_output``, ``activations``,
    ``feed_forward_output``), which is how masks are fitted one sub-layer after the other. Outputs
    "before the norm" are without the residual's norm but with the residual.
    """

    def __init__(self, config: TrimtabConfig, n_heads: int, n_filters: int) -> None:
        super().__init__()
        d, width = config.hidden_size, n_heads * config.head_dim
        self.n_heads, self.head_dim, self.n_filters = n_heads, config.head_dim, n_filters
        self.query = ElasticLinear(d, width)
        self.key = ElasticLinear(d, width)
        self.value = ElasticLinear(d, width)
        self.attention_out = ElasticLinear(width, d)
        self.attention_norm = nn.LayerNorm(d, eps=config.layer_norm_eps)
        self.up = ElasticLinear(d, n_filters)
        self.down = ElasticLinear(n_filters, d)
        self.output_norm = nn.LayerNorm(d, eps=config.layer_norm_eps)
        self.activation = ACT2FN[config.hidden_act]
        self.dropout = nn.Dropout(config.hidden_dropout_prob)
        self.dropout_after_attention = config.dropout_after_attention
        self.attention_dropout = config.attention_probs_dropout_prob

    def forward(
        self,
        hidden: torch.Tensor,
        mask: torch.Tensor | None,
        head_gates: torch.Tensor | None = None,
        filter_gates: torch.Tensor | None = None,
        first_only: bool = False,
    ) -> torch.Tensor:
        """Runs the layer on ``hidden`` [B, n, d]; gates are [H] and [F], or [B, H] and [B, F].

        With ``first_only`` it gives the first token's output alone, [B, 1, d], for less work.
        """
        context = self.gate_context(self.context(hidden, mask, first_only), head_gates)
        residual = hidden[:, :1] if first_only else hidden
        attended = self.attention_norm(self.attention_output(residual, context))
        active = gate_last(self.activations(attended), filter_gates)
        normed: torch.Tensor = self.output_norm(self.feed_forward_output(attended, active))
        return normed

    def context(
        self, hidden: torch.Tensor, mask: torch.Tensor | None, first_only: bool = False
    ) -> torch.Tensor:
        """Gives every head's weighted values side by side, [B, n, A], before the projection.

        With ``first_only`` only the first token asks, and the result is [B, 1, A].
        """
        asking = hidden[:, :1] if first_only else hidden
        batch, length, _ = asking.shape
        if self.n_heads == 0:
            return hidden.new_zeros(batch, length, 0)
        query, key, value = (
            part(tokens).view(batch, -1, self.n_heads, self.head_dim).transpose(1, 2)
            for part, tokens in ((self.query, asking), (self.key, hidden), (self.value, hidden))
        )
        dropout = self.attention_dropout if self.training else 0.0
        # The default scale is 1/sqrt(d_h) of the tensor's own last axis: the original head width.
        attended = functional.scaled_dot_product_attention(
            query, key, value, attn_mask=mask, dropout_p=dropout
        )
        return attended.transpose(1, 2).reshape(batch, length, -1)

    def gate_context(self, context: torch.Tensor, gates: torch.Tensor | None) -> torch.Tensor:
        """Scales each head's share of ``context`` [B, n, A] by its gate."""
        if gates is None:
            return context
        return gate_last(context, gates.repeat_interleave(self.head_dim, dim=-1))

    def attention_output(self, hidden: torch.Tensor, context: torch.Tensor) -> torch.Tensor:
        """Projects ``context`` and adds the residual; before the norm, [B, n, d]."""
        projected: torch.Tensor = self.attention_out(context)
        if self.dropout_after_attention:
            projected = self.dropout(projected)
        return hidden + projected

    def activations(self, attended: torch.Tensor) -> torch.Tensor:
        """Gives every filter's activation, [B, n, F], before the second projection."""
        return self.activation(self.up(attended))  # type: ignore[no-any-return]

    def feed_forward_output(self, attended: torch.Tensor, active: torch.Tensor) -> torch.Tensor:
        """Projects activations and adds the residual; before the norm, [B, n, d]."""
        return attended + self.dropout(self.down(active))  # type: ignore[no-any-return]


class ClassifierHead(nn.Module):
    """Reads the first token: dense, activation, output; BERT's pooler is the first two of these."""

    def __init__(self, config: TrimtabConfig) -> None:
        super().__init__()
        rate = config.classifier_dropout
        self.dropout_before = config.dropout_before_head
        self.dropout = nn.Dropout(config.hidden_dropout_prob if rate is None else rate)
        self.dense = nn.Linear(config.hidden_size, config.hidden_size)
        self.activation = ACT2FN[config.head_activation]
        self.out = nn.Linear(config.hidden_size, config.num_labels)

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        """Turns ``hidden`` [B, n, d] into logits [B, C]."""
        first = hidden[:, 0]
        if self.dropout_before:
            first = self.dropout(first)
        logits: torch.Tensor = self.out(self.dropout(self.activation(self.dense(first))))
        return logits


def gate_last(values: torch.Tensor, gates: torch.Tensor | None) -> torch.Tensor:
    """Multiplies ``values`` [B, n, W] by gates [W] (shared) or [B, W] (one set for each sample)."""
    if gates is None:
        return values
    return values * (gates if gates.dim() == 1 else gates[:, None, :])
