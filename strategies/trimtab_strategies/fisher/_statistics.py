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
"""Rows that are multiplied into a moment together."""
TILE = 256
"""Rows of a moment that are kept together, from the diagonal on: it is symmetric."""
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
    """Gives ``heads.<l>`` and ``filters.<l>``: the mean outer product of layer l's gradients g.

    It is what ``block_of`` and ``importance_of`` read, in tiles and on the CPU; its size does not
    depend on the number of rows.

    ``signal`` is ``labels`` or ``predictions``; see above.

    Gates are expanded to one set a sample and the loss is summed, not averaged, so that one
    backward pass yields each example's own gradient (equation 5 wants the outer products of
    those, not of a batch's mean). Weights are frozen; the model comes back as it was.
    """
    frozen = [(weight, weight.requires_grad) for weight in model.parameters()]
    was_training = model.training
    model.eval().requires_grad_(False)
    moments: dict[str, _Moment] = {}
    random = torch.Generator().manual_seed(SEED)
    try:
        for done, batch in enumerate(batches):
            progress("gradients", done, len(batches))
            for name, gradient in _batch_gradients(model, batch, signal, random).items():
                if name not in moments:
                    moments[name] = _Moment(gradient.shape[1])
                moments[name].add(gradient)
    finally:
        model.train(was_training)
        for weight, required in frozen:
            weight.requires_grad_(required)
    return {name: moment.result() for name, moment in moments.items()}


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
    """The second moment of one layer's gradients.

    Its memory is taken at once: small tensors that are kept between the large ones of a backward
    pass would leave holes that nothing fits in, a gigabyte of them for 2,048 rows.
    """

    def __init__(self, n_gates: int) -> None:
        self._packed = torch.zeros(sum(n_rows * width for n_rows, width in _tile_sizes(n_gates)))
        self._rows = torch.empty(FOLDED_ROWS, n_gates)
        self._waiting, self._count = 0, 0

    def add(self, rows: torch.Tensor) -> None:
        for part in torch.split(rows, FOLDED_ROWS):
            if self._waiting + len(part) > FOLDED_ROWS:
                self._fold()
            self._rows[self._waiting : self._waiting + len(part)] = part
            self._waiting += len(part)
            self._count += len(part)

    def result(self) -> torch.Tensor:
        """Gives the tiles of the mean, once; nothing can be added afterwards."""
        self._fold()
        self._rows = self._rows[:0].clone()
        return self._packed.div_(max(self._count, 1))

    def _fold(self) -> None:
        rows = self._rows[: self._waiting]
        for place, tile in enumerate(_tiles(self._packed, rows.shape[1])):
            first = place * TILE
            tile.addmm_(rows[:, first : first + TILE].T, rows[:, first:])
        self._waiting = 0


def _tile_sizes(n_gates: int) -> list[tuple[int, int]]:
    return [(min(TILE, n_gates - f), n_gates - f) for f in range(0, n_gates, TILE)]


def _tiles(packed: torch.Tensor, n_gates: int) -> list[torch.Tensor]:
    sizes = _tile_sizes(n_gates)
    parts = torch.split(packed, [n_rows * width for n_rows, width in sizes])
    return [part.view(size) for part, size in zip(parts, sizes, strict=True)]


def importance_of(statistics: Statistics, kind: Kind, layer: int, n_gates: int) -> torch.Tensor:
    """Reads the importance of one layer's gates, [K_l], in double precision (equation 5)."""
    tiles = _tiles(statistics[f"{kind}.{layer}"], n_gates)
    return torch.cat([tile.diagonal().double() for tile in tiles] or [torch.zeros(0).double()])


def block_of(statistics: Statistics, kind: Kind, layer: int, n_gates: int) -> torch.Tensor:
    """Reads one layer's block of the Fisher information, [K_l, K_l], in double precision."""
    block = torch.zeros(n_gates, n_gates, dtype=torch.float64)
    for place, tile in enumerate(_tiles(statistics[f"{kind}.{layer}"], n_gates)):
        first = place * TILE
        block[first : first + TILE, first:] = tile
    return block.triu_() + block.triu(1).T
