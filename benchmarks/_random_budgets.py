"""Latency budgets drawn at random, as a spec has them and as the limits that they mean."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from _small_encoders import Shape

SHAPES = (Shape(6, 128), Shape(8, 128), Shape(6, 192))
"""With three layers, what no layer takes is nearly half of the time of a single text."""
STATISTICS, BATCH_SIZES, SHARES = ("p50", "p95", "mean", "throughput"), (1, 8), (0.4, 0.9)
"""Shares of the dense model's time, which such encoders can be brought to."""


@dataclass(frozen=True)
class Drawn:
    """A study to run: its encoder and its budget; ``share`` is of the dense model's time."""

    shape: Shape
    statistic: str
    is_relative: bool
    batch_size: int
    share: float

    @property
    def of(self) -> str:
        """What of many requests is limited."""
        return "mean" if self.statistic == "throughput" else self.statistic


def draw(count: int, seed: int) -> list[Drawn]:
    """Draws studies at random."""
    import numpy as np

    random = np.random.default_rng(seed)

    def one_of(choices: Any) -> Any:
        return choices[int(random.integers(len(choices)))]

    return [
        Drawn(
            one_of(SHAPES),
            one_of(STATISTICS),
            one_of((True, False)),
            one_of(BATCH_SIZES),
            round(float(random.uniform(*SHARES)), 2),
        )
        for _ in range(count)
    ]


def budget_of(drawn: Drawn, dense_ms: float | None) -> tuple[str, float]:
    """Writes the bound as a spec has it, and gives its limit: in ms, or as a ratio of times."""
    if drawn.statistic == "throughput":
        if dense_ms is None:
            percent = round(100 / drawn.share)
            return f"{percent}%", 100 / percent
        rate = float(f"{1000 * drawn.batch_size / (drawn.share * dense_ms):.4g}")
        return f"{rate}/s", 1000 * drawn.batch_size / rate
    if dense_ms is None:
        return f"{100 * drawn.share:.0f}%", drawn.share
    limit_ms = float(f"{drawn.share * dense_ms:.3g}")
    return f"{limit_ms} ms", limit_ms
