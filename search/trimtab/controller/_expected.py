"""What a point's latency is taken to be before it was measured, so that a search can go by it.

Legend:
    timed      what a point was measured to take, at the upper end of its interval
    predicted  what it will take by the table of parts
    expected   the timed latency, or else the predicted one, or else the share of its FLOPs
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

PREDICTED = "predicted"

Latency = Mapping[str, Any]


@dataclass(frozen=True)
class Expectation:
    """How to read latencies: the statistic that the budget is on, and the baseline's value of it.

    ``margin`` is what the upper end of an interval is expected to be, as a multiple of its value.
    Only selection among what was measured delivers a model; what is expected decides where to look.
    """

    statistic: str
    baseline_ms: float
    margin: float = 1.0

    def ms(self, latency: Latency | None, flops_ratio: float) -> float:
        """Gives what a point takes, or is expected to."""
        known = latency or {}
        if is_timed(known):
            return float(known["high"])
        guess = predicted_of(known).get(self.statistic)
        return self.margin * (self.baseline_ms * flops_ratio if guess is None else float(guess))

    def as_if_timed(self, latency: Latency | None, flops_ratio: float) -> dict[str, Any]:
        """Gives a latency that selection takes for a measured one."""
        expected = self.ms(latency, flops_ratio)
        return {"value": expected, "high": expected, "verdict": "stable"}


def is_timed(latency: Latency | None) -> bool:
    """Tells whether a latency was measured, and can be trusted."""
    known = latency or {}
    return known.get("high") is not None and known.get("verdict") == "stable"


def predicted_of(latency: Latency | None) -> Mapping[str, float]:
    """Gives what was predicted of a point by statistic; nothing where that was not done."""
    return (latency or {}).get(PREDICTED) or {}


def only_predicted(predicted: Mapping[str, float] | None) -> dict[str, Any] | None:
    """Gives the latency of a point that was not timed yet; None where nothing is known."""
    return (
        None if predicted is None else {"verdict": PREDICTED, "value": None, PREDICTED: predicted}
    )
