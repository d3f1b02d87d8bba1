"""From gradients to sliced models: search, rearrangement, slicing, tuning."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch

from trimtab_strategies.base import Calibration, Progress, Value, Variant
from trimtab_strategies.cost import (
    EncoderShape,
    LengthHistogram,
    filter_macs,
    head_macs,
    total_macs,
)
from trimtab_strategies.elastic import Gates, TrimtabForSequenceClassification
from trimtab_strategies.fisher._rearrange import rearrange
from trimtab_strategies.fisher._search import search_mask
from trimtab_strategies.fisher._statistics import BATCH_SIZE, gradients_of, gram, importance
from trimtab_strategies.fisher._tuning import tune_scales
from trimtab_strategies.slicing import shape_of, slice_model


def prune(
    model: TrimtabForSequenceClassification,
    calibration: Calibration,
    choices: Mapping[str, Value],
    statistics: Mapping[str, torch.Tensor],
    ladder: Sequence[float],
    progress: Progress,
) -> Iterator[Variant]:
    """Yields one sliced and, if chosen, tuned model for each rung of the ladder."""
    masks = [_find_gates(model, calibration, choices, statistics, rung) for rung in ladder]
    students = [slice_model(model, gates) for gates in masks]
    if choices["tuning"] == "scale":
        batches = calibration.batches(int(choices["calibration"]), BATCH_SIZE)
        tune_scales(model, students, batches, float(choices["damping"]), progress)
    for rung, student in zip(ladder, students, strict=True):
        yield Variant(student, {**choices, "constraint": rung}, _notes(student))


def _find_gates(
    model: TrimtabForSequenceClassification,
    calibration: Calibration,
    choices: Mapping[str, Value],
    statistics: Mapping[str, torch.Tensor],
    rung: float,
) -> Gates:
    shape = shape_of(model.config)
    heads = gradients_of(statistics, "heads", shape.n_layers)
    filters = gradients_of(statistics, "filters", shape.n_layers)
    head_cost, filter_cost = unit_costs(shape, calibration.histogram)
    mask = search_mask(
        _flat_importance(heads),
        _flat_importance(filters),
        head_cost,
        filter_cost,
        int(rung * total_macs(shape, calibration.histogram)),
    )
    kept_heads = torch.split(torch.from_numpy(mask.heads), list(shape.heads))
    kept_filters = torch.split(torch.from_numpy(mask.filters), list(shape.filters))
    if choices["rearrange"]:
        kept_heads = _rearranged(heads, kept_heads)
        kept_filters = _rearranged(filters, kept_filters)
    like = model.head.out.weight
    return Gates([kept.to(like) for kept in kept_heads], [kept.to(like) for kept in kept_filters])


def unit_costs(shape: EncoderShape, histogram: LengthHistogram) -> tuple[int, int]:
    """Gives the MACs of one head and of one filter, summed over a workload's samples; exact."""
    lengths = histogram.counts.items()
    head = sum(head_macs(shape.hidden_size, shape.head_dim, n) * count for n, count in lengths)
    return head, sum(filter_macs(shape.hidden_size, n) * count for n, count in lengths)


def _flat_importance(gradients: Sequence[torch.Tensor]) -> np.ndarray[Any, np.dtype[np.float64]]:
    return torch.cat([importance(layer) for layer in gradients]).numpy()


def _rearranged(
    gradients: Sequence[torch.Tensor], kept: Sequence[torch.Tensor]
) -> tuple[torch.Tensor, ...]:
    return tuple(rearrange(gram(g), mask) for g, mask in zip(gradients, kept, strict=True))


def _notes(model: TrimtabForSequenceClassification) -> dict[str, Any]:
    config = model.config
    return {"heads": config.heads_per_layer, "filters": config.filters_per_layer}
