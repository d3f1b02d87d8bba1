"""What exits read, seen by the model itself: a frozen backbone need not run once an epoch.

States are caught where the exits are called, by hooks on them during ``trace``: what is trained on
is then what the packed forward hands them, tokens pruned and all, and no walk through the layers is
written a second time.

Legend of shapes:
    N  rows         B  rows of a batch     n  its longest row, in tokens left    E  exits
    d  hidden size  r  what an exit reads: d, or 2d where it reads two things    C  classes
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Protocol

import torch
from torch import nn

from trimtab_strategies.base import Progress
from trimtab_strategies.elastic import MaskedTokens, TrimtabForSequenceClassification
from trimtab_strategies.elastic.exits_trimtab import ExitHead, Tokens
from trimtab_strategies.elastic.rows_trimtab import PackedTokens
from trimtab_strategies.fine_tuning import Batch, inputs_of

BATCH_SIZE = 64
MOST_KEPT = 2**30
"""Bytes of token states that are kept; more are looked up again in every epoch."""

Reading = torch.Tensor | MaskedTokens
"""What one exit reads of a batch: [B, r], or for ``attention`` all tokens, [B, n, d]."""


@dataclass(frozen=True)
class Seen:
    """A batch as exits learn from it, in single precision and the batch's own order.

    ``readings`` has one entry for each exit; ``logits`` [B, C] are the final classifier's;
    ``labels`` [B] are -100 where the batch has none.
    """

    readings: Sequence[Reading]
    logits: torch.Tensor
    labels: torch.Tensor


class Rows(Protocol):
    """Rows to learn from, in batches."""

    n_batches: int
    is_kept: bool
    """Whether another pass over them is cheap."""

    def batches(self, generator: torch.Generator | None = None) -> Iterator[Seen]:
        """Yields every row once; in an order drawn from ``generator``, or always the same."""


def exit_heads(model: TrimtabForSequenceClassification) -> list[ExitHead]:
    """Gives the exits in the order of their layers."""
    return list(model.exits)  # type: ignore[arg-type]


def say(head: ExitHead, reading: Reading) -> torch.Tensor:
    """Gives the logits [B, C] of an exit for what it reads."""
    return head(reading) if isinstance(reading, MaskedTokens) else head.classify(reading)


def look(model: TrimtabForSequenceClassification, batch: Batch) -> Seen:
    """Runs the model on a batch, nobody leaving, and gives what each of its exits reads."""
    caught: list[Reading] = []
    hooks = [head.register_forward_pre_hook(partial(_catch, caught)) for head in exit_heads(model)]
    try:
        trace = model.trace(**inputs_of(batch))
    finally:
        for hook in hooks:
            hook.remove()
    labels = batch.get("labels")
    if labels is None:
        labels = torch.full_like(batch["input_ids"][:, 0], -100)
    return Seen([_plain(reading) for reading in caught], trace.logits.float().clone(), labels)


def _catch(caught: list[Reading], head: nn.Module, called_with: tuple[Tokens]) -> None:
    assert isinstance(head, ExitHead)
    (tokens,) = called_with
    if head.kind == "attention":
        hidden, live = tokens.padded(nn.Identity())
        if live is None:
            live = torch.ones_like(hidden[:, :, 0], dtype=torch.bool)
        caught.append(MaskedTokens(_in_order(hidden, tokens), _in_order(live, tokens)))
    else:
        caught.append(_in_order(head.state(tokens), tokens))


def _in_order(values: torch.Tensor, tokens: Tokens) -> torch.Tensor:
    """Puts samples back into the order of the batch, which packing gives up."""
    return values[tokens.samples.argsort()] if isinstance(tokens, PackedTokens) else values


def _plain(reading: Reading) -> Reading:
    """Copies what was made in inference mode, which no backward pass may start from."""
    if isinstance(reading, MaskedTokens):
        return MaskedTokens(reading.hidden.float().clone(), reading.live.clone())
    return reading.float().clone()


def look_at_all(
    model: TrimtabForSequenceClassification, batches: Sequence[Batch], progress: Progress
) -> Rows:
    """Makes rows to learn from of batches, by whichever way suits the model's exits."""
    if exit_heads(model)[0].kind == "attention":
        return TokenRows(model, batches, progress)
    return StateRows(model, batches, progress)


class StateRows:
    """The states that exits read of all rows, kept on the model's device: 4·N·E·r bytes."""

    is_kept = True

    def __init__(
        self, model: TrimtabForSequenceClassification, batches: Sequence[Batch], progress: Progress
    ) -> None:
        heads, like = exit_heads(model), model.head.out.weight.detach().float()
        n_rows = sum(len(batch["input_ids"]) for batch in batches)
        wide = model.config.hidden_size * (2 if heads[0].read == "both" else 1)
        self._states = like.new_empty(n_rows, len(heads), wide)
        self._logits = like.new_empty(n_rows, model.num_labels)
        self._labels = torch.empty(n_rows, dtype=torch.long, device=like.device)
        self.n_batches = -(-n_rows // BATCH_SIZE)
        first = 0
        for done, batch in enumerate(batches):
            progress("reading states", done, len(batches))
            first += self._keep(first, look(model, batch))

    def _keep(self, first: int, seen: Seen) -> int:
        rows = slice(first, first + len(seen.logits))
        for place, reading in enumerate(seen.readings):
            assert isinstance(reading, torch.Tensor)
            self._states[rows, place] = reading
        self._logits[rows], self._labels[rows] = seen.logits, seen.labels
        return len(seen.logits)

    def batches(self, generator: torch.Generator | None = None) -> Iterator[Seen]:
        """Yields the rows, each time in other company."""
        n_rows = len(self._logits)
        order = torch.arange(n_rows) if generator is None else _drawn(n_rows, generator)
        for rows in torch.split(order.to(self._logits.device), BATCH_SIZE):
            states = self._states[rows]
            yield Seen(list(states.unbind(dim=1)), self._logits[rows], self._labels[rows])


class TokenRows:
    """The states of all tokens, for exits with attention; kept only if they are few enough."""

    def __init__(
        self, model: TrimtabForSequenceClassification, batches: Sequence[Batch], progress: Progress
    ) -> None:
        self._model, self._batches = model, batches
        self.n_batches = len(batches)
        tokens = sum(batch["input_ids"].numel() for batch in batches)
        self.is_kept = 4 * tokens * len(model.exits) * model.config.hidden_size <= MOST_KEPT
        self._kept: list[Seen] = []
        for done, batch in enumerate(batches if self.is_kept else ()):
            progress("reading states", done, len(batches))
            self._kept.append(look(model, batch))

    def batches(self, generator: torch.Generator | None = None) -> Iterator[Seen]:
        """Yields the batches as they came; only their order is drawn."""
        n = self.n_batches
        order = torch.arange(n) if generator is None else _drawn(n, generator)
        for place in order.tolist():
            yield self._kept[place] if self._kept else look(self._model, self._batches[place])


def _drawn(n: int, generator: torch.Generator) -> torch.Tensor:
    return torch.randperm(n, generator=generator)
