"""The two stages of learned token pruning.

Soft: what a layer puts out is scaled by σ((s − Δ_l)/T), s a token's score, and weights and
thresholds learn together from cross-entropy + λ·Σ_l (mean of that factor over real tokens). This is
the published code's form of the loss; the paper sums over tokens and divides by L, which makes λ
about n/L times as strong. Hard: tokens below Δ_l are gone, and the weights alone learn.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from trimtab_strategies.base import Calibration, Progress, Value, Variant
from trimtab_strategies.elastic import Softness, ThresholdRule, TrimtabForSequenceClassification
from trimtab_strategies.fine_tuning import (
    BATCH_SIZE,
    Batch,
    Group,
    fine_tune,
    fine_tune_weights,
    rows_to_count,
    task_loss,
    task_weights,
    tokens_left,
    with_token_rule,
)
from trimtab_strategies.ltp._thresholds import linear_thresholds

REFERENCE_LENGTH = 128
"""What the ``fixed`` normaliser divides by: the padded length behind the published thresholds."""


def prune_tokens(
    model: TrimtabForSequenceClassification,
    calibration: Calibration,
    choices: Mapping[str, Value],
    progress: Progress,
) -> Variant:
    """Gives a copy of ``model`` with thresholds, trained as ``choices`` say.

    Notes: ``thresholds`` of all layers, and under ``tokens_left`` the share of tokens left after
    each layer at the ``start``, after the ``soft`` stage and at the ``end``. Nothing rewards
    sparsity in the hard stage, and the share may rise again there.
    """
    student = _with_thresholds(model, choices)
    batches, counted = (
        calibration.batches(calibration.n_rows, BATCH_SIZE),
        rows_to_count(calibration),
    )
    soft, hard = _epochs(choices)
    total = (soft + hard) * len(batches)
    left = {"start": tokens_left(student, counted, progress)}
    if soft:
        _learn(student, batches, choices, soft, _part_of(progress, 0, total))
        left["soft"] = tokens_left(student, counted, progress)
    if hard:
        counting = _part_of(progress, soft * len(batches), total)
        fine_tune_weights(student, batches, float(choices["lr"]), hard, counting)
        left["end"] = tokens_left(student, counted, progress)
    notes: dict[str, Any] = {
        "thresholds": rule_of(student).thresholds().tolist(),
        "tokens_left": {**left, "end": list(left.values())[-1]},
    }
    return Variant(student, dict(choices), notes)


def rule_of(model: TrimtabForSequenceClassification) -> ThresholdRule:
    """Gives the token rule of a model whose rule is known to have thresholds."""
    rule = model.token_rule
    assert isinstance(rule, ThresholdRule)
    return rule


def _with_thresholds(
    model: TrimtabForSequenceClassification, choices: Mapping[str, Value]
) -> TrimtabForSequenceClassification:
    settings = {
        "kind": "threshold",
        "normaliser": choices["normaliser"],
        "reference_length": REFERENCE_LENGTH,
    }
    last, n_layers = float(choices["last_threshold"]), len(model.encoder_layers)
    base = torch.tensor(linear_thresholds(last, n_layers))
    return with_token_rule(model, settings, {"base": base, "offset": torch.zeros_like(base)})


def _epochs(choices: Mapping[str, Value]) -> tuple[int, int]:
    """Gives the epochs of the soft and of the hard stage."""
    if choices["thresholds"] == "manual":
        return 0, 0
    soft = int(choices["soft_epochs"]) if choices["thresholds"] == "learned" else 0
    return soft, int(choices["hard_epochs"])


def _learn(
    model: TrimtabForSequenceClassification,
    batches: Sequence[Batch],
    choices: Mapping[str, Value],
    epochs: int,
    progress: Progress,
) -> None:
    """Soft stage: trains thresholds and weights."""
    weight, temperature = float(choices["lambda"]), float(choices["temperature"])
    groups = [
        Group(task_weights(model), float(choices["lr"])),
        Group([rule_of(model).offset], float(choices["threshold_lr"]), decays=False),
    ]

    def loss_of(batch: Batch) -> torch.Tensor:
        softness = Softness(temperature, [])
        loss = task_loss(model, batch, softness)
        # A layer without heads has no soft mask, and counts for nothing.
        return loss + weight * torch.stack([loss.new_zeros(()), *softness.kept]).sum()

    fine_tune(model, batches, loss_of, groups, epochs, progress)


def _part_of(progress: Progress, before: int, total: int) -> Progress:
    """Counts a stage's batches within those of both."""
    return lambda stage, done, _: progress(stage, before + done, total)
