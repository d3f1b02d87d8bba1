"""Measures how attention spreads over tokens, and fine-tunes a model that keeps a share of them.

Legend as in ``_profile`` and:
    received [B, n]  attention that each token receives: summed over queries, averaged over heads
    E_l              mean over samples of the median over a sample's tokens of what they receive

Received attention adds up to the number of tokens, so that its mean is 1; a median far below tells
that few tokens receive most of it. Of an even number of tokens, the median is the lower one of the
two in the middle, as torch has it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch

from trimtab_strategies.acc._profile import keep_shares
from trimtab_strategies.acc.published import speedup
from trimtab_strategies.base import Calibration, Progress, Value, Variant
from trimtab_strategies.elastic import TrimtabForSequenceClassification
from trimtab_strategies.fine_tuning import (
    BATCH_SIZE,
    Batch,
    fine_tune_weights,
    rows_to_count,
    tokens_left,
    with_token_rule,
)


def measure(
    model: TrimtabForSequenceClassification,
    calibration: Calibration,
    choices: Mapping[str, Value],
    progress: Progress,
) -> dict[str, torch.Tensor]:
    """Gives ``medians``: E_l of every layer of the model as it is, [L]; 0 for one without heads."""
    n_rows = min(int(choices["calibration"]), calibration.n_rows)
    batches = calibration.batches(n_rows, BATCH_SIZE)
    was_training, totals = model.training, [0.0] * len(model.encoder_layers)
    model.eval()
    try:
        for done, batch in enumerate(batches):
            progress("measuring", done, len(batches))
            for layer, received in received_by_layer(model, batch):
                totals[layer] += float(medians_of(received, batch).double().sum())
    finally:
        model.train(was_training)
    return {"medians": torch.tensor(totals, dtype=torch.float64) / n_rows}


@torch.no_grad()
def received_by_layer(
    model: TrimtabForSequenceClassification, batch: Batch
) -> Iterator[tuple[int, torch.Tensor]]:
    """Yields each layer that has heads, with what its tokens receive, [B, n]; nothing is pruned."""
    live = batch["attention_mask"].bool()
    key = model.key_mask(live)
    hidden = model.embeddings(batch["input_ids"], batch.get("token_type_ids"))
    for index, layer in enumerate(model.encoder_layers):
        if layer.n_heads == 0:
            hidden = layer(hidden, key)
            continue
        context, received = layer.attend_and_weigh(*layer.asked(hidden), key, live)
        hidden = layer.fed_forward(layer.attended(hidden, context))
        yield index, received


def medians_of(received: torch.Tensor, batch: Batch) -> torch.Tensor:
    """Gives each sample's (lower) median over its real tokens, [B]."""
    is_padding = ~batch["attention_mask"].bool()
    return received.masked_fill(is_padding, torch.nan).nanmedian(dim=1).values


def shares_of(medians: Sequence[float], heads: Sequence[int]) -> list[float]:
    """Gives the keep share of every layer; one without heads keeps all, and is not fitted."""
    knows = [layer for layer, n_heads in enumerate(heads) if n_heads > 0]
    shares = [1.0] * len(heads)
    fitted = keep_shares([medians[layer] for layer in knows]) if knows else []
    for layer, share in zip(knows, fitted, strict=True):
        shares[layer] = share
    return shares


def keep_tokens(
    model: TrimtabForSequenceClassification,
    calibration: Calibration,
    choices: Mapping[str, Value],
    statistics: Mapping[str, torch.Tensor],
    progress: Progress,
) -> Variant:
    """Gives a copy of ``model`` that keeps the shares its attention supports, fine-tuned so.

    Notes: ``medians`` E_l, ``shares`` α_l, ``speedup`` by equation 7, and under ``tokens_left`` the
    share of tokens left after each layer at the ``start`` and at the ``end``.
    """
    medians = statistics["medians"].tolist()
    shares = shares_of(medians, model.config.heads_per_layer)
    student = with_token_rule(model, {"kind": "share", "shares": shares}, {})
    batches, counted = (
        calibration.batches(calibration.n_rows, BATCH_SIZE),
        rows_to_count(calibration),
    )
    left = {"start": tokens_left(student, counted, progress)}
    if epochs := int(choices["epochs"]):
        fine_tune_weights(student, batches, float(choices["lr"]), epochs, progress)
    left["end"] = tokens_left(student, counted, progress)
    notes: dict[str, Any] = {
        "medians": medians,
        "shares": shares,
        "speedup": speedup(shares),
        "tokens_left": left,
    }
    return Variant(student, dict(choices), notes)
