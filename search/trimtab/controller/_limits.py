"""From the words of a spec to numbers: limits, and the spec's parts as workers want them."""

from __future__ import annotations

from dataclasses import dataclass

from trimtab.selection import Limits
from trimtab.spec import LatencyBudget, Spec
from trimtab_workers.latency.workload import Statistic, Workload
from trimtab_workers.task import DataSource, Finetune, Task


@dataclass(frozen=True)
class LatencyWanted:
    """What is timed for a latency budget, and which statistic of it is limited."""

    statistic: Statistic
    workload: Workload


def limits_of(
    spec: Spec, baseline_metric: float, baseline_latency_ms: float | None = None
) -> Limits:
    """Gives a spec's limits as numbers, once the baseline's metric is known.

    Args:
        spec: The spec.
        baseline_metric: What ``1%`` of drop is a share of.
        baseline_latency_ms: The baseline's own value of the statistic that is limited; while it
            is None, a limit relative to it is left out.
    """
    flops, latency = spec.budget.flops, spec.budget.latency
    return Limits(
        max_drop=spec.max_drop.limit(baseline_metric),
        max_flops_ratio=None if flops is None else flops.ratio,
        max_flops=None if flops is None else flops.absolute,
        max_latency_ms=None if latency is None else _max_latency_ms(latency, baseline_latency_ms),
    )


def _max_latency_ms(budget: LatencyBudget, baseline_ms: float | None) -> float | None:
    if baseline_ms is None and budget.bound.ratio is not None:
        return None
    return budget.limit(baseline_ms or 0.0)


def latency_of(spec: Spec) -> LatencyWanted | None:
    """Gives what a spec's latency budget is about; None where it has none.

    Where it names no device, that is the one of the workers.
    """
    budget = spec.budget.latency
    if budget is None:
        return None
    device = spec.workers.device if budget.device in (None, "auto") else budget.device
    workload = Workload(
        batch_size=budget.batch_size,
        device=device or "auto",
        threads=budget.threads,
        lengths=budget.lengths,
        seed=spec.search.seed,
    )
    return LatencyWanted(budget.statistic, workload)


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
