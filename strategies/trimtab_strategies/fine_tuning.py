"""Fine-tuning inside a strategy: one small loop, and the copy with a token rule that it is for.

Everything random is seeded here and put back afterwards: the same model, rows and choices give the
same weights on the same machine, whatever ran before.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch.nn import Parameter
from torch.nn.functional import cross_entropy

from trimtab_strategies.base import Calibration, Progress
from trimtab_strategies.elastic import Softness, TrimtabConfig, TrimtabForSequenceClassification
from trimtab_strategies.slicing import empty_beside

WEIGHT_DECAY = 0.01
WARM_UP = 0.1
LARGEST_GRADIENT = 1.0
SEED = 0
BATCH_SIZE = 32
COUNTED_ROWS = 512

Batch = Mapping[str, torch.Tensor]


@dataclass(frozen=True)
class Group:
    """Weights with a peak learning rate of their own, whose gradients are clipped together.

    Where ``decays``, its matrices do; vectors (biases and LayerNorms) never.
    """

    weights: Sequence[Parameter]
    lr: float
    decays: bool = True


def fine_tune(
    model: TrimtabForSequenceClassification,
    batches: Sequence[Batch],
    loss_of: Callable[[Batch], torch.Tensor],
    groups: Sequence[Group],
    epochs: int,
    progress: Progress,
) -> None:
    """Trains the weights of ``groups`` in place: AdamW, linear warm-up and decay, clipping.

    Gradients are clipped to a norm of 1 in each group by itself: those of thresholds are larger by
    far, and one norm for all would let them shrink the others'. Source: the recipes of LTP and ACC.

    Args:
        model: is in training mode meanwhile and in evaluation mode afterwards.
        batches: their order is drawn anew in each epoch; what is in a batch stays together.
        loss_of: gives the loss of a batch, with gradients.
        groups: what is trained; no other weight changes.
        epochs: how often each batch is seen; with 0 nothing changes.
        progress: told ``training`` and the number of batches done before each of them.

    Raises:
        ValueError: if a loss or its gradient is not finite.
    """
    total = epochs * len(batches)
    optimizer = torch.optim.AdamW(_optimized(groups), betas=(0.9, 0.999), eps=1e-8)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: _share_of_lr(step, total))
    model.train()
    with _seeded(model.device):
        for done, batch in enumerate(_shuffled(batches, epochs)):
            progress("training", done, total)
            loss = loss_of(batch)
            torch.autograd.backward(loss)
            _clip(groups, loss, f"step {done + 1} of {total}")
            optimizer.step()
            schedule.step()
            model.zero_grad(set_to_none=True)
    model.eval()


def task_loss(
    model: TrimtabForSequenceClassification, batch: Batch, softness: Softness | None = None
) -> torch.Tensor:
    """Gives the mean cross-entropy on the labels of a batch."""
    logits = model(**inputs_of(batch), softness=softness).logits
    return cross_entropy(logits.float(), batch["labels"])


def task_weights(model: TrimtabForSequenceClassification) -> list[Parameter]:
    """Gives what the dense model has as well: neither thresholds nor the weights of exits."""
    own = ("token_rule.", "exits.")
    return [weight for name, weight in model.named_parameters() if not name.startswith(own)]


def with_token_rule(
    model: TrimtabForSequenceClassification,
    settings: Mapping[str, Any],
    state: Mapping[str, torch.Tensor],
) -> TrimtabForSequenceClassification:
    """Copies a model, in evaluation mode, and gives the copy a token rule.

    Exits come along as they are, the dial does not: its points were measured without the rule.

    Args:
        model: stays as it is and shares no memory with the copy.
        settings: ``token_rule`` of the copy's configuration.
        state: the tensors of that rule; a ``share`` rule has none.

    Raises:
        ValueError: if the model has a token rule already.
    """
    if model.token_rule is not None:
        raise ValueError(
            "the model must not have a token rule yet, but it has one of kind "
            f"{model.config.token_rule['kind']!r}; a recipe has at most one strategy for tokens"
        )
    config = TrimtabConfig.from_dict(model.config.to_dict())
    config.token_rule, config.operating_points = dict(settings), []
    copy = empty_beside(model, config)
    rule = {f"token_rule.{name}": tensor for name, tensor in state.items()}
    copy.load_state_dict({**model.state_dict(), **rule})  # strict: nothing stays undefined
    return copy


def fine_tune_weights(
    model: TrimtabForSequenceClassification,
    batches: Sequence[Batch],
    lr: float,
    epochs: int,
    progress: Progress,
) -> None:
    """Trains what the dense model has as well, on the labels, with tokens gone as in evaluation."""
    groups = [Group(task_weights(model), lr)]
    fine_tune(model, batches, lambda batch: task_loss(model, batch), groups, epochs, progress)


def rows_to_count(calibration: Calibration) -> Sequence[Batch]:
    """Gives the rows on which ``tokens_left`` is noted; enough for a share of all tokens."""
    return calibration.batches(min(COUNTED_ROWS, calibration.n_rows), BATCH_SIZE)


def tokens_left(
    model: TrimtabForSequenceClassification, batches: Sequence[Batch], progress: Progress
) -> list[float]:
    """Gives the share of all real tokens in ``batches`` that is left after each layer, in [0, 1].

    The last layer's own rule counts as well, though in evaluation it runs for the first token only.
    """
    entered, kept = 0, torch.zeros(len(model.encoder_layers), dtype=torch.int64)
    for done, batch in enumerate(batches):
        progress("counting tokens", done, len(batches))
        trace = model.trace(**inputs_of(batch))
        entered += int(trace.lengths.sum())
        kept += trace.kept.sum(dim=0).cpu()
    return [int(count) / entered for count in kept]


def inputs_of(batch: Batch) -> dict[str, Any]:
    """Gives what the model takes of a batch: everything but the labels."""
    return {name: tensor for name, tensor in batch.items() if name != "labels"}


def _optimized(groups: Sequence[Group]) -> list[dict[str, Any]]:
    return [
        {
            "params": [w for w in group.weights if (w.ndim >= 2) == is_matrix],
            "lr": group.lr,
            "weight_decay": WEIGHT_DECAY if group.decays and is_matrix else 0.0,
        }
        for group in groups
        for is_matrix in (True, False)
    ]


def _clip(groups: Sequence[Group], loss: torch.Tensor, step: str) -> None:
    norms = [torch.nn.utils.clip_grad_norm_(group.weights, LARGEST_GRADIENT) for group in groups]
    if not bool(torch.isfinite(loss + sum(norms))):
        raise ValueError(
            f"training diverged at {step} (the loss or its gradient is not finite); lower the "
            f"learning rates, which are {', '.join(f'{group.lr:g}' for group in groups)}"
        )


def _share_of_lr(step: int, steps: int) -> float:
    """Up from next to nothing in the first tenth of the steps, then down to zero."""
    warm_up = max(1, round(WARM_UP * steps))
    if step < warm_up:
        return (step + 1) / warm_up
    return max(0.0, (steps - step) / max(1, steps - warm_up))


def _shuffled(batches: Sequence[Batch], epochs: int) -> Iterator[Batch]:
    random = torch.Generator().manual_seed(SEED)
    for _ in range(epochs):
        for place in torch.randperm(len(batches), generator=random).tolist():
            yield batches[place]


@contextmanager
def _seeded(device: torch.device) -> Iterator[None]:
    """Dropout draws from the global state, which is put back."""
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(SEED)
        yield
