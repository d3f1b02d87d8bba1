"""Whether a stage helps, judged on calibration rows that no stage was fitted on."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch

from trimtab_strategies.base import Calibration
from trimtab_strategies.cost import LengthHistogram
from trimtab_strategies.elastic import TrimtabForSequenceClassification

BATCH_TOKENS = 2048
HELD_BACK_SHARE = 8
MOST_HELD_BACK = 256


def fitted_rows(n_rows: int) -> int:
    """Tells how many of the calibration rows stages are fitted on; the rest is held back."""
    return n_rows - min(n_rows // HELD_BACK_SHARE, MOST_HELD_BACK)


def rows_at_once(histogram: LengthHistogram, tokens: int) -> int:
    """Gives how many rows of the longest kind there is fit in ``tokens``; at least one."""
    return max(1, tokens // max(histogram.counts))


class Guard:
    """The loss that stages must not raise: mean KL from the dense model's predictions.

    Against the dense model and not the labels: that needs no labels, and rows that the model was
    fine-tuned on have labels it knows by heart. With too few rows to hold any back, it looks at
    all of them.
    """

    def __init__(
        self, dense: TrimtabForSequenceClassification, calibration: Calibration, size: int
    ) -> None:
        rows = min(size, calibration.n_rows)
        start = fitted_rows(rows)
        batch_size = rows_at_once(calibration.histogram, BATCH_TOKENS)
        self._batches = calibration.batches(rows, batch_size, start if start < rows else 0)
        self._wanted = [_log_probabilities(dense, batch) for batch in self._batches]

    def loss(self, model: TrimtabForSequenceClassification) -> float:
        """Gives the mean over held-back rows of KL(dense ‖ model), in nats."""
        total, rows = 0.0, 0
        for wanted, batch in zip(self._wanted, self._batches, strict=True):
            got = _log_probabilities(model, batch)
            total += float((wanted.exp() * (wanted - got)).sum())
            rows += len(wanted)
        return total / rows


def by_loss(loss: float) -> tuple[bool, float]:
    """Gives what losses are sorted by; NaN is never the least."""
    return math.isnan(loss), loss


@torch.inference_mode()
def _log_probabilities(
    model: TrimtabForSequenceClassification, batch: Mapping[str, torch.Tensor]
) -> torch.Tensor:
    inputs = {name: tensor for name, tensor in batch.items() if name != "labels"}
    return torch.log_softmax(model(**inputs).logits.float(), dim=-1)
