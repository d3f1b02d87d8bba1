"""The elastic encoder with a classifier: one model class for every family and every width.

Beside a checkpoint this file needs only torch, transformers and its two neighbours, so that the
checkpoint also loads where trimtab is not installed.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Real
from typing import Any

import torch
from torch import nn
from torch.nn import functional
from transformers import PreTrainedModel
from transformers.modeling_outputs import SequenceClassifierOutput

from .configuration_trimtab import TrimtabConfig
from .exits_trimtab import make_exits
from .layers_trimtab import ClassifierHead, ElasticLayer, Embeddings
from .linear_trimtab import ElasticLinear
from .masked_trimtab import Softness, run_masked
from .packed_trimtab import run_packed
from .plain_trimtab import CompiledPlain
from .tokens_trimtab import make_token_rule
from .trace_trimtab import Trace

SLACK = 1e-9
"""What a limit may be exceeded by, as it is where points are chosen: the last bits mean nothing."""


@dataclass
class Gates:
    """Factors on every head and filter, layer by layer: 1 keeps it as it is, 0 takes it out.

    ``heads[l]`` is [H_l] or, with a factor for each sample, [B, H_l]; ``filters[l]`` likewise.
    This is the masked model: the plain form that a sliced model must agree with.
    """

    heads: Sequence[torch.Tensor]
    filters: Sequence[torch.Tensor]


class TrimtabForSequenceClassification(PreTrainedModel):  # type: ignore[misc]
    """An encoder whose layers keep uneven numbers of heads and filters, with a classifier."""

    config_class = TrimtabConfig
    base_model_prefix = "model"
    main_input_name = "input_ids"
    _supports_sdpa = True
    embeddings: Embeddings
    head: ClassifierHead
    _compiled: CompiledPlain | None = None

    def __init__(self, config: TrimtabConfig) -> None:
        super().__init__(config)
        self.num_labels = config.num_labels
        self.embeddings = Embeddings(config)
        self.layers = nn.ModuleList(
            ElasticLayer(config, n_heads, n_filters)
            for n_heads, n_filters in zip(
                config.heads_per_layer, config.filters_per_layer, strict=True
            )
        )
        self.head = ClassifierHead(config)
        self.token_rule = make_token_rule(config)
        self.exits = make_exits(config)
        self.post_init()

    def forward(
        self,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
        token_type_ids: torch.Tensor | None = None,
        labels: torch.Tensor | None = None,
        gates: Gates | None = None,
        packed: bool | None = None,
        softness: Softness | None = None,
        return_dict: bool | None = None,
        **unused: Any,
    ) -> SequenceClassifierOutput | tuple[torch.Tensor, ...]:
        """Classifies ``input_ids`` [B, n] into logits [B, C]; with ``labels`` also the mean loss.

        Tokens are pruned and samples leave early as the configuration's rules and knobs say.
        ``packed`` chooses between the two forwards, which agree; by default it is the packed one in
        evaluation and the masked one in training, under ``gates`` and with ``softness``.

        Raises:
            TypeError: for an argument that the model does not have. Ignoring one silently would
                let a mask that is not applied pass for a pruned model.
        """
        refused = [
            name for name, value in unused.items() if value is not None and value is not False
        ]
        if refused:
            raise TypeError(f"the elastic model takes no argument {', '.join(sorted(refused))}")
        needs_masks = self.training or gates is not None or softness is not None
        if packed is None:
            packed = not needs_masks
        real = _real_tokens(input_ids, attention_mask)
        if packed and not needs_masks and _can_be_packed(real):
            compiled = self._compiled
            if compiled is not None and compiled.serves(self, input_ids):
                logits = compiled(input_ids, real, token_type_ids)
            else:
                logits = run_packed(self, input_ids, real, token_type_ids)
        else:
            logits = run_masked(
                self, input_ids, attention_mask, token_type_ids, gates, softness=softness
            )
        loss = None if labels is None else functional.cross_entropy(logits, labels)
        if return_dict is False:
            return (logits,) if loss is None else (loss, logits)
        return SequenceClassifierOutput(loss=loss, logits=logits)

    @torch.inference_mode()
    def trace(
        self,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
        token_type_ids: torch.Tensor | None = None,
        packed: bool = True,
    ) -> Trace:
        """Records what every exit and every token rule does with ``input_ids``; nobody leaves."""
        real = _real_tokens(input_ids, attention_mask)
        trace = Trace(real.sum(dim=1))
        trace.make_room(len(self.encoder_layers), len(self.exits), self.num_labels)
        if packed and _can_be_packed(real):
            trace.logits = run_packed(self, input_ids, real, token_type_ids, trace)
        else:
            trace.logits = run_masked(self, input_ids, attention_mask, token_type_ids, trace=trace)
        return trace

    def exits_by_layer(self, *, every: bool = False) -> dict[int, int]:
        """Maps layers to the exits behind them: those that the knobs name, or ``every`` one."""
        layers = [] if self.config.exits is None else self.config.exits["layers"]
        used = range(len(layers)) if every else self.config.knobs.get("exits", range(len(layers)))
        return {layers[place]: place for place in used}

    def set_operating_point(
        self,
        max_flops: float | None = None,
        max_drop: float | None = None,
        max_latency_ms: float | None = None,
    ) -> dict[str, Any]:
        """Turns the dial to the smallest measured drop within the limits, and gives that point.

        Args:
            max_flops: Mean FLOPs allowed, as a fraction of the dense model's.
            max_drop: Drop allowed, in the metric's units: 0.01 is one point.
            max_latency_ms: Time allowed for a request as it was timed in the search, held against
                the upper end of its interval; points that were not timed do not meet it.

        Raises:
            ValueError: if the checkpoint has no point within the limits; it says which it has. Also
                if a limit is no finite number.
        """
        _check_limit("max_flops", max_flops)
        _check_limit("max_drop", max_drop)
        _check_limit("max_latency_ms", max_latency_ms)
        points = self.config.operating_points
        within = [
            point
            for point in points
            if (max_flops is None or point["flops_ratio"] <= max_flops * (1 + SLACK))
            and (max_drop is None or point["drop"] <= max_drop + SLACK)
            and (max_latency_ms is None or _latency_ms(point) <= max_latency_ms * (1 + SLACK))
        ]
        if not within:
            known = ", ".join(map(_in_words, points))
            limits = f"max_flops={max_flops}, max_drop={max_drop}, max_latency_ms={max_latency_ms}"
            raise ValueError(
                f"no operating point of this checkpoint is within {limits}; "
                f"it has FLOPs ratios {known or '(none)'}"
            )
        chosen = min(within, key=lambda point: (point["drop"], point["flops_ratio"]))
        self.config.knobs = dict(chosen.get("knobs", {}))
        return dict(chosen)

    def keep_layouts(self) -> None:
        """Has evaluation on the CPU lay out the encoder's weights once, not in every product.

        For a model in evaluation mode whose weights stay as they are; ``train()``, or a forward
        pass with gradients, ends it. Weights that change behind torch's back (``weight.data``)
        would go unseen until then. What is kept is a second copy of these weights in memory.
        """
        for module in self.layers.modules():
            if isinstance(module, ElasticLinear):
                module.keep_layout()

    def keep_compiled(self) -> None:
        """Has torch compile the forward pass of single texts, at the first one without gradients.

        That takes seconds to a minute, and a C++ compiler on the CPU. Batches, and settings of the
        knobs at which tokens or samples go, run as without it.
        """
        self._compiled = CompiledPlain(self)

    @property
    def encoder_layers(self) -> list[ElasticLayer]:
        """The layers in order."""
        return list(self.layers)  # type: ignore[arg-type]

    @staticmethod
    def key_mask(attention_mask: torch.Tensor | None) -> torch.Tensor | None:
        """Gives the mask of attention's keys, [B, 1, 1, n] of bool, or None when nothing is padded.

        Without a mask the fused kernels are faster, and length-sorted batches often need none.
        """
        if attention_mask is None or bool(attention_mask.all()):
            return None
        return attention_mask[:, None, None, :].bool()


def _real_tokens(input_ids: torch.Tensor, attention_mask: torch.Tensor | None) -> torch.Tensor:
    if attention_mask is None:
        return torch.ones_like(input_ids, dtype=torch.bool)
    return attention_mask.bool()


def _can_be_packed(real: torch.Tensor) -> bool:
    # A row that does not start with a real token has no first row to read.
    return len(real) > 0 and bool(real[:, 0].all())


def _latency_ms(point: dict[str, Any]) -> float:
    known = point.get("latency_ms")
    return math.inf if known is None else float(known)


def _in_words(point: dict[str, Any]) -> str:
    timed = "" if point.get("latency_ms") is None else f" and {point['latency_ms']:.4g} ms"
    return f"{point['flops_ratio']:.3f} at drop {point['drop']:.4f}{timed}"


def _check_limit(name: str, limit: float | None) -> None:
    is_number = isinstance(limit, Real) and not isinstance(limit, bool)
    if limit is not None and not (is_number and math.isfinite(limit)):
        raise ValueError(f"{name} must be a finite number or None, but got {limit!r}")
