"""From gradients to sliced models: search, rearrangement, tuning; each kept only where it helps."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from trimtab_strategies.base import PRICES, Calibration, Progress, Value, Variant
from trimtab_strategies.cost import (
    EncoderShape,
    LengthHistogram,
    filter_macs,
    head_macs,
    total_macs,
)
from trimtab_strategies.elastic import Gates, TrimtabForSequenceClassification
from trimtab_strategies.fisher._guard import Guard, by_loss, fitted_rows, rows_at_once
from trimtab_strategies.fisher._priced_search import Masks, PricedSearch
from trimtab_strategies.fisher._rearrange import rearrange, shrunk
from trimtab_strategies.fisher._search import Floats, search_mask
from trimtab_strategies.fisher._statistics import (
    BATCH_SIZE,
    Kind,
    block_of,
    gate_gradients,
    importance_of,
)
from trimtab_strategies.fisher._tuning import Tuning, tune
from trimtab_strategies.fisher.prices import Prices
from trimtab_strategies.slicing import shape_of, slice_model

TOKENS_AT_ONCE = 2048
"""Tokens of a tuning batch: enough to keep a processor busy, few enough to fit its caches."""
TOKENS_BACKWARD = 4096
"""Tokens of a gradient batch: some 3 GB for BERT-base, by what two of its layers took."""
TOKENS_PER_UNKNOWN, LEAST_ROWS = 8, 384
"""How much tuning looks at. Every token is an equation for each row of a projection, with as many
unknowns as the widest sub-layer has inputs; twice as many tokens brought the held-out loss of TREC
at 30 % down by a tenth at most. The last layer has one equation a row of data."""


def measure(
    model: TrimtabForSequenceClassification,
    calibration: Calibration,
    choices: Mapping[str, Value],
    progress: Progress,
) -> dict[str, torch.Tensor]:
    """Takes the gradients that ``prune`` starts from, on the rows that are not held back."""
    # A backward pass keeps everything: with long texts, fewer rows have to do.
    batch_size = min(BATCH_SIZE, rows_at_once(calibration.histogram, TOKENS_BACKWARD))
    batches = calibration.batches(_fitted(calibration, choices), batch_size)
    return gate_gradients(model, batches, str(choices["importance"]), progress)


def prune(
    model: TrimtabForSequenceClassification,
    calibration: Calibration,
    choices: Mapping[str, Value],
    statistics: Mapping[str, torch.Tensor],
    ladder: Sequence[float],
    progress: Progress,
) -> Iterator[Variant]:
    """Yields one sliced and, if chosen, tuned model for each rung of the ladder.

    No stage may raise the loss on held-back rows: where one does, what was before it stays. Where
    a rung has several masks, all are tuned before one is chosen: until then, the loss mostly tells
    how much of the last layer is left, which is what tuning makes up for best.
    """
    guard = Guard(model, calibration, int(choices["calibration"]))
    masks = []
    for place, rung in enumerate(ladder):
        progress("choosing", place, len(ladder))
        masks.append(_find_gates(model, calibration, choices, statistics, rung, guard))
    best: dict[int, _Student] = {}
    for nth in range(max(map(len, masks), default=0)):
        here = {place: own[nth] for place, own in enumerate(masks) if nth < len(own)}
        best |= _round(model, calibration, choices, here, best, guard, progress)
    for place, rung in enumerate(ladder):
        chosen = best.pop(place)
        notes = {**_notes(chosen.model), "undone": chosen.undone}
        yield Variant(chosen.model, {**choices, "constraint": rung}, notes)


@dataclass(frozen=True)
class _Student:
    model: TrimtabForSequenceClassification
    undone: list[str]
    loss: float


def _round(
    model: TrimtabForSequenceClassification,
    calibration: Calibration,
    choices: Mapping[str, Value],
    masks: Mapping[int, Gates],
    before: Mapping[int, _Student],
    guard: Guard,
    progress: Progress,
) -> dict[int, _Student]:
    """Tunes one mask of each rung and gives the best students so far; the others are let go."""
    best = {}
    tuned = _tuned(model, calibration, choices, list(masks.values()), progress)
    for (place, gates), better in zip(masks.items(), tuned, strict=True):
        undone = [] if better is None else ["tuning"]
        made = [(slice_model(model, gates), undone), *([] if better is None else [(better, [])])]
        every = [_Student(one, left, guard.loss(one)) for one, left in made]
        every = [*([before[place]] if place in before else []), *every]
        best[place] = min(every, key=lambda one: by_loss(one.loss))
    return best


def _tuned(
    model: TrimtabForSequenceClassification,
    calibration: Calibration,
    choices: Mapping[str, Value],
    masks: Sequence[Gates],
    progress: Progress,
) -> Sequence[TrimtabForSequenceClassification | None]:
    kind = str(choices["tuning"])
    if kind == "none":
        return [None] * len(masks)
    batches = _tuning_batches(shape_of(model.config), calibration, _fitted(calibration, choices))
    strength = float(choices["ridge" if kind == "projection" else "damping"])
    how = Tuning(kind, strength, remeasure=choices.get("remeasure", False) is True)
    return tune(model, masks, batches, how, progress)


def _tuning_batches(
    shape: EncoderShape, calibration: Calibration, n_rows: int
) -> Sequence[Mapping[str, torch.Tensor]]:
    """Gives batches of as many of the rows as are enough to tune with, by their real length."""
    all_rows = calibration.batches(n_rows, TOKENS_AT_ONCE)
    mean_tokens = sum(int(batch["attention_mask"].sum()) for batch in all_rows) / n_rows
    unknowns = max(*(count * shape.head_dim for count in shape.heads), *shape.filters)
    enough = max(LEAST_ROWS, math.ceil(TOKENS_PER_UNKNOWN * unknowns / mean_tokens))
    batch_size = max(BATCH_SIZE, round(TOKENS_AT_ONCE / mean_tokens))
    return calibration.batches(min(enough, n_rows), batch_size)


def _fitted(calibration: Calibration, choices: Mapping[str, Value]) -> int:
    return fitted_rows(min(int(choices["calibration"]), calibration.n_rows))


def _find_gates(
    model: TrimtabForSequenceClassification,
    calibration: Calibration,
    choices: Mapping[str, Value],
    statistics: Mapping[str, torch.Tensor],
    rung: float,
    guard: Guard,
) -> list[Gates]:
    """Gives the masks of a rung; more than one where time is what counts."""
    shape, like = shape_of(model.config), model.head.out.weight
    weight = float(choices["head_weight"])
    heads = [weight * one for one in _importance(statistics, "heads", shape)]
    filters = _importance(statistics, "filters", shape)

    def by_flops(share: float) -> Masks:
        return _within_flops(heads, filters, shape, calibration, share)

    masks = [by_flops(rung)]
    if PRICES in choices:
        search = PricedSearch(heads, filters, Prices.parse(str(choices[PRICES])))
        masks = search.candidates(rung, by_flops)
    found = [_gates(one, like) for one in masks]
    if not choices["rearrange"]:
        return found
    return [_rearranged(model, gates, statistics, guard) for gates in found]


def _gates(masks: Masks, like: torch.Tensor) -> Gates:
    heads, filters = ([torch.from_numpy(mask).to(like) for mask in kind] for kind in masks)
    return Gates(heads, filters)


def _within_flops(
    heads: Sequence[Floats],
    filters: Sequence[Floats],
    shape: EncoderShape,
    calibration: Calibration,
    rung: float,
) -> Masks:
    head_cost, filter_cost = unit_costs(shape, calibration.histogram)
    budget = int(rung * total_macs(shape, calibration.histogram))
    flat = np.concatenate(heads), np.concatenate(filters)
    mask = search_mask(*flat, head_cost, filter_cost, budget)
    return (
        np.split(mask.heads, np.cumsum(shape.heads)[:-1]),
        np.split(mask.filters, np.cumsum(shape.filters)[:-1]),
    )


def _rearranged(
    model: TrimtabForSequenceClassification,
    gates: Gates,
    statistics: Mapping[str, torch.Tensor],
    guard: Guard,
) -> Gates:
    """Chooses heads again, then filters, each only if that does not raise the held-back loss.

    The objective adds up first derivatives. For filters that holds; a whole head is too large a
    step, and cancelling heads were seen to take a third off the accuracy.
    """
    best, loss = gates, guard.loss(slice_model(model, gates))
    kinds: tuple[Kind, ...] = ("heads", "filters")
    for kind in kinds:
        again = [
            rearrange(shrunk(block_of(statistics, kind, layer, len(gate))), gate.cpu().bool()).to(
                gate
            )
            for layer, gate in enumerate(getattr(best, kind))
        ]
        candidate = replace(best, **{kind: again})
        new_loss = guard.loss(slice_model(model, candidate))
        if new_loss <= loss:
            best, loss = candidate, new_loss
    return best


def unit_costs(shape: EncoderShape, histogram: LengthHistogram) -> tuple[int, int]:
    """Gives the MACs of one head and of one filter, summed over a workload's samples; exact."""
    lengths = histogram.counts.items()
    head = sum(head_macs(shape.hidden_size, shape.head_dim, n) * count for n, count in lengths)
    return head, sum(filter_macs(shape.hidden_size, n) * count for n, count in lengths)


def _importance(
    statistics: Mapping[str, torch.Tensor], kind: Kind, shape: EncoderShape
) -> list[Floats]:
    sizes = getattr(shape, kind)
    return [importance_of(statistics, kind, layer, n).numpy() for layer, n in enumerate(sizes)]


def _notes(model: TrimtabForSequenceClassification) -> dict[str, Any]:
    config = model.config
    return {"heads": config.heads_per_layer, "filters": config.filters_per_layer}
