"""Fine-tunes a classifier and keeps the epoch that did best on held-out rows."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from trimtab_workers._splits import hold_out
from trimtab_workers.batching import collate, length_sorted_batches
from trimtab_workers.data import Encoded
from trimtab_workers.errors import ModelError, WorkerInputError
from trimtab_workers.evaluation import Progress, evaluate
from trimtab_workers.task import Finetune

WEIGHT_DECAY = 0.01
WARM_UP = 0.1
LARGEST_GRADIENT = 1.0


@dataclass(frozen=True)
class FinetuneReport:
    """How a fine-tuning went.

    Attributes:
        held_out: The metric on the held-out rows after each epoch.
        best_epoch: The epoch whose weights the model has now, counted from 1.
        n_held_out: How many rows were held out.
        seconds: Wall-clock time of all of it.
    """

    held_out: tuple[float, ...]
    best_epoch: int
    n_held_out: int
    seconds: float


def finetune(
    model: Any,
    train: Encoded,
    settings: Finetune,
    *,
    metric: str,
    pad_token_id: int,
    seed: int,
    device: torch.device,
    progress: Progress | None = None,
) -> FinetuneReport:
    """Trains a classifier in place: AdamW, linear warm-up and decay, clipped gradients.

    A tenth of the rows, 500 at most, is held out to choose the best epoch; between equals the
    later one wins. On the CPU the same seed gives the same weights. The global random state is
    left as it was, the model in evaluation mode on the device.

    Args:
        model: Takes the tensors of a batch and returns `.logits`.
        train: Rows with their classes.
        settings: Epochs, peak learning rate and rows in a batch.
        metric: What the best epoch is best at.
        pad_token_id: What batches are padded with.
        seed: Of the held-out rows, the batches and dropout.
        device: Where to train.
        progress: Told `"fine-tuning"` and the number of steps done after each step.

    Raises:
        ModelError: Training diverged.
        DataError: There are too few rows to hold any out.
        WorkerInputError: A setting is out of range.
    """
    _check(settings)
    started = time.monotonic()
    kept, held = hold_out(train.labels, seed)
    rows, held_out = train.select(kept), train.select(held)
    model.to(device)
    steps = settings.epochs * math.ceil(len(rows) / settings.batch_size)
    trainer = _Trainer(model, settings, steps, pad_token_id, device, progress)
    scores: list[float] = []
    best: dict[str, Tensor] = {}
    with _seeded(seed, device):
        for epoch in range(settings.epochs):
            trainer.run_epoch(rows, seed=(seed % 2**32, epoch))
            scores.append(
                evaluate(
                    model, held_out, metric=metric, pad_token_id=pad_token_id, device=device
                ).metric
            )
            if scores[-1] == max(scores):
                best = {name: t.detach().cpu().clone() for name, t in model.state_dict().items()}
    model.load_state_dict(best)
    best_epoch = max(range(len(scores)), key=lambda epoch: (scores[epoch], epoch)) + 1
    return FinetuneReport(tuple(scores), best_epoch, len(held), time.monotonic() - started)


class _Trainer:
    """Optimiser, schedule and step counter of one fine-tuning."""

    def __init__(
        self,
        model: Any,
        settings: Finetune,
        steps: int,
        pad_token_id: int,
        device: torch.device,
        progress: Progress | None,
    ) -> None:
        self._model = model
        self._settings = settings
        self._steps = steps
        self._done = 0
        self._pad_token_id = pad_token_id
        self._device = device
        self._progress = progress
        self._optimizer = torch.optim.AdamW(_groups(model), lr=settings.lr)
        self._schedule = torch.optim.lr_scheduler.LambdaLR(
            self._optimizer, lambda step: _share_of_lr(step, steps)
        )

    def run_epoch(self, rows: Encoded, seed: tuple[int, int]) -> None:
        self._model.train()
        for batch in length_sorted_batches(rows, self._settings.batch_size, seed=seed):
            self._step(collate(rows, batch, self._pad_token_id, self._device))
            self._done += 1
            if self._progress:
                self._progress("fine-tuning", self._done, self._steps)

    def _step(self, inputs: dict[str, Tensor]) -> None:
        labels = inputs.pop("labels")
        loss = cross_entropy(self._model(**inputs).logits.float(), labels)
        torch.autograd.backward(loss)
        norm = torch.nn.utils.clip_grad_norm_(self._model.parameters(), LARGEST_GRADIENT)
        if not bool(torch.isfinite(loss + norm)):
            raise ModelError(
                f"fine-tuning diverged at step {self._done + 1} of {self._steps} (the loss or its "
                f"gradient is not finite); lower lr, which is {self._settings.lr:g}"
            )
        self._optimizer.step()
        self._schedule.step()
        self._optimizer.zero_grad(set_to_none=True)


def _check(settings: Finetune) -> None:
    if settings.epochs < 1 or settings.batch_size < 1 or not 0 < settings.lr < math.inf:
        raise WorkerInputError(
            "fine-tuning needs epochs >= 1, batch_size >= 1 and a finite lr > 0, got "
            f"epochs={settings.epochs}, batch_size={settings.batch_size}, lr={settings.lr}"
        )


def _groups(model: Any) -> list[dict[str, Any]]:
    """Biases and LayerNorms, which are vectors, do not decay."""
    trained = [tensor for tensor in model.parameters() if tensor.requires_grad]
    return [
        {"params": [t for t in trained if t.ndim >= 2], "weight_decay": WEIGHT_DECAY},
        {"params": [t for t in trained if t.ndim < 2], "weight_decay": 0.0},
    ]


def _share_of_lr(step: int, steps: int) -> float:
    """Up from next to nothing in the first tenth of the steps, then down to zero."""
    warm_up = max(1, round(WARM_UP * steps))
    if step < warm_up:
        return (step + 1) / warm_up
    return max(0.0, (steps - step) / max(1, steps - warm_up))


@contextmanager
def _seeded(seed: int, device: torch.device) -> Iterator[None]:
    devices = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(seed)
        yield
