"""One limit and the quantity that it limits: how far a point is over it, and how to say so.

For the drop the excess is relative to ``max(max_drop, 0.01)``, since a limit of zero or of a
tenth of a point would make every other excess look small beside it. An excess of up to 1e-9
counts as none, so that a point exactly at its limit is within it whatever the last bit says.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from functools import partial
from typing import TYPE_CHECKING

from trimtab._parts import OTHERS, parts_of, requests_text

if TYPE_CHECKING:
    from trimtab.selection import Limits, Measured

SLACK = 1e-9
ONE_POINT = 0.01
NOT_MEASURED = frozenset({"predicted", "unstable"})
"""Verdicts on a latency that no limit is met with."""


@dataclass(frozen=True)
class Unit:
    """How a limit is written: ``size`` is one unit, ``digits`` decimals or None for 3 figures."""

    suffix: str
    size: float
    digits: int | None

    def step(self, value: Decimal) -> Decimal:
        """Gives the smallest difference that is written of a value."""
        exponent = value.adjusted() - 2 if self.digits is None else -self.digits
        return Decimal(1).scaleb(exponent)


@dataclass(frozen=True)
class Rule:
    """One limit with the quantity that it limits."""

    word: str
    limit: float
    value_of: Callable[[Measured], float]
    unit: Unit
    least_scale: float = 0.0
    words_of: Callable[[Measured], str] | None = None

    def excess_of(self, point: Measured) -> float:
        """Measures how far a point is over the limit, relatively; infinite if not measured."""
        relative = self.excess(self.value_of(point), self.limit)
        return 0.0 if 0 < relative <= SLACK else relative

    def excess(self, value: float, limit: float) -> float:
        """Measures the same of a value and any limit, without the slack."""
        if not math.isfinite(value):
            return math.inf
        return (value - limit) / max(limit, self.least_scale)

    def raised_for(self, point: Measured) -> str:
        """Says to raise the limit to the smallest round number that still admits the point."""
        value, unit = self.value_of(point), self.unit
        exact = Decimal(value / unit.size)
        step = unit.step(exact)
        limit = exact.quantize(step)
        while self.excess(value, float(limit) * unit.size) > SLACK:
            limit += step
        old = f"{self.limit / unit.size:.6g}"
        word = self.word if self.words_of is None else self.words_of(point)
        return f"{word} from {old}{unit.suffix} to {limit.normalize():f}{unit.suffix}"


def rules_of(limits: Limits) -> list[Rule]:
    """Lists the limits that are set, under the words they have in a spec."""
    percent, points = Unit("%", 0.01, 1), Unit(" pt", 0.01, 2)
    rules = []
    if limits.max_drop is not None:
        rules.append(Rule("max_drop", limits.max_drop, lambda p: p.drop, points, ONE_POINT))
    if limits.max_flops_ratio is not None:
        rules.append(Rule("flops", limits.max_flops_ratio, lambda p: p.flops_ratio, percent))
    if limits.max_flops is not None:
        size, suffix = (1e9, " GFLOPs") if limits.max_flops >= 1e9 else (1e6, " MFLOPs")
        unit = Unit(suffix, size, None)
        rules.append(Rule("flops", limits.max_flops, lambda p: p.flops, unit))
    if limits.max_latency_ms is not None:
        unit = Unit(" ms", 1.0, None)
        every = (limits.max_latency_ms, *limits.other_latencies_ms)
        rules += [
            Rule(
                "latency",
                limit,
                partial(latency_ms, place=place),
                unit,
                words_of=partial(_latency_words, place=place) if len(every) > 1 else None,
            )
            for place, limit in enumerate(every)
        ]
    return rules


def latency_ms(point: Measured, place: int = 0) -> float:
    """The latency that a budget is held against: the upper end, infinite if not measured."""
    latency = point.latency or {}
    if place:
        others = latency.get(OTHERS) or ()
        latency = others[place - 1] if place <= len(others) else {}
    if latency.get("high") is None or latency.get("verdict") in NOT_MEASURED:
        return math.inf
    return float(latency["high"])


def _latency_words(point: Measured, place: int) -> str:
    """Names one of several limits on latency by what the point was timed on."""
    parts = parts_of(point.latency)
    return f"latency {requests_text(parts[place], parts)}"
