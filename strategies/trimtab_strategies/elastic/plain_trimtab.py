"""The plain forward of a static point: the same operations for all texts of all lengths.

A point is static where its token rule lets no token go and its exits let no sample leave. Nothing
depends on what a text says then, so that the whole pass can be given to a compiler or written as a
graph; the packed forward, which looks at lengths as it goes, cannot.

Legend of shapes:
    B  batch      n  padded length     d  hidden size      C  classes
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.nn import functional

from .exits_trimtab import Leaving
from .layers_trimtab import ElasticLayer
from .tokens_trimtab import acting

if TYPE_CHECKING:
    from .modeling_trimtab import TrimtabForSequenceClassification


def what_acts(model: TrimtabForSequenceClassification) -> str | None:
    """Tells in a few words what of a model depends on the texts; None if nothing does."""
    knobs, rule = model.config.knobs, model.token_rule
    leaving = Leaving(knobs, 0, torch.device("cpu"))
    if leaving.is_possible and model.exits_by_layer():
        return "samples leave it at early exits"
    rules = acting(rule, model.config.heads_per_layer, knobs)
    if any(rules[:-1]):  # nothing that the last lets go is read after it
        return "it lets tokens go"
    return None


class PlainForward(nn.Module):
    """Runs a static point on padded batches, with the weights of the model that it is given."""

    def __init__(self, model: TrimtabForSequenceClassification) -> None:
        super().__init__()
        self.embeddings, self.layers, self.head = model.embeddings, model.layers, model.head
        self.eval()

    def forward(
        self,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor,
        token_type_ids: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Gives the logits [B, C] of ``input_ids`` [B, n] with their mask [B, n]."""
        hidden: torch.Tensor = self.embeddings(input_ids, token_type_ids)
        mask = attention_mask[:, None, None, :].bool()
        last = len(self.layers) - 1
        for index, layer in enumerate(self.layers):
            hidden = _run_layer(layer, hidden, mask, first_only=index == last)  # type: ignore[arg-type]
        logits: torch.Tensor = self.head(hidden)
        return logits


def _run_layer(
    layer: ElasticLayer, hidden: torch.Tensor, mask: torch.Tensor, *, first_only: bool
) -> torch.Tensor:
    """Runs a layer; products over no heads or no filters are left out, as runtimes differ there."""
    residual = hidden[:, :1] if first_only else hidden
    if layer.n_heads:
        attended = layer.attended(residual, layer.context(hidden, mask, first_only))
    else:
        attended = layer.attention_norm(residual + layer.attention_out.bias)
    if layer.n_filters:
        return layer.fed_forward(attended)
    normed: torch.Tensor = layer.output_norm(attended + layer.down.bias)
    return normed


class CompiledPlain:
    """The plain forward as torch compiles it, for single texts: one graph for all their lengths.

    Batches are faster packed, as there is no padding then.
    """

    def __init__(self, model: TrimtabForSequenceClassification) -> None:
        self._has_types = model.embeddings.has_types
        self._run = torch.compile(PlainForward(model), dynamic=True, fullgraph=True)

    def serves(self, model: TrimtabForSequenceClassification, input_ids: torch.Tensor) -> bool:
        """Tells whether this is a single text, without gradients, and the model static now."""
        return len(input_ids) == 1 and not torch.is_grad_enabled() and what_acts(model) is None

    def __call__(
        self, input_ids: torch.Tensor, real: torch.Tensor, types: torch.Tensor | None
    ) -> torch.Tensor:
        """Gives the logits [1, C] of ``input_ids`` [1, n], of which ``real`` [1, n] are tokens."""
        # Another kind of input is another graph, and a length of 1 is a kind of its own: what is
        # handed over is always of two tokens or more, and as if there were no inference mode.
        with torch.inference_mode(False), torch.no_grad():
            length = int(real[0].nonzero()[-1]) + 1
            parts = [input_ids, real]
            if self._has_types:
                parts.append(torch.zeros_like(input_ids) if types is None else types)
            logits: torch.Tensor = self._run(*(_cut(part, length) for part in parts))
        return logits

    def __reduce__(self) -> tuple[Any, ...]:
        """Is None in copies: what was compiled belongs to the weights of one model."""
        return type(None), ()


def _cut(part: torch.Tensor, length: int) -> torch.Tensor:
    """Copies the first ``length`` places of a row [1, n]; to one alone a zero is added."""
    return functional.pad(part[:, :length], (0, max(0, 2 - length))).clone(
        memory_format=torch.contiguous_format
    )
