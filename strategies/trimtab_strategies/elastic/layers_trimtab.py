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
from .linear_trimtab import ElasticLinear, activated, added

SCORES_AT_ONCE = {"cpu": 512 * 1024}
"""So many attention scores are computed together, and in one memory that stays at hand.

Of more, the allocator hands the memory back every time, and all of its pages are made anew.
"""


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
        return self.embed(input_ids, token_type_ids, self.positions(input_ids))

    def embed(
        self, ids: torch.Tensor, types: torch.Tensor | None, positions: torch.Tensor
    ) -> torch.Tensor:
        """Embeds tokens whose positions are known, whatever the shape of ``ids``: [..., d]."""
        summed: torch.Tensor = self.word(ids)
        # The order of the sum is the stock models', so that rounding agrees as well.
        if self.has_types:
            summed = summed + self.token_type(torch.zeros_like(ids) if types is None else types)
        embedded: torch.Tensor = self.norm(summed + self.position(positions))
        widened: torch.Tensor = self.project(self.dropout(embedded))
        return widened

    def positions(self, input_ids: torch.Tensor) -> torch.Tensor:
        """Numbers the tokens of ``input_ids`` [B, n]; [1, n] where all rows are numbered alike."""
        if not self.skip_padding:
            return torch.arange(input_ids.shape[1], device=input_ids.device)[None, :]
        real = (input_ids != self.pad_token_id).long()
        positions: torch.Tensor = torch.cumsum(real, dim=1) * real + self.pad_token_id
        return positions


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
        self.width = width
        self.qkv = ElasticLinear(d, 3 * width)
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
        return self.fed_forward(self.attended(residual, context), filter_gates)

    def context(
        self, hidden: torch.Tensor, mask: torch.Tensor | None, first_only: bool = False
    ) -> torch.Tensor:
        """Gives every head's weighted values side by side, [B, n, A], before the projection.

        With ``first_only`` only the first token asks, and the result is [B, 1, A].
        """
        query, key, value = self.asked(hidden, hidden[:, :1] if first_only else None)
        return self.attend(query, key, value, mask)

    def asked(
        self, hidden: torch.Tensor, asking: torch.Tensor | None = None
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Projects ``hidden`` [..., d] into queries, keys and values, each [..., A].

        With ``asking`` [..., d] the queries are those of these tokens.
        """
        if asking is None:
            query, key, value = self.qkv(hidden).tensor_split(3, dim=-1)
            return query, key, value
        key, value = self.qkv.some(hidden, self.width, 3 * self.width).tensor_split(2, dim=-1)
        return self.qkv.some(asking, 0, self.width), key, value

    def attend(
        self,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        mask: torch.Tensor | None,
    ) -> torch.Tensor:
        """Gives the context [B, n_q, A] of queries [B, n_q, A] over keys [B, n, A], fused.

        ``mask`` [B, 1, 1, n] is True at the keys that may be seen, or it is added to the scores;
        None where all may.
        """
        batch, asking, _ = query.shape
        if self.n_heads == 0:
            return query.new_zeros(batch, asking, 0)
        # The default scale is 1/sqrt(d_h) of the tensor's own last axis: the original head width.
        query, key, value = (self._by_head(part) for part in (query, key, value))
        attended = functional.scaled_dot_product_attention(
            query,
            key,
            value,
            attn_mask=mask,
            dropout_p=self.attention_dropout if self.training else 0.0,
        )
        return attended.transpose(1, 2).reshape(batch, asking, -1)

    def attend_and_weigh(
        self,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        mask: torch.Tensor | None,
        asking: torch.Tensor | None,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Gives the context as ``attend`` does, and how much each token is attended to, [B, n].

        That is the sum of the attention probabilities over the queries that are ``asking`` [B, n]
        (None where all are), averaged over heads, before dropout; over a sample it adds up to the
        number of those queries. The layer must have heads.
        """
        # A compiler wants the same steps for all shapes, and gradients keep every piece anyway.
        is_whole = torch.compiler.is_compiling() or torch.is_grad_enabled()
        most = None if is_whole else SCORES_AT_ONCE.get(query.device.type)
        size = len(query) if most is None else most // (self.n_heads * query.shape[1] ** 2)
        if (size := max(1, size)) >= len(query):
            return self._weighed(query, key, value, mask, asking)
        parts = (query, key, value, mask, asking)
        some = [
            self._weighed(*(None if part is None else part[at : at + size] for part in parts))  # type: ignore[arg-type]
            for at in range(0, len(query), size)
        ]
        contexts, received = zip(*some, strict=True)
        return torch.cat(contexts), torch.cat(received)

    def _weighed(
        self,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        mask: torch.Tensor | None,
        asking: torch.Tensor | None,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        batch, length, _ = query.shape
        query, key, value = (
            self._by_head(part).reshape(batch * self.n_heads, length, self.head_dim)
            for part in (query, key, value)
        )
        unseen = query.new_zeros(1, 1, 1)
        if mask is not None:
            unseen = mask if mask.is_floating_point() else added_to_scores(mask, query.dtype)
            unseen = unseen.expand(-1, self.n_heads, -1, -1).reshape(-1, 1, length)
        scores = torch.baddbmm(
            unseen,
            query,
            key.transpose(1, 2),
            beta=0 if mask is None else 1,
            alpha=self.head_dim**-0.5,
        )
        probabilities = torch.softmax(scores, dim=-1)
        of_sample = probabilities.view(batch, self.n_heads * length, length)
        if asking is None:
            received = of_sample.sum(dim=1)
        else:
            weights = asking.to(probabilities).repeat(1, self.n_heads)
            received = torch.bmm(weights[:, None], of_sample)[:, 0]
        kept = functional.dropout(probabilities, self.attention_dropout, self.training)
        context = torch.bmm(kept, value).view(batch, self.n_heads, length, self.head_dim)
        return context.transpose(1, 2).reshape(batch, length, -1), received / self.n_heads

    def _by_head(self, part: torch.Tensor) -> torch.Tensor:
        batch, length, _ = part.shape
        return part.reshape(batch, length, self.n_heads, self.head_dim).transpose(1, 2)

    def gate_context(self, context: torch.Tensor, gates: torch.Tensor | None) -> torch.Tensor:
        """Scales each head's share of ``context`` [B, n, A] by its gate."""
        if gates is None:
            return context
        return gate_last(context, gates.repeat_interleave(self.head_dim, dim=-1))

    def attention_output(self, hidden: torch.Tensor, context: torch.Tensor) -> torch.Tensor:
        """Projects ``context`` and adds the residual; before the norm, [B, n, d]."""
        if self.dropout.training and self.dropout_after_attention:
            dropped: torch.Tensor = self.dropout(self.attention_out(context))
            return hidden + dropped
        return added(self.attention_out, context, hidden)

    def attended(self, hidden: torch.Tensor, context: torch.Tensor) -> torch.Tensor:
        """Projects ``context``, adds the residual ``hidden`` and normalises, [..., d]."""
        normed: torch.Tensor = self.attention_norm(self.attention_output(hidden, context))
        return normed

    def fed_forward(
        self, attended: torch.Tensor, gates: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Runs the whole feed-forward sub-layer on ``attended`` [..., d]."""
        active = gate_last(self.activations(attended), gates)
        normed: torch.Tensor = self.output_norm(self.feed_forward_output(attended, active))
        return normed

    def activations(self, attended: torch.Tensor) -> torch.Tensor:
        """Gives every filter's activation, [B, n, F], before the second projection."""
        return activated(self.up, attended, self.activation)

    def feed_forward_output(self, attended: torch.Tensor, active: torch.Tensor) -> torch.Tensor:
        """Projects activations and adds the residual; before the norm, [B, n, d]."""
        if self.dropout.training:
            dropped: torch.Tensor = self.dropout(self.down(active))
            return attended + dropped
        return added(self.down, active, attended)


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


def added_to_scores(seen: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """Gives what hides those keys from attention that are not ``seen``: 0, and the least number."""
    return torch.zeros_like(seen, dtype=dtype).masked_fill(~seen, torch.finfo(dtype).min)
