"""From the words of a spec to numbers: limits, and the spec's parts as workers want them."""

from __future__ import annotations

from trimtab.selection import Limits
from trimtab.spec import Spec
from trimtab_workers.task import DataSource, Finetune, Task


def limits_of(spec: Spec, baseline_metric: float) -> Limits:
    """Gives a spec's limits as numbers, once the baseline's metric is known."""
    flops = spec.budget.flops
    return Limits(
        max_drop=spec.max_drop.limit(baseline_metric),
        max_flops_ratio=flops.ratio,
        max_flops=flops.absolute,
    )


def budget_ratio(limits: Limits, baseline_flops: float) -> float | None:
    """Gives the budget on FLOPs as a fraction of the baseline's; None where there is none."""
    if limits.max_flops is not None:
        return limits.max_flops / baseline_flops
    return limits.max_flops_ratio


def task_of(spec: Spec) -> Task:
    """Gives the task of a spec as plain values for workers."""
    more = spec.task.unlabeled
    return Task(
        train=_source(spec.task.train),
        validation=_source(spec.task.validation),
        unlabeled=None if more is None else DataSource(path=more),
        text=tuple(spec.task.text),
        label=spec.task.label,
        metric=spec.task.metric,
        max_length=spec.task.max_length,
        seed=spec.search.seed,
        allow_hub=spec.allow_hub,
    )


def finetune_of(spec: Spec) -> Finetune:
    """Gives the fine-tuning settings of a spec as plain values for workers."""
    chosen = spec.finetune
    return Finetune(epochs=chosen.epochs, lr=chosen.lr, batch_size=chosen.batch_size)


def _source(reference: object) -> DataSource:
    names = ("path", "dataset", "config", "split")
    return DataSource(**{name: getattr(reference, name) for name in names})
