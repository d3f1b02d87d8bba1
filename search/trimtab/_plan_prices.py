"""What a run takes of time and disk, estimated before anything is trained."""

from __future__ import annotations

import time

from trimtab.controller._ranking import work_of
from trimtab.controller._underway import MOST_PREFIXES
from trimtab.spec import Spec
from trimtab_strategies import registry
from trimtab_strategies.base import default_choices
from trimtab_workers.jobs import Survey

STATISTICS_BYTES, TILE = 4, 256
FRONTIER_MODELS = 8
"""About how many models of a study lie on its frontier, and so keep their weights."""


def trial_passes(spec: Spec, survey: Survey, rungs: tuple[float, ...]) -> float:
    """Prices the dearest recipe of one step, in forward passes of the baseline over a row.

    Gradients cost about three forward passes, the dense teacher one, and each rung two at its own
    size, with one more over the search rows.
    """
    rows = min(_most_rows(spec), survey.n_train)
    retraining_free = rows * (3 + 1 + 2 * sum(rungs)) + survey.n_search * sum(rungs)
    strategies = [registry.get(entry.name) for entry in spec.search.strategies]
    training = max(strategy.passes(default_choices(strategy)) for strategy in strategies)
    part = work_of([share.ratio for share in spec.search.looks or ()])
    return max(retraining_free, part * (training * survey.n_train + survey.n_search))


def _most_rows(spec: Spec) -> int:
    """Gives the largest number of training rows that a recipe of this spec may look at."""
    return max(
        (
            int(value)
            for entry in spec.search.strategies
            for choice in registry.get(entry.name).choices
            if choice.counts_rows
            for value in entry.pins.get(choice.name, choice.values or ())
        ),
        default=0,
    )


def finetune_passes(spec: Spec, survey: Survey) -> float:
    """Prices fine-tuning likewise: a step forward and back costs about three passes."""
    return 0.0 if survey.has_head else 3.0 * spec.finetune.epochs * survey.n_train


def flops_per_second(survey: Survey) -> float:
    """Times a feed-forward product of the model's own size; the best of many, on a busy machine."""
    import torch

    tokens = 32 * max(1, round(survey.histogram.mean))
    left = torch.rand(tokens, survey.shape.hidden_size)
    right = torch.rand(survey.shape.hidden_size, max(survey.shape.filters))
    best_s, started = float("inf"), time.perf_counter()
    while time.perf_counter() - started < 0.3 or best_s == float("inf"):
        before = time.perf_counter()
        torch.mm(left, right)
        best_s = min(best_s, time.perf_counter() - before)
    # A whole encoder reaches about half of what its largest product alone does.
    return 0.5 * 2 * left.numel() * right.shape[1] / best_s


def disk_bytes(survey: Survey) -> int:
    """Sizes the baseline, a frontier of models, those that others start from, and statistics."""
    widths = (*survey.shape.heads, *survey.shape.filters)
    # Of a symmetric matrix about half is kept, in tiles.
    statistics = sum(width * (width + TILE) // 2 for width in widths) * STATISTICS_BYTES
    return survey.model_bytes * (1 + FRONTIER_MODELS + MOST_PREFIXES) + 4 * statistics
