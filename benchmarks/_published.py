"""The published recipe of retraining-free Fisher pruning, written plainly, to compare with.

As its authors' code does it, faults included: gradients of the mean loss of unsorted batches of 32
(so N / 32 vectors); a search over the number of heads; rearrangement of heads and filters by the
full block; tuning by one factor a head and filter towards the model that the same search gives at
the square root of the constraint, layer by layer on cached inputs, each layer run three times for
teacher and student (both masked, at full width), by LSMR with damp 1 on the normal equations. Two
of their faults are left out: a mask over the budget, and a limit of iterations that stops tuning.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from scipy.sparse.linalg import lsmr

BATCH_SIZE = 32
LARGEST_FACTOR = 10.0
Batch = Mapping[str, torch.Tensor]


def prune(model: Any, batches: Sequence[Batch], histogram: Any, constraint: float) -> Any:
    """Gives the model that the published recipe makes at ``constraint`` of the FLOPs."""
    gradients = batch_gradients(model, batches)
    return finish(model, batches, histogram, constraint, gradients)


def finish(
    model: Any, batches: Sequence[Batch], histogram: Any, constraint: float, gradients: Any
) -> Any:
    """Everything after the gradients, which several constraints can share."""
    from trimtab_strategies.slicing import slice_model

    teacher_gates = _search(model, histogram, math.sqrt(constraint), gradients)
    gates = _search(model, histogram, constraint, gradients)
    _rearrange(gates, gradients)
    _tune(model, teacher_gates, gates, batches)
    return slice_model(model, gates)


# --- gradients and masks


def batch_gradients(model: Any, batches: Sequence[Batch]) -> dict[str, list[torch.Tensor]]:
    """Gives, a layer, one gradient of the mean loss for each batch: ``[batches, K]``."""
    from trimtab_strategies.slicing import ones_like_gates

    model.eval().requires_grad_(False)
    gates = ones_like_gates(model)
    leaves = [gate.requires_grad_() for gate in (*gates.heads, *gates.filters)]
    rows = []
    for batch in batches:
        rows.append(torch.autograd.grad(model(**batch, gates=gates).loss, leaves))
    stacked = [torch.stack(column) for column in zip(*rows, strict=True)]
    n_layers = len(gates.heads)
    return {"heads": stacked[:n_layers], "filters": stacked[n_layers:]}


def _search(model: Any, histogram: Any, constraint: float, gradients: Any) -> Any:
    """Keeps the n most important heads and as many filters as are left, for the best n."""
    from trimtab_strategies.cost import filter_macs, head_macs
    from trimtab_strategies.elastic import Gates
    from trimtab_strategies.slicing import shape_of

    shape, n = shape_of(model.config), round(histogram.mean)
    head_cost = head_macs(shape.hidden_size, shape.head_dim, n)
    filter_cost = filter_macs(shape.hidden_size, n)
    heads = torch.cat([g.square().sum(dim=0) for g in gradients["heads"]])
    filters = torch.cat([g.square().sum(dim=0) for g in gradients["filters"]])
    budget = constraint * (len(heads) * head_cost + len(filters) * filter_cost)
    best, lost_least = None, math.inf
    for n_heads in range(1, len(heads) + 1):
        if n_heads * head_cost > budget:  # their code goes on here, over the budget
            break
        n_filters = min(int((budget - n_heads * head_cost) / filter_cost), len(filters))
        kept_heads, kept_filters = _top(heads, n_heads), _top(filters, n_filters)
        lost = float(heads[~kept_heads].sum() + filters[~kept_filters].sum())
        if lost < lost_least:
            best, lost_least = (kept_heads, kept_filters), lost
    assert best is not None, "the budget must have room for one head"
    return Gates(
        [part.float() for part in best[0].split(list(shape.heads))],
        [part.float() for part in best[1].split(list(shape.filters))],
    )


def _top(importance: torch.Tensor, count: int) -> torch.Tensor:
    kept = torch.zeros(len(importance), dtype=torch.bool)
    kept[importance.argsort(descending=True)[:count]] = True
    return kept


def _rearrange(gates: Any, gradients: Any) -> None:
    """Visits kept units in ascending importance: each joins the pruned, the best one leaves."""
    for kind in ("heads", "filters"):
        for gate, g in zip(getattr(gates, kind), gradients[kind], strict=True):
            fisher = g.T @ g
            pruned = torch.nonzero(gate == 0).flatten().tolist()
            kept = torch.nonzero(gate).flatten()
            if not pruned:
                continue
            together = fisher[:, pruned].sum(dim=1)
            for unit in kept[fisher.diagonal()[kept].argsort()].tolist():
                pruned.append(unit)
                together += fisher[:, unit]
                members = torch.tensor(pruned)
                gain = 2 * together[members] - fisher.diagonal()[members]
                back = pruned.pop(int(gain.argmax()))
                together -= fisher[:, back]
            gate.fill_(1)
            gate[pruned] = 0


# --- tuning


@dataclass
class _Masked:
    """A model that runs at full width, its heads and filters multiplied by gates."""

    model: Any
    gates: Any
    hidden: list[torch.Tensor]

    def run(self, index: int, place: int, key: torch.Tensor | None) -> _Run:
        """Runs one layer whole, on the cached inputs of one batch."""
        layer, hidden = self.model.encoder_layers[index], self.hidden[place]
        context = layer.gate_context(layer.context(hidden, key), self.gates.heads[index])
        after_attention = layer.attention_output(hidden, context)
        attended = layer.attention_norm(after_attention)
        active = layer.activations(attended) * self.gates.filters[index]
        output = layer.feed_forward_output(attended, active)
        return _Run(hidden, context, after_attention, attended, active, output)


@dataclass(frozen=True)
class _Run:
    hidden: torch.Tensor
    context: torch.Tensor
    after_attention: torch.Tensor
    attended: torch.Tensor
    active: torch.Tensor
    output: torch.Tensor


@torch.no_grad()
def _tune(model: Any, dense_gates: Any, gates: Any, batches: Sequence[Batch]) -> None:
    """Changes ``gates``; as in the authors' code, masks stay masks until the end."""
    masks = [batch["attention_mask"].bool() for batch in batches]
    keys = [model.key_mask(mask) for mask in masks]
    inputs = [model.embeddings(b["input_ids"], b.get("token_type_ids")) for b in batches]
    teacher, student = _Masked(model, dense_gates, inputs), _Masked(model, gates, list(inputs))
    last = len(model.encoder_layers) - 1
    for index, layer in enumerate(model.encoder_layers):
        if index > 0 and not _tune_heads(teacher, student, index, masks, keys):
            return
        if not _tune_filters(teacher, student, index, masks, keys, cls_only=index == last):
            return
        for walker in (teacher, student):
            runs = (walker.run(index, place, key) for place, key in enumerate(keys))
            walker.hidden = [layer.output_norm(run.output) for run in runs]


def _tune_heads(teacher: _Masked, student: _Masked, index: int, masks: Any, keys: Any) -> bool:
    layer, gate = student.model.encoder_layers[index], student.gates.heads[index]
    width, kept = layer.head_dim, torch.nonzero(gate).flatten().tolist()
    if not kept:
        return True
    matrix = torch.zeros(len(kept) + 1, len(kept) + 1, dtype=torch.float64)
    right = torch.zeros(len(kept) + 1, dtype=torch.float64)
    for place, (mask, key) in enumerate(zip(masks, keys, strict=True)):
        goal = teacher.run(index, place, key).after_attention
        run = student.run(index, place, key)
        spans = [slice(i * width, (i + 1) * width) for i in kept]
        shares = [run.context[..., s] @ layer.attention_out.weight[:, s].T for s in spans]
        columns = torch.stack([*shares, torch.ones_like(goal)], dim=-1)[mask].flatten(0, 1)
        missing = (goal - run.after_attention)[mask].flatten()
        matrix += (columns.T @ columns).double()
        right += (columns.T @ missing).double()
    factors = _solve(matrix, right)
    if factors is None:
        return False
    gate[kept] *= factors[:-1]  # the offset is fitted and thrown away
    return True


def _tune_filters(
    teacher: _Masked, student: _Masked, index: int, masks: Any, keys: Any, cls_only: bool
) -> bool:
    layer, gate = student.model.encoder_layers[index], student.gates.filters[index]
    kept = torch.nonzero(gate).flatten()
    if not len(kept):
        return True
    weight = layer.down.weight[:, kept]
    matrix = torch.zeros(len(kept), len(kept), dtype=torch.float64)
    right = torch.zeros(len(kept), dtype=torch.float64)
    for place, (mask, key) in enumerate(zip(masks, keys, strict=True)):
        goal = teacher.run(index, place, key).output
        run = student.run(index, place, key)
        chosen = mask.clone()
        if cls_only:
            chosen[:, 1:] = False
        rows, missing = run.active[chosen][:, kept], (goal - run.output)[chosen]
        matrix += ((rows.T @ rows) * (weight.T @ weight)).double()
        right += ((missing @ weight) * rows).sum(dim=0).double()
    factors = _solve(matrix, right)
    if factors is None:
        return False
    gate[kept] *= factors
    return True


def _solve(matrix: torch.Tensor, right: torch.Tensor) -> torch.Tensor | None:
    """LSMR on the normal equations; the factors, or None where tuning has to stop."""
    found = lsmr(
        matrix.numpy().astype(np.float32),
        right.numpy().astype(np.float32),
        damp=1.0,
        maxiter=5 * len(matrix),
    )
    factors = 1 + torch.from_numpy(found[0]).float()
    if found[1] >= 3 or not bool((factors.abs() <= LARGEST_FACTOR).all()):
        return None
    return factors
