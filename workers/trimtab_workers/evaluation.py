"""What a classifier says about rows, and how good that is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from trimtab_workers.batching import collate, length_sorted_batches
from trimtab_workers.data import Encoded
from trimtab_workers.errors import ModelError, WorkerInputError
from trimtab_workers.metrics import metric_value

Progress = Callable[[str, int, int], None]
"""Called with the name of a stage, how much of it is done, and how much there is."""


@dataclass(frozen=True, eq=False)
class Evaluation:
    """A measured metric.

    Attributes:
        metric: Higher is better.
        n: Rows it was measured on.
        logits: `(n, classes)`, in the order of the rows.
    """

    metric: float
    n: int
    logits: NDArray[np.float32]


def predict(
    model: Any,
    encoded: Encoded,
    *,
    pad_token_id: int,
    device: torch.device,
    batch_size: int = 32,
    progress: Progress | None = None,
) -> NDArray[np.float32]:
    """Runs a classifier over rows.

    Args:
        model: Takes `input_ids`, `attention_mask` and, for pairs, `token_type_ids`, and returns
            `.logits`. It is moved to the device and left in evaluation mode.
        encoded: The rows; any order, the result has the same.
        pad_token_id: What batches are padded with.
        device: Where to compute.
        batch_size: Rows at once.
        progress: Told `"evaluating"` and the number of rows done after each batch.

    Returns:
        Logits `(rows, classes)`.

    Raises:
        ModelError: Some logits are not finite.
        WorkerInputError: There are no rows.
    """
    if len(encoded) == 0:
        raise WorkerInputError("a model can only be evaluated on at least one row, got none")
    model.to(device).eval()
    batches = length_sorted_batches(encoded, batch_size)
    parts: list[NDArray[np.float32]] = []
    done = 0
    with torch.inference_mode():
        for rows in batches:
            inputs = collate(encoded, rows, pad_token_id, device)
            del inputs["labels"]
            parts.append(model(**inputs).logits.float().cpu().numpy())
            done += len(rows)
            if progress:
                progress("evaluating", done, len(encoded))
    logits = np.empty((len(encoded), parts[0].shape[1]), dtype=np.float32)
    logits[np.concatenate(batches)] = np.concatenate(parts)
    wrong = int((~np.isfinite(logits)).any(axis=1).sum())
    if wrong:
        raise ModelError(
            f"logits must be finite, but the model's are not in {wrong} of {len(logits)} rows"
        )
    return logits


def evaluate(
    model: Any,
    encoded: Encoded,
    *,
    metric: str,
    pad_token_id: int,
    device: torch.device,
    batch_size: int = 32,
    progress: Progress | None = None,
) -> Evaluation:
    """Measures a classifier on rows with one of the metrics a task can name.

    Arguments are those of `predict`; ties between classes go to the lower id.

    Raises:
        ModelError: Some logits are not finite.
        WorkerInputError: The metric is unknown, or there are no rows.
    """
    logits = predict(
        model,
        encoded,
        pad_token_id=pad_token_id,
        device=device,
        batch_size=batch_size,
        progress=progress,
    )
    value = metric_value(metric, logits.argmax(axis=1), encoded.labels, logits.shape[1])
    return Evaluation(metric=value, n=len(encoded), logits=logits)
