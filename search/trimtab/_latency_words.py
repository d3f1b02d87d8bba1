"""How latencies, and budgets on them, are written wherever people read them.

Nothing here takes time to import, so that the command line and notebooks can share it.

Legend:
    latency   the mapping that a point has: its budgeted statistic with an interval, and what was
              timed; where nothing was timed, its value is None
    workload  a mapping of what is timed: batch_size, device, threads and lengths
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Latency = Mapping[str, Any]

FIELDS = ("statistic", "value", "low", "high", "p50", "p95", "batch_size", "device", "verdict")
"""What is shown of a latency, in this order."""
WHERE_KNOWN = ("mean", "threads", "reason")
"""What is shown of it beside, where it is there."""
STABLE = "stable"


def shown_latency(latency: Latency | None) -> dict[str, Any] | None:
    """Gives what ``--json`` shows of a latency; None where nothing was timed."""
    if latency is None or latency.get("value") is None:
        return None
    beside = {name: latency[name] for name in WHERE_KNOWN if latency.get(name) is not None}
    return {**{name: latency.get(name) for name in FIELDS}, **beside}


def ms(value: float) -> str:
    """Writes a time in three figures: ``6.1 ms``."""
    return f"{in_ms(value)} ms"


def in_ms(value: float) -> str:
    """Writes the number of it alone."""
    return f"{value:,.0f}" if value >= 999.5 else f"{value:.3g}"


def latency_text(latency: Latency | None) -> str:
    """Writes a latency as ``6.1 ms [5.9, 6.4] p95``; a dash where nothing was timed."""
    if latency is None or latency.get("value") is None:
        return "–"
    text = f"{ms(latency['value'])}{_interval(latency)}"
    if statistic := latency.get("statistic"):
        text += f" {statistic}"
    return text if latency.get("verdict", STABLE) == STABLE else f"{text}, {latency['verdict']}"


def and_latency(latency: Latency | None) -> str:
    """Writes a latency to follow other costs in a sentence; nothing where nothing was timed."""
    return "" if shown_latency(latency) is None else f", {latency_text(latency)}"


def workload_text(workload: Latency) -> str:
    """Writes what was, or will be, timed: ``at batch 1 on cpu, 2 threads``."""
    device, threads = workload.get("device") or "auto", workload.get("threads")
    place = "the workers' device" if device == "auto" else device
    text = f"at batch {workload.get('batch_size', 1)} on {place}"
    if threads is None:
        return text
    return f"{text}, {threads} {'thread' if threads == 1 else 'threads'}"


def texts_text(workload: Latency) -> str:
    """Writes which texts requests are made of."""
    lengths = workload.get("lengths")
    if not lengths:
        return "texts of the data"
    low, high = min(lengths), max(lengths)
    return f"texts of {low} tokens" if low == high else f"texts of {low} to {high} tokens"


def bound_text(budget: Latency) -> str:
    """Writes a spec's plain ``budget.latency`` as ``p95 ≤ 8 ms``."""
    for statistic in ("p50", "p95", "mean"):
        if budget.get(statistic) is not None:
            return f"{statistic} ≤ {_of_baseline(budget[statistic])}"
    return f"throughput ≥ {_of_baseline(budget['throughput'])}"


def budget_text(budget: Mapping[str, Any]) -> str:
    """Writes a spec's plain ``budget``: ``FLOPs 40%, latency p95 ≤ 8 ms at batch 1``."""
    parts = [] if budget.get("flops") is None else [f"FLOPs {budget['flops']}"]
    latency = budget.get("latency")
    if latency is not None:
        parts.append(f"latency {bound_text(latency)} at batch {latency.get('batch_size', 1)}")
    return ", ".join(parts)


def _interval(latency: Latency) -> str:
    low, high = latency.get("low"), latency.get("high")
    return "" if low is None or high is None else f" [{in_ms(low)}, {in_ms(high)}]"


def _of_baseline(bound: str) -> str:
    return f"{bound} of the baseline's" if bound.endswith("%") else bound
