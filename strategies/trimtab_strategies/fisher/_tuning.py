"""Mask tuning: a factor for each head and filter, so that each sub-layer gives what it gave before.

Legend, for one sub-layer with K units of width w (heads: w = d_h, filters: w = 1):
    u  [tokens, K·w]  what the units put out (contexts, or activations)
    W  [d, K·w]       the projection behind them
    b  [tokens, d]    what they should give together: the dense model's output before the norm,
                      without the student's own residual and without the projection's bias
    A_i = u_i·W_iᵀ flattened, the share of unit i;  m  [K]  the factors, 1 before tuning
The paper's ridge (§4.3), with m = 1 + r:  minimise ‖A·m − b‖² + λ‖r‖²,  (AᵀA + λI)·r = Aᵀ(b − A·1).
The normal equations need only uᵀu and uᵀb, which are summed batch by batch:
    AᵀA = blocks of (uᵀu) ∘ (WᵀW), summed over w×w;   Aᵀb = (uᵀb) ∘ Wᵀ, summed over d and w.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import torch

from trimtab_strategies.base import Progress
from trimtab_strategies.elastic import TrimtabForSequenceClassification

Batches = Sequence[Mapping[str, torch.Tensor]]
Pairs = Iterable[tuple[torch.Tensor, torch.Tensor]]
LARGEST_FACTOR = 10.0
"""Factors beyond ±10 are a sign of an ill-posed system; the paper's code discards them."""
MEMORY_BYTES = 4 * 2**30
"""What the hidden states of students that share a teacher's pass may take together."""
SHARED_SETS = 5
"""Sets of hidden states held beside one a student: the teacher's, both targets, and two at work."""


def tune_scales(
    teacher: TrimtabForSequenceClassification,
    students: Sequence[TrimtabForSequenceClassification],
    batches: Batches,
    damping: float,
    progress: Progress,
) -> None:
    """Folds tuned factors into the projections of every student, in place.

    Layers go in order and a student's inputs are those of its own, already tuned, layers below.
    Students share passes of the teacher, as many at a time as ``MEMORY_BYTES`` has room for. When
    a sub-layer's factors leave the allowed range they are discarded, and that student is left as
    it is from there on.
    """
    together = group_size(teacher.config.hidden_size, batches)
    for start in range(0, len(students), together):
        group = students[start : start + together]
        _tune_group(teacher, group, batches, damping, progress)


def group_size(hidden_size: int, batches: Batches) -> int:
    """Gives how many students fit beside each other; at least one."""
    positions = sum(batch["input_ids"].numel() for batch in batches)
    return max(1, MEMORY_BYTES // (4 * hidden_size * max(positions, 1)) - SHARED_SETS)


def _tune_group(
    teacher: TrimtabForSequenceClassification,
    students: Sequence[TrimtabForSequenceClassification],
    batches: Batches,
    damping: float,
    progress: Progress,
) -> None:
    masks = [batch["attention_mask"].bool() for batch in batches]
    with torch.inference_mode():
        taught = _embed(teacher, batches)
        states = [_Student(student, _embed(student, batches)) for student in students]
        for index in range(len(teacher.encoder_layers)):
            progress("tuning", index, len(teacher.encoder_layers))
            targets = [_teach(teacher, index, h, m) for h, m in zip(taught, masks, strict=True)]
            for state in states:
                state.run_layer(index, targets, masks, damping)
            taught = [teacher.encoder_layers[index].output_norm(output) for _, output in targets]


def _embed(model: TrimtabForSequenceClassification, batches: Batches) -> list[torch.Tensor]:
    return [model.embeddings(b["input_ids"], b.get("token_type_ids")) for b in batches]


def _teach(
    teacher: TrimtabForSequenceClassification,
    index: int,
    hidden: torch.Tensor,
    mask: torch.Tensor,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Gives both targets of a layer: after attention and after feed-forward, before the norms."""
    layer = teacher.encoder_layers[index]
    after_attention = layer.attention_output(hidden, layer.context(hidden, teacher.key_mask(mask)))
    attended = layer.attention_norm(after_attention)
    return after_attention, layer.feed_forward_output(attended, layer.activations(attended))


class _Student:
    """One pruned model on its way through the layers, with its hidden states of every batch."""

    def __init__(self, model: TrimtabForSequenceClassification, hidden: list[torch.Tensor]) -> None:
        self.model, self.hidden = model, hidden
        self.is_tunable = True

    def run_layer(
        self,
        index: int,
        targets: Sequence[tuple[torch.Tensor, torch.Tensor]],
        masks: Sequence[torch.Tensor],
        damping: float,
    ) -> None:
        layer = self.model.encoder_layers[index]
        contexts = [
            layer.context(h, self.model.key_mask(m))
            for h, m in zip(self.hidden, masks, strict=True)
        ]
        self._tune(
            layer.attention_out,
            layer.head_dim,
            damping,
            (
                (context[m], (goal - h)[m])
                for context, h, (goal, _), m in zip(
                    contexts, self.hidden, targets, masks, strict=True
                )
            ),
        )
        attended = [
            layer.attention_norm(layer.attention_output(h, context))
            for h, context in zip(self.hidden, contexts, strict=True)
        ]
        del contexts
        self._tune(
            layer.down,
            1,
            damping,
            (
                (layer.activations(a[m]), (goal - a)[m])
                for a, (_, goal), m in zip(attended, targets, masks, strict=True)
            ),
        )
        self.hidden = [
            layer.output_norm(layer.feed_forward_output(a, layer.activations(a))) for a in attended
        ]

    def _tune(self, projection: torch.nn.Linear, width: int, damping: float, pairs: Pairs) -> None:
        if not self.is_tunable or projection.in_features == 0:
            return
        system = ScaleSystem.of(projection, width)
        for units, goal in pairs:
            system.add(units, goal - projection.bias)
        factors = system.solve(damping)
        if factors is None:
            self.is_tunable = False
            return
        projection.weight.mul_(factors.repeat_interleave(width).to(projection.weight))


class ScaleSystem:
    """The normal equations of one sub-layer's factors, summed over batches in double precision."""

    def __init__(self, weight: torch.Tensor, width: int) -> None:
        self._weight, self._width = weight, width
        self._units = torch.zeros(weight.shape[1], weight.shape[1], dtype=torch.float64)
        self._cross = torch.zeros(weight.shape[1], weight.shape[0], dtype=torch.float64)

    @classmethod
    def of(cls, projection: torch.nn.Linear, width: int) -> ScaleSystem:
        """Starts the system of the units in front of ``projection``."""
        return cls(projection.weight.detach(), width)

    def add(self, units: torch.Tensor, goal: torch.Tensor) -> None:
        """Adds real tokens: ``units`` [tokens, K·w] and what they should give, [tokens, d]."""
        self._units += (units.T @ units).cpu().double()
        self._cross += (units.T @ goal).cpu().double()

    def normal_equations(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Gives AᵀA [K, K] and Aᵀb [K]."""
        weight, width = self._weight.cpu().double(), self._width
        n_units = weight.shape[1] // width
        blocks = (self._units * (weight.T @ weight)).view(n_units, width, n_units, width)
        shares = (self._cross * weight.T).sum(dim=1).view(n_units, width)
        return blocks.sum(dim=(1, 3)), shares.sum(dim=1)

    def solve(self, damping: float) -> torch.Tensor | None:
        """Gives the factors m [K], or None when they are not finite or leave ±10."""
        matrix, shares = self.normal_equations()
        damped = matrix + damping * torch.eye(len(matrix), dtype=torch.float64)
        factor, failed = torch.linalg.cholesky_ex(damped)
        if failed:
            return None
        change = torch.cholesky_solve((shares - matrix.sum(dim=1))[:, None], factor)[:, 0]
        factors = 1 + change
        within = torch.isfinite(factors).all() and factors.abs().max() <= LARGEST_FACTOR
        return factors if within else None
