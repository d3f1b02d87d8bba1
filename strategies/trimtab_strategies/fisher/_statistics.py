"""Per-example Fisher information of the gates, from one backward pass a batch.

Legend:
    N    calibration rows        K_l  gates of one kind in layer l (heads or filters)
    p    [C]  the dense model's own prediction for one row
    g    [N, K_l]  gradient of each row's own signal by each gate, at gates of 1

The signal is the loss on the row's label (equation 5), or the distance to the dense model's own
prediction, which needs no label. That distance, KL(p ‖ p(m)), has no gradient at m = 1; its second
derivative there is Jᵀ(diag(p) − ppᵀ)J, with J the logits' gradient. Going backward from one random
vector with just that covariance gives rows g whose mean gᵀg is that matrix, at the cost of a loss.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import torch
from torch.nn import functional

from trimtab_strategies.base import Progress
from trimtab_strategies.elastic import Gates, TrimtabForSequenceClassification

BATCH_SIZE = 32
FOLDED_ROWS = 256
"""Rows that are multiplied into a moment together, once there is one."""
SEED = 0
Kind = Literal["heads", "filters"]
Batch = Mapping[str, torch.Tensor]
Statistics = Mapping[str, torch.Tensor]


def gate_gradients(
    model: TrimtabForSequenceClassification,
    batches: Sequence[Batch],
    signal: str,
    progress: Progress,
) -> dict[str, torch.Tensor]:
    """Gives ``heads.<l>`` and ``filters.<l>``: the gradients g of layer l, [N, K_l] on the CPU.

    Where there are more rows than gates, it is ``heads.<l>.moment`` instead, their mean outer
    product [K_l, K_l], so that memory does not grow with the number of rows.

    ``signal`` is ``labels`` or ``predictions``; see above.

    Gates are expanded to one set a sample and the loss is summed, not averaged, so that one
    backward pass yields each example's own gradient (equation 5 wants the outer products of
    those, not of a batch's mean). Weights are frozen; the model comes back as it was.
    """
    frozen = [(weight, weight.requires_grad) for weight in model.parameters()]
    was_training = model.training
    model.eval().requires_grad_(False)
    n_rows = sum(len(batch["input_ids"]) for batch in batches)
    moments: dict[str, _Moment] = {}
    random = torch.Generator().manual_seed(SEED)
    try:
        for done, batch in enumerate(batches):
            progress("gradients", done, len(batches))
            for name, gradient in _batch_gradients(model, batch, signal, random).items():
                if name not in moments:
                    moments[name] = _Moment(n_rows, gradient.shape[1])
                moments[name].add(gradient)
    finally:
        model.train(was_training)
        for weight, required in frozen:
            weight.requires_grad_(required)
    return dict(moment.result(name) for name, moment in moments.items())


def _batch_gradients(
    model: TrimtabForSequenceClassification, batch: Batch, signal: str, random: torch.Generator
) -> dict[str, torch.Tensor]:
    inputs = {name: tensor for name, tensor in batch.items() if name != "labels"}
    gates = _sample_gates(model, len(batch["input_ids"]))
    logits = model(**inputs, gates=gates).logits
    backward_from = _SIGNALS[signal](logits.detach(), batch, random)
    named = {f"heads.{index}": gate for index, gate in enumerate(gates.heads)}
    named |= {f"filters.{index}": gate for index, gate in enumerate(gates.filters)}
    # A layer with nothing left has gates of width 0, which no gradient reaches.
    gradients = torch.autograd.grad(
        logits,
        list(named.values()),
        grad_outputs=backward_from,
        allow_unused=True,
        materialize_grads=True,
    )
    return {name: gradient.float().cpu() for name, gradient in zip(named, gradients, strict=True)}


def _label_signal(logits: torch.Tensor, batch: Batch, random: torch.Generator) -> torch.Tensor:
    """The gradient of each row's cross-entropy by its logits, [B, C]."""
    wanted = functional.one_hot(batch["labels"], logits.shape[1])
    return torch.softmax(logits, dim=1) - wanted.to(logits)


def _prediction_signal(logits: torch.Tensor, batch: Batch, random: torch.Generator) -> torch.Tensor:
    """A random vector for each row with covariance diag(p) − ppᵀ, [B, C]."""
    p = torch.softmax(logits, dim=1)
    drawn = p.sqrt() * torch.randn(p.shape, generator=random).to(p)
    return drawn - p * drawn.sum(dim=1, keepdim=True)


_SIGNALS = {"labels": _label_signal, "predictions": _prediction_signal}


def _sample_gates(model: TrimtabForSequenceClassification, batch_size: int) -> Gates:
    config, like = model.config, model.head.out.weight
    return Gates(
        [like.new_ones(batch_size, k).requires_grad_() for k in config.heads_per_layer],
        [like.new_ones(batch_size, k).requires_grad_() for k in config.filters_per_layer],
    )


class _Moment:
    """The second moment of one layer's gradients: as rows, while those take less room than it.

    Its memory is taken at once: small tensors that are kept between the large ones of a backward
    pass would leave holes that nothing fits in, a gigabyte of them for 2,048 rows.
    """

    def __init__(self, n_rows: int, n_gates: int) -> None:
        self._sum = torch.zeros(n_gates, n_gates) if n_rows > n_gates else None
        self._rows = torch.empty(n_rows if self._sum is None else FOLDED_ROWS, n_gates)
        self._waiting, self._count = 0, 0

    def add(self, rows: torch.Tensor) -> None:
        for part in torch.split(rows, FOLDED_ROWS):
            if self._waiting + len(part) > len(self._rows):
                self._fold()
            self._rows[self._waiting : self._waiting + len(part)] = part
            self._waiting += len(part)
            self._count += len(part)

    def result(self, name: str) -> tuple[str, torch.Tensor]:
        """Gives what to keep under ``name``, once; nothing can be added afterwards."""
        if self._sum is None:
            return name, self._rows
        self._fold()
        self._rows = self._rows[:0].clone()
        return f"{name}.moment", self._sum.div_(self._count)

    def _fold(self) -> None:
        assert self._sum is not None, "there are as many rows as was said"
        rows = self._rows[: self._waiting]
        self._sum.addmm_(rows.T, rows)
        self._waiting = 0


def importance_of(statistics: Statistics, kind: Kind, layer: int) -> torch.Tensor:
    """Reads the importance of one layer's gates, [K_l], in double precision."""
    moment = statistics.get(f"{kind}.{layer}.moment")
    return (
        importance(statistics[f"{kind}.{layer}"]) if moment is None else moment.diagonal().double()
    )


def block_of(statistics: Statistics, kind: Kind, layer: int) -> torch.Tensor:
    """Reads one layer's block of the Fisher information, [K_l, K_l], in double precision."""
    moment = statistics.get(f"{kind}.{layer}.moment")
    return gram(statistics[f"{kind}.{layer}"]) if moment is None else moment.double()


def importance(gradients: torch.Tensor) -> torch.Tensor:
    """Gives the diagonal of the Fisher information, [K_l]: mean squared gradient (equation 5)."""
    return gradients.double().square().mean(dim=0)


def gram(gradients: torch.Tensor) -> torch.Tensor:
    """Gives one block of the Fisher information, [K_l, K_l], in double precision."""
    return (gradients.T @ gradients).double() / max(len(gradients), 1)
