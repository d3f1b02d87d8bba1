"""Per-example Fisher information of the gates, from one backward pass a batch.

Legend:
    N    calibration rows        K_l  gates of one kind in layer l (heads or filters)
    g    [N, K_l]  gradient of each row's own loss by each gate, at gates of 1
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import torch
from torch.nn import functional

from trimtab_strategies.base import Calibration, Progress
from trimtab_strategies.elastic import Gates, TrimtabForSequenceClassification

BATCH_SIZE = 32
Kind = Literal["heads", "filters"]


def gate_gradients(
    model: TrimtabForSequenceClassification,
    calibration: Calibration,
    size: int,
    progress: Progress,
) -> dict[str, torch.Tensor]:
    """Gives ``heads.<l>`` and ``filters.<l>``: the gradients g of layer l, [N, K_l] on the CPU.

    Gates are expanded to one set a sample and the loss is summed, not averaged, so that one
    backward pass yields each example's own gradient (equation 5 wants the outer products of
    those, not of a batch's mean). Weights are frozen; the model comes back as it was.
    """
    frozen = [(weight, weight.requires_grad) for weight in model.parameters()]
    was_training = model.training
    model.eval().requires_grad_(False)
    rows: dict[str, list[torch.Tensor]] = {}
    try:
        batches = calibration.batches(size, BATCH_SIZE)
        for done, batch in enumerate(batches):
            progress("gradients", done, len(batches))
            for name, gradient in _batch_gradients(model, batch).items():
                rows.setdefault(name, []).append(gradient)
    finally:
        model.train(was_training)
        for weight, required in frozen:
            weight.requires_grad_(required)
    return {name: torch.cat(parts) for name, parts in rows.items()}


def _batch_gradients(
    model: TrimtabForSequenceClassification, batch: Mapping[str, torch.Tensor]
) -> dict[str, torch.Tensor]:
    inputs = {name: tensor for name, tensor in batch.items() if name != "labels"}
    gates = _sample_gates(model, len(batch["labels"]))
    logits = model(**inputs, gates=gates).logits
    loss = functional.cross_entropy(logits, batch["labels"], reduction="sum")
    named = {f"heads.{index}": gate for index, gate in enumerate(gates.heads)}
    named |= {f"filters.{index}": gate for index, gate in enumerate(gates.filters)}
    # A layer with nothing left has gates of width 0, which no gradient reaches.
    gradients = torch.autograd.grad(
        loss, list(named.values()), allow_unused=True, materialize_grads=True
    )
    return {name: gradient.float().cpu() for name, gradient in zip(named, gradients, strict=True)}


def _sample_gates(model: TrimtabForSequenceClassification, batch_size: int) -> Gates:
    config, like = model.config, model.head.out.weight
    return Gates(
        [like.new_ones(batch_size, k).requires_grad_() for k in config.heads_per_layer],
        [like.new_ones(batch_size, k).requires_grad_() for k in config.filters_per_layer],
    )


def gradients_of(
    statistics: Mapping[str, torch.Tensor], kind: Kind, n_layers: int
) -> list[torch.Tensor]:
    """Reads one kind's gradients back, layer by layer."""
    return [statistics[f"{kind}.{index}"] for index in range(n_layers)]


def importance(gradients: torch.Tensor) -> torch.Tensor:
    """Gives the diagonal of the Fisher information, [K_l]: mean squared gradient (equation 5)."""
    return gradients.double().square().mean(dim=0)


def gram(gradients: torch.Tensor) -> torch.Tensor:
    """Gives one block of the Fisher information, [K_l, K_l], in double precision."""
    wide = gradients.double()
    return wide.T @ wide / max(len(wide), 1)
