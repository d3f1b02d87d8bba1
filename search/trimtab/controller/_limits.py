"""From the words of a spec to numbers: limits, and the spec's parts as workers want them."""

from __future__ import annotations

from trimtab.selection import Limits
from trimtab.spec import LatencyLimit, Spec
from trimtab_workers.latency.asked import Asked
from trimtab_workers.latency.workload import Workload
from trimtab_workers.task import DataSource, Finetune, Task


def limits_of(
    spec: Spec,
    baseline_metric: float,
    baseline_latency_ms: float | None = None,
    *others_ms: float,
) -> Limits:
    """Gives a spec's limits as numbers, once the baseline's metric is known.

    Args:
        spec: The spec.
        baseline_metric: What ``1%`` of drop is a share of.
        baseline_latency_ms: The baseline's own value of the statistic that is limited; while it
            is None, a limit relative to it is left out.
        others_ms: The same of further limits on latency; without them these are left out.
    """
    flops, (latency, *others) = spec.budget.flops, spec.budget.latency_limits or (None,)
    return Limits(
        max_drop=spec.max_drop.limit(baseline_metric),
        max_flops_ratio=None if flops is None else flops.ratio,
        max_flops=None if flops is None else flops.absolute,
        max_latency_ms=None if latency is None else _max_latency_ms(latency, baseline_latency_ms),
        other_latencies_ms=tuple(
            limit.ms(own) for limit, own in zip(others, others_ms, strict=False)
        ),
    )


def _max_latency_ms(limit: LatencyLimit, baseline_ms: float | None) -> float | None:
    if baseline_ms is None and limit.is_relative:
        return None
    return limit.ms(baseline_ms or 0.0)


def latencies_of(spec: Spec) -> tuple[Asked, ...]:
    """Gives what is timed for a spec's limits on latency, in their order; none without a budget.

    All are timed on one device: the one that is named, or else that of the workers.
    """
    limits = spec.budget.latency_limits
    named = [limit.budget.device for limit in limits if limit.budget.names_device]
    device = named[0] if named else spec.workers.device
    return tuple(
        Asked(limit.statistic, _workload(limit, device or "auto", spec), limit.is_relative)
        for limit in limits
    )


def _workload(limit: LatencyLimit, device: str, spec: Spec) -> Workload:
    return Workload(
        batch_size=limit.budget.batch_size,
        device=device,
        threads=limit.budget.threads,
        lengths=limit.budget.lengths,
        seed=spec.search.seed,
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
