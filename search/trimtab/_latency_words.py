"""How latencies, and budgets on them, are written wherever people read them.

Nothing here takes time to import, so that the command line and notebooks can share it.

Legend:
    latency   the mapping that a point has: its budgeted statistic with an interval, and what was
              timed; where nothing was timed, its value is None; of several limits it is the first
              one's, with the others' in a list
    workload  a mapping of what is timed: batch_size, device, threads and lengths
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from trimtab._parts import (
    OTHERS,
    STABLE,
    Latency,
    lengths_text,
    on_threads,
    parts_of,
    requests_of,
    requests_text,
)
from trimtab._rules import SLACK

FIELDS = ("statistic", "value", "low", "high", "p50", "p95", "batch_size", "device", "verdict")
"""What is shown of a latency, in this order."""
WHERE_KNOWN = ("mean", "threads", "reason", "lengths")
"""What is shown of it beside, where it is there."""


def shown_latency(
    latency: Latency | None, others_ms: Sequence[float] = ()
) -> dict[str, Any] | None:
    """Gives what ``--json`` shows of a latency; None where nothing was timed.

    With further limits on it each of the ``others`` has its own, ``max_ms``, and whether it
    ``holds``; None where that cannot be told.
    """
    if latency is None or latency.get("value") is None:
        return None
    _, *others = parts_of(latency)
    more = [_judged(part, *others_ms[i : i + 1]) for i, part in enumerate(others)]
    return {**_shown(latency), **({OTHERS: more} if more else {})}


def _judged(part: Latency, max_ms: float | None = None) -> dict[str, Any]:
    high, holds = part.get("high"), None
    if max_ms is not None and high is not None and part.get("verdict") == STABLE:
        holds = bool(high <= max_ms * (1 + SLACK))
    return {**_shown(part), "max_ms": max_ms, "holds": holds}


def _shown(latency: Latency) -> dict[str, Any]:
    beside = {name: latency[name] for name in WHERE_KNOWN if latency.get(name) is not None}
    return {**{name: latency.get(name) for name in FIELDS}, **beside}


def ms(value: float) -> str:
    """Writes a time in three figures: ``6.1 ms``."""
    return f"{in_ms(value)} ms"


def in_ms(value: float) -> str:
    """Writes the number of it alone."""
    return f"{value:,.0f}" if value >= 999.5 else f"{value:.3g}"


def latency_text(latency: Latency | None) -> str:
    """Writes a latency as ``6.1 ms [5.9, 6.4] p95``; a dash where nothing was timed.

    Several of one are joined by "and", and say what requests they are of where these differ.
    """
    parts = parts_of(latency)
    if not is_any_timed(latency):
        return "–"
    differ = len({requests_of(part) for part in parts}) > 1
    names = [requests_text(part, parts) if differ else part.get("statistic") for part in parts]
    return " and ".join(_text(part, name) for part, name in zip(parts, names, strict=True))


def is_any_timed(latency: Latency | None) -> bool:
    """Tells whether there is a figure for any of the limits."""
    return any(part.get("value") is not None for part in parts_of(latency))


def _text(part: Latency, name: str | None) -> str:
    value = part.get("value")
    text = "–" if value is None else f"{ms(value)}{_interval(part)}"
    if name:
        text += f" {name}"
    is_fine = value is None or part.get("verdict", STABLE) == STABLE
    return text if is_fine else f"{text}, {part['verdict']}"


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
    return f"texts of {lengths_text(lengths)}"


def bound_text(budget: Latency) -> str:
    """Writes one mapping of a spec's plain ``budget.latency`` as ``p95 ≤ 8 ms``."""
    signs = {"p50": "≤", "p95": "≤", "mean": "≤", "throughput": "≥"}
    return " and ".join(
        f"{name} {sign} {_of_baseline(budget[name])}"
        for name, sign in signs.items()
        if budget.get(name) is not None
    )


def bounds_text(latency: Latency | Sequence[Latency]) -> str:
    """Writes the whole of it, a list with the sizes of requests as ``p95 ≤ 8 ms at batch 1``.

    The list says the lengths of texts and the threads where these are not the same for all.
    """
    if isinstance(latency, Mapping):
        return bound_text(latency)
    return "; ".join(_sized_bound_text(each, latency) for each in latency)


def _sized_bound_text(budget: Latency, among: Sequence[Latency]) -> str:
    lengths, threads = (_where_it_differs(name, budget, among) for name in ("lengths", "threads"))
    text = f"{bound_text(budget)} at batch {budget.get('batch_size', 1)}"
    return text + (f" of {lengths_text(lengths)}" if lengths else "") + on_threads(threads)


def _where_it_differs(name: str, budget: Latency, among: Sequence[Latency]) -> Any:
    own = budget.get(name)
    return None if all(each.get(name) == own for each in among) else own


def budget_text(budget: Mapping[str, Any]) -> str:
    """Writes a spec's plain ``budget``: ``FLOPs 40%, latency p95 ≤ 8 ms at batch 1``."""
    parts = [] if budget.get("flops") is None else [f"FLOPs {budget['flops']}"]
    latency = budget.get("latency") or []
    several = [latency] if isinstance(latency, Mapping) else latency
    parts += [f"latency {_sized_bound_text(each, several)}" for each in several]
    return ", ".join(parts)


def _interval(latency: Latency) -> str:
    low, high = latency.get("low"), latency.get("high")
    return "" if low is None or high is None else f" [{in_ms(low)}, {in_ms(high)}]"


def _of_baseline(bound: str) -> str:
    return f"{bound} of the baseline's" if bound.endswith("%") else bound
