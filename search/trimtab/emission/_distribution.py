"""How the times of requests are spread: counted once, and drawn as a line of blocks in the card."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

N_BINS = 32
BLOCKS = " ▁▂▃▄▅▆▇█"
ROWS = {"baseline": "baseline", "ours": "this checkpoint"}
WIDEST = 0.99
"""The share of the requests up to which the picture goes; slower ones are in its last place."""


def distribution_of(samples: Mapping[str, Any]) -> dict[str, Any]:
    """Counts requests by what they usually took, baseline and checkpoint over the same bins.

    Args:
        samples: ``ours`` and ``baseline``, [requests][rounds] of ms.

    Returns:
        ``low_ms`` and ``high_ms``, the ends of all bins together, and the counts by name.
    """
    usual = {name: sorted(map(statistics.median, samples[name])) for name in ROWS}
    low = min(times[0] for times in usual.values())
    high = max(times[int(WIDEST * (len(times) - 1))] for times in usual.values())
    counts = {name: _counted(times, low, high) for name, times in usual.items()}
    return {"low_ms": float(f"{low:.4g}"), "high_ms": float(f"{high:.4g}"), **counts}


def _counted(times: Sequence[float], low: float, high: float) -> list[int]:
    counts, step = [0] * N_BINS, (high - low) / N_BINS or 1.0
    for ms in times:
        counts[min(int((ms - low) / step), N_BINS - 1)] += 1
    return counts


def drawn(distribution: Mapping[str, Any]) -> str:
    """Draws a distribution in Markdown, a line each; the higher a block, the more requests."""
    width = max(map(len, ROWS.values()))
    low, high = (f"{distribution[name]:.3g} ms" for name in ("low_ms", "high_ms"))
    lines = [f"{title:<{width}}  {_blocks(distribution[name])}" for name, title in ROWS.items()]
    scale = f"{'':<{width}}  {low}{high:>{N_BINS - len(low)}}"
    return "\n".join(["```text", *lines, scale, "```"])


def _blocks(counts: Sequence[int]) -> str:
    most, top = max([*counts, 1]), len(BLOCKS) - 1
    # Whoever is there at all is seen.
    return "".join(BLOCKS[-(-count * top // most)] for count in counts)
