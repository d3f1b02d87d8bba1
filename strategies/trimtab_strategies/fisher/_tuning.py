"""One walk through the layers that brings every pruned sub-layer back to what the dense one gives.

Teacher (the dense model) and students go layer by layer, attention before feed-forward, on hidden
states of one layer boundary; what a layer computes on the way is used batch by batch. Teacher and
students run each layer once; what a student has before a projection is held until that projection
is known. The classifier reads the first token only, so the last layer is run and tuned for that
token.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from trimtab_strategies.base import Progress
from trimtab_strategies.elastic import ElasticLayer, Gates, TrimtabForSequenceClassification
from trimtab_strategies.fisher._choice import choose_units
from trimtab_strategies.fisher._least_squares import NormalEquations
from trimtab_strategies.slicing import cut_layer, slice_model

Batches = Sequence[Mapping[str, torch.Tensor]]
MEMORY_BYTES = 4 * 2**30
"""What students that share a teacher's pass may take together."""


@dataclass(frozen=True)
class Tuning:
    """How to tune.

    ``kind`` is ``projection`` or ``scale``; ``strength`` is the ridge of the one or the damping of
    the other. With ``remeasure``, the units of each sub-layer are first chosen again, by what its
    projection cannot make up for; their number stays.
    """

    kind: str
    strength: float
    remeasure: bool = False


def tune(
    teacher: TrimtabForSequenceClassification,
    masks: Sequence[Gates],
    batches: Batches,
    tuning: Tuning,
    progress: Progress,
) -> list[TrimtabForSequenceClassification]:
    """Gives, for each of ``masks`` (gates of 0 and 1), the sliced model with tuned projections.

    A student's inputs are those of its own, already tuned, layers below. Students share the
    teacher's walk, as many at a time as ``MEMORY_BYTES`` has room for. Where the factors of a
    sub-layer leave the allowed range they are discarded, and that student is not tuned further.
    """
    together = group_size(teacher, batches)
    groups = [masks[start : start + together] for start in range(0, len(masks), together)]
    return [
        model for group in groups for model in _Walk(teacher, group, batches, tuning).run(progress)
    ]


def group_size(teacher: TrimtabForSequenceClassification, batches: Batches) -> int:
    """Gives how many students fit beside each other; at least one.

    Each holds its hidden states and, of one sub-layer at a time, what comes before the projection.
    """
    config = teacher.config
    widest = max(
        *(count * config.head_dim for count in config.heads_per_layer), *config.filters_per_layer
    )
    tokens = sum(batch["input_ids"].numel() for batch in batches)
    one: int = 4 * (config.hidden_size + widest) * max(tokens, 1)
    return max(1, MEMORY_BYTES // one)


class _Walk:
    """The teacher and a group of students, each with its hidden states at one layer boundary."""

    def __init__(
        self,
        teacher: TrimtabForSequenceClassification,
        masks: Sequence[Gates],
        batches: Batches,
        tuning: Tuning,
    ) -> None:
        self._teacher = teacher
        self._real = [batch["attention_mask"].bool() for batch in batches]
        self._keys = [teacher.key_mask(mask) for mask in self._real]
        with torch.no_grad():
            self._taught = _embed(teacher, batches)
            # The embeddings are the teacher's own; states are replaced, never written into.
            self._students = [_Student(teacher, m, list(self._taught), tuning) for m in masks]

    @torch.no_grad()
    def run(self, progress: Progress) -> list[TrimtabForSequenceClassification]:
        n_layers = len(self._teacher.encoder_layers)
        for index, layer in enumerate(self._teacher.encoder_layers):
            progress("tuning", index, n_layers)
            for student in self._students:
                student.enter(index)
            if index == n_layers - 1:
                self._real = [mask[:, :1] for mask in self._real]
            self._attention(layer, first_only=index == n_layers - 1)
            self._feed_forward(layer)
        return [student.finished() for student in self._students]

    def _attention(self, layer: ElasticLayer, *, first_only: bool) -> None:
        for place, key in enumerate(self._keys):
            hidden = self._taught[place]
            goal = layer.attention_output(
                hidden[:, :1] if first_only else hidden, layer.context(hidden, key, first_only)
            )
            self._taught[place] = goal
            for student in self._students:
                student.see_attention(place, key, goal, self._real[place], first_only)
        for student in self._students:
            student.leave_attention()

    def _feed_forward(self, layer: ElasticLayer) -> None:
        for place, real in enumerate(self._real):
            attended = layer.attention_norm(self._taught[place])
            goal = layer.feed_forward_output(attended, layer.activations(attended))
            self._taught[place] = layer.output_norm(goal)
            for student in self._students:
                student.see_feed_forward(place, goal, real)
        for student in self._students:
            student.leave_feed_forward()


class _Student:
    """One pruned model on its way: the layers it has so far, and its hidden states."""

    def __init__(
        self,
        dense: TrimtabForSequenceClassification,
        gates: Gates,
        hidden: list[torch.Tensor],
        tuning: Tuning,
    ) -> None:
        self._dense, self._hidden, self._tuning = dense, hidden, tuning
        self._heads, self._filters = list(gates.heads), list(gates.filters)
        self._layers: list[ElasticLayer] = []
        self._inner: list[torch.Tensor] = []
        self._columns: torch.Tensor | None = None
        self._is_tunable = True

    def enter(self, index: int) -> None:
        """Takes up a layer: cut to size at once, or whole until its units are chosen again."""
        self._index = index
        config, source = self._dense.config, self._dense.encoder_layers[index]
        if self._tuning.remeasure:
            self._layer = cut_layer(config, source, None, None)
        else:
            self._layer = cut_layer(config, source, self._heads[index], self._filters[index])
        self._system = NormalEquations(self._layer.attention_out)

    def see_attention(
        self,
        place: int,
        key: torch.Tensor | None,
        goal: torch.Tensor,
        real: torch.Tensor,
        first_only: bool,
    ) -> None:
        """Adds what this batch's tokens say about the attention's projection."""
        context = self._layer.context(self._hidden[place], key, first_only)
        if first_only:
            self._hidden[place] = self._hidden[place][:, :1]
        self._system.add(context[real], (goal - self._hidden[place])[real])
        self._inner.append(context)

    def leave_attention(self) -> None:
        """Fits the attention's projection, and moves every batch past it."""
        if self._tuning.remeasure:
            kept = self._choose(self._heads, self._layer.head_dim)
            self._layer = cut_layer(self._dense.config, self._layer, kept, None)
        layer = self._layer
        self._fit(layer.attention_out, layer.head_dim)
        for place, context in enumerate(self._taken()):
            output = layer.attention_output(self._hidden[place], context)
            self._hidden[place] = layer.attention_norm(output)
        self._system = NormalEquations(layer.down)

    def see_feed_forward(self, place: int, goal: torch.Tensor, real: torch.Tensor) -> None:
        """Adds what this batch's tokens say about the feed-forward's projection."""
        attended = self._hidden[place]
        active = self._layer.activations(attended)
        self._system.add(active[real], (goal - attended)[real])
        self._inner.append(active)

    def leave_feed_forward(self) -> None:
        """Fits the feed-forward's projection, and moves every batch past the finished layer."""
        if self._tuning.remeasure:
            kept = self._choose(self._filters, 1)
            self._layer = cut_layer(self._dense.config, self._layer, None, kept)
        layer = self._layer
        self._fit(layer.down, 1)
        for place, active in enumerate(self._taken()):
            output = layer.feed_forward_output(self._hidden[place], active)
            self._hidden[place] = layer.output_norm(output)
        self._layers.append(layer)

    def _taken(self) -> Iterator[torch.Tensor]:
        """Gives what was held of every batch, once, and lets go of it; chosen units only."""
        held, self._inner = self._inner, []
        for inner in held:
            yield inner if self._columns is None else inner[..., self._columns]
        self._columns = None

    def finished(self) -> TrimtabForSequenceClassification:
        """Puts the layers into a model of their widths."""
        model = slice_model(self._dense, Gates(self._heads, self._filters))
        for target, layer in zip(model.encoder_layers, self._layers, strict=True):
            target.load_state_dict(layer.state_dict())
        return model

    def _choose(self, gates: list[torch.Tensor], width: int) -> torch.Tensor:
        old = gates[self._index]
        kept = choose_units(self._system, width, int(old.sum()), self._tuning.strength)
        if kept is None:
            kept, self._is_tunable = old.bool().to(self._system.weight.device), False
        self._columns = torch.nonzero(kept.repeat_interleave(width)).flatten()
        self._system.keep(self._columns)
        self._columns = self._columns.to(old.device)
        gates[self._index] = kept.to(old)
        return gates[self._index]

    def _fit(self, projection: torch.nn.Linear, width: int) -> None:
        if not self._is_tunable or projection.in_features == 0:
            return
        weight = fitted(self._system, width, self._tuning)
        if weight is None:
            self._is_tunable = False
        else:
            projection.weight.copy_(weight)


def fitted(system: NormalEquations, width: int, tuning: Tuning) -> torch.Tensor | None:
    """Gives the new weight of a projection, or None where it cannot be trusted."""
    if tuning.kind == "projection":
        return system.projection(tuning.strength)
    factors = system.scales(width, tuning.strength)
    return None if factors is None else system.weight * factors.repeat_interleave(width)


def _embed(model: TrimtabForSequenceClassification, batches: Batches) -> list[Any]:
    return [model.embeddings(b["input_ids"], b.get("token_type_ids")) for b in batches]
