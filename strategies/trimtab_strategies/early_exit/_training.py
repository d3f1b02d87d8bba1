"""How exits are trained: on the states of a frozen backbone, or together with it.

Legend:
    p_t  the final classifier's distribution    L    layers        CE  cross-entropy
    p_s  an exit's distribution                 l_e  layer of exit e, counted from 1

An eighth of the rows is held back. With a frozen backbone, each exit keeps the epoch with the least
loss there; joint training, which comes after that, keeps its last. These rows are training rows:
nothing that is reported is measured on them.
"""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch.nn import functional

from trimtab_strategies.base import Calibration, Progress, Value, Variant
from trimtab_strategies.early_exit._states import (
    BATCH_SIZE,
    Rows,
    Seen,
    exit_heads,
    look_at_all,
    say,
)
from trimtab_strategies.early_exit._strategy import exit_layers
from trimtab_strategies.elastic import Trace, TrimtabConfig, TrimtabForSequenceClassification
from trimtab_strategies.elastic.exits_trimtab import ExitHead, make_exits
from trimtab_strategies.elastic.masked_trimtab import run_masked
from trimtab_strategies.fine_tuning import Batch, Group, fine_tune, task_weights
from trimtab_strategies.slicing import empty_beside

SEED = 0
"""Of weights and order: the same inputs give the same exits."""
HELD_BACK_SHARE = 8
JOINT_BATCH_SIZE = 32
EPOCHS_NOT_KEPT = 3
"""Epochs at most where the backbone runs in every one of them."""
UNUSED_WIDTH = 128
"""What a linear exit's configuration says; it has no width."""
MOST_UNLABELED = 16384
LEAVING_KNOBS = ("tau", "patience", "agreements", "exits")


def add_exits(
    model: TrimtabForSequenceClassification,
    calibration: Calibration,
    choices: Mapping[str, Value],
    progress: Progress,
) -> Variant:
    """Makes a copy of ``model`` with trained exits; see the strategy's choices.

    Notes: for each exit the share of held-back rows on which it ``agrees`` with the final
    classifier, the rows fitted on, with and without labels, and the ``seconds`` it took.

    Raises:
        ValueError: if the model cannot have exits, there are too few rows or training diverged.
    """
    started = time.monotonic()
    material = Material.of(calibration, choices)
    child = with_exits(model, _settings(model.config, choices))
    held = train_exits(child, material, choices, progress)
    if choices["objective"] == "joint":
        train_jointly(child, material, choices, progress)
        held = look_at_all(child, material.held_back(BATCH_SIZE), progress)
    agrees = agreement(exit_heads(child), held)
    seconds = round(time.monotonic() - started, 3)
    return Variant(child, dict(choices), {"agrees": agrees, **material.counts, "seconds": seconds})


def _settings(config: TrimtabConfig, choices: Mapping[str, Value]) -> dict[str, Any]:
    if config.num_labels < 2:
        raise ValueError(f"early exits need at least 2 classes, but got {config.num_labels}")
    layers = exit_layers(str(choices["positions"]), config.num_hidden_layers)
    return {
        "layers": layers,
        "kind": choices["head"],
        "read": choices.get("read", "first"),
        "width": choices.get("width", UNUSED_WIDTH),
    }


def with_exits(
    model: TrimtabForSequenceClassification, settings: Mapping[str, Any]
) -> TrimtabForSequenceClassification:
    """Copies a model, with new exits instead of any it had, and nobody leaving; in eval mode.

    The weights of the exits are drawn by torch's own rule from a fixed seed. The dial is left out:
    its points were measured on another model.
    """
    config = TrimtabConfig.from_dict(model.config.to_dict())
    config.exits = copy.deepcopy(dict(settings))
    config.knobs = {k: v for k, v in config.knobs.items() if k not in LEAVING_KNOBS}
    config.operating_points = []
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(SEED)  # of the CPU alone, which is put back
        fresh = make_exits(config)
    child = empty_beside(model, config)
    kept = {k: v for k, v in model.state_dict().items() if not k.startswith("exits.")}
    added = {f"exits.{name}": weight for name, weight in fresh.state_dict().items()}
    child.load_state_dict({**kept, **added})  # strict: a missing partner is an error
    return child


@dataclass(frozen=True)
class Material:
    """Which rows are learned from: the first ``fitted``; those up to ``end`` are held back."""

    calibration: Calibration
    fitted: int
    end: int
    unlabeled: int

    @classmethod
    def of(cls, calibration: Calibration, choices: Mapping[str, Value]) -> Material:
        """Takes at most as many rows as chosen; of those without labels all that there is room for.

        Raises:
            ValueError: if there are fewer than two rows.
        """
        most = int(choices["rows"])
        end = min(most, calibration.n_rows)
        if end < 2:
            raise ValueError(f"early exits need at least 2 training rows, but got {end}")
        distils = str(choices["objective"]).startswith("distil")
        unlabeled = min(MOST_UNLABELED, calibration.n_unlabeled) if distils else 0
        return cls(calibration, end - max(1, end // HELD_BACK_SHARE), end, unlabeled)

    @property
    def counts(self) -> dict[str, int]:
        """How many rows there are of each kind."""
        held_back = self.end - self.fitted
        return {"rows": self.fitted, "held_back": held_back, "unlabeled": self.unlabeled}

    def to_fit(self, batch_size: int) -> list[Batch]:
        """Gives the rows to fit on, those without labels last."""
        batches: list[Batch] = list(self.calibration.batches(self.fitted, batch_size))
        if self.unlabeled:
            assert self.calibration.unlabeled is not None
            batches += self.calibration.unlabeled(self.unlabeled, batch_size)
        return batches

    def held_back(self, batch_size: int) -> Sequence[Batch]:
        """Gives the rows by which epochs are chosen."""
        return self.calibration.batches(self.end, batch_size, self.fitted)


# With a frozen backbone


def train_exits(
    model: TrimtabForSequenceClassification,
    material: Material,
    choices: Mapping[str, Value],
    progress: Progress,
) -> Rows:
    """Trains the model's exits alone, in place, and gives the held-back rows as they see them.

    AdamW with linear decay. Backbone and final classifier stay as they are and in eval mode; exits
    share no weight, so that all are trained in one loop without touching each other.

    Raises:
        ValueError: if training diverged.
    """
    fitted = look_at_all(model, material.to_fit(BATCH_SIZE), progress)
    held = look_at_all(model, material.held_back(BATCH_SIZE), progress)
    heads = copy.deepcopy(model.exits).float()
    trained: list[ExitHead] = list(heads)  # type: ignore[arg-type]
    epochs = int(choices["epochs"])
    if not fitted.is_kept:
        epochs = min(epochs, EPOCHS_NOT_KEPT)
    objective = OBJECTIVES[str(choices["objective"])]
    optimizer = torch.optim.AdamW(heads.parameters(), lr=float(choices["lr"]), fused=True)
    schedule = torch.optim.lr_scheduler.LinearLR(
        optimizer, start_factor=1.0, end_factor=0.0, total_iters=epochs * fitted.n_batches
    )
    generator, best = torch.Generator().manual_seed(SEED), Best(len(trained))
    for epoch in range(epochs):
        progress("training exits", epoch, epochs)
        for seen in fitted.batches(generator):
            optimizer.zero_grad()
            torch.autograd.backward(_losses(trained, seen, objective).sum())
            optimizer.step()
            schedule.step()
        best.note(trained, _mean_losses(trained, held, objective))
    best.restore(exit_heads(model))
    return held


Objective = Callable[[torch.Tensor, Seen], torch.Tensor]


def distil(said: torch.Tensor, seen: Seen) -> torch.Tensor:
    """KL(p_t ‖ p_s), mean over the batch, at temperature 1: what FastBERT's code minimises."""
    wanted, got = (torch.log_softmax(logits, dim=-1) for logits in (seen.logits, said))
    return functional.kl_div(got, wanted, reduction="batchmean", log_target=True)


def distil_reversed(said: torch.Tensor, seen: Seen) -> torch.Tensor:
    """KL(p_s ‖ p_t), mean over the batch: as FastBERT and Magic Pyramid print it."""
    wanted, got = (torch.log_softmax(logits, dim=-1) for logits in (seen.logits, said))
    return functional.kl_div(wanted, got, reduction="batchmean", log_target=True)


def labels(said: torch.Tensor, seen: Seen) -> torch.Tensor:
    """CE with the labels, mean over the batch (second stage of DeeBERT)."""
    return functional.cross_entropy(said, seen.labels)


OBJECTIVES: dict[str, Objective] = {
    "distil": distil,
    "distil_reversed": distil_reversed,
    "labels": labels,
    "joint": labels,  # before the backbone joins in
}


def _losses(heads: Sequence[ExitHead], seen: Seen, objective: Objective) -> torch.Tensor:
    """Gives the loss of each exit, [E]."""
    said = [say(head, reading) for head, reading in zip(heads, seen.readings, strict=True)]
    return torch.stack([objective(logits, seen) for logits in said])


@torch.no_grad()
def _mean_losses(heads: Sequence[ExitHead], rows: Rows, objective: Objective) -> list[float]:
    total, n_rows = torch.zeros(len(heads), dtype=torch.float64), 0
    for seen in rows.batches():
        total += _losses(heads, seen, objective).double().cpu() * len(seen.logits)
        n_rows += len(seen.logits)
    found: list[float] = (total / n_rows).tolist()
    return found


class Best:
    """The weights with which each module did best so far; of equals the earlier, NaN never."""

    def __init__(self, n_modules: int) -> None:
        self._losses = [math.inf] * n_modules
        self._weights: list[dict[str, torch.Tensor]] = [{} for _ in range(n_modules)]

    def note(self, modules: Sequence[torch.nn.Module], losses: Sequence[float]) -> None:
        """Keeps the weights of those modules that have improved."""
        for place, (module, loss) in enumerate(zip(modules, losses, strict=True)):
            if loss < self._losses[place]:
                self._losses[place] = loss
                self._weights[place] = {k: w.clone() for k, w in module.state_dict().items()}

    def restore(self, modules: Sequence[torch.nn.Module]) -> None:
        """Loads what was kept.

        Raises:
            ValueError: if a module never had a finite loss.
        """
        for module, weights in zip(modules, self._weights, strict=True):
            if not weights:
                raise ValueError("training of early exits diverged; lower lr")
            module.load_state_dict(weights)


@torch.no_grad()
def agreement(heads: Sequence[ExitHead], rows: Rows) -> list[float]:
    """Gives for each exit the share of rows for which it predicts what the final classifier does.

    Heads may be of any precision; what they read is cast to it.
    """
    same, n_rows = torch.zeros(len(heads), dtype=torch.long), 0
    floats = [copy.deepcopy(head).float() for head in heads]
    for seen in rows.batches():
        final = seen.logits.argmax(dim=1)
        for place, (head, reading) in enumerate(zip(floats, seen.readings, strict=True)):
            same[place] += (say(head, reading).argmax(dim=1) == final).sum().cpu()
        n_rows += len(final)
    return [round(count / n_rows, 4) for count in same.tolist()]


# Together with the backbone


def train_jointly(
    model: TrimtabForSequenceClassification,
    material: Material,
    choices: Mapping[str, Value],
    progress: Progress,
) -> None:
    """Fine-tunes backbone, final classifier and exits together, in place; tokens pruned as always.

    Thresholds stay. Exits must be trained already: at the small steps that suit a backbone, new
    ones would not get far in a few epochs. Source: PABEE, but for that.

    Raises:
        ValueError: if training diverged.
    """
    rate = float(choices["joint_lr"])
    groups = [Group(task_weights(model), rate), Group(list(model.exits.parameters()), rate)]
    batches, epochs = material.to_fit(JOINT_BATCH_SIZE), int(choices["joint_epochs"])
    fine_tune(model, batches, partial(joint_loss, model), groups, epochs, progress)


def joint_loss(model: TrimtabForSequenceClassification, batch: Batch) -> torch.Tensor:
    """CE of all classifiers, each weighted by its layer: (Σ_e l_e·CE_e + L·CE) / (Σ_e l_e + L).

    Source: PABEE, equation of its training loss; layers without an exit have no term.
    """
    assert model.config.exits is not None
    n_layers, layers = model.config.num_hidden_layers, model.config.exits["layers"]
    trace = Trace(batch["attention_mask"].sum(dim=1))
    trace.make_room(n_layers, len(layers), model.num_labels)
    final = run_masked(
        model,
        batch["input_ids"],
        batch["attention_mask"],
        batch.get("token_type_ids"),
        trace=trace,
    )
    said = torch.cat([trace.exit_logits, final.float()[:, None]], dim=1)
    n_classifiers = said.shape[1]
    weights = said.new_tensor([*(layer + 1 for layer in layers), n_layers])
    wanted = batch["labels"][:, None].expand(-1, n_classifiers)
    losses = functional.cross_entropy(said.transpose(1, 2), wanted, reduction="none")
    return losses.mean(dim=0) @ (weights / weights.sum())
