"""What a point's latency is taken to be before it was measured, so that a search can go by it.

Legend:
    timed      what a point was measured to take, at the upper end of its interval
    predicted  what it will take by the table of parts
    expected   the timed latency, or else the predicted one, or else the share of its FLOPs
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from trimtab._parts import OTHERS, Latency, joined, joined_as, parts_of
from trimtab_workers.latency.asked import Asked

PREDICTED = "predicted"
NOTHING: Latency = {"verdict": PREDICTED, "value": None, PREDICTED: None}


@dataclass(frozen=True)
class Expectation:
    """How to read latencies: the statistic that the budget is on, and the baseline's value of it.

    ``margin`` is what the upper end of an interval is expected to be, as a multiple of its value.
    Only selection among what was measured delivers a model; what is expected decides where to look.
    ``others`` read what a latency has of further limits.
    """

    statistic: str
    baseline_ms: float
    margin: float = 1.0
    others: tuple[Expectation, ...] = ()

    def ms(self, latency: Latency | None, flops_ratio: float) -> float:
        """Gives what a point takes, or is expected to."""
        known = latency or {}
        if _is_stable(known):
            return float(known["high"])
        guess = predicted_of(known).get(self.statistic)
        return self.margin * (self.baseline_ms * flops_ratio if guess is None else float(guess))

    def as_if_timed(self, latency: Latency | None, flops_ratio: float) -> dict[str, Any]:
        """Gives a latency that selection takes for a measured one."""
        expected = self.ms(latency, flops_ratio)
        first = {"value": expected, "high": expected, "verdict": "stable"}
        if not self.others:
            return first
        known = [*((latency or {}).get(OTHERS) or ()), *[None] * len(self.others)]
        pairs = zip(self.others, known, strict=False)
        return joined([first, *(each.as_if_timed(part, flops_ratio) for each, part in pairs)])

    @property
    def margins(self) -> tuple[float, ...]:
        """The margins of all limits, in their order."""
        return (self.margin, *(each.margin for each in self.others))


def is_timed(latency: Latency | None) -> bool:
    """Tells whether a latency was measured, and can be trusted: of several parts, all of them."""
    known = latency or {}
    return _is_stable(known) and all(map(_is_stable, known.get(OTHERS) or ()))


def _is_stable(part: Latency) -> bool:
    return part.get("high") is not None and part.get("verdict") == "stable"


def predicted_of(latency: Latency | None) -> Mapping[str, float]:
    """Gives what was predicted of a point by statistic; nothing where that was not done."""
    return (latency or {}).get(PREDICTED) or {}


def only_predicted(predicted: Mapping[str, float] | None) -> dict[str, Any] | None:
    """Gives the latency of a point that was not timed yet; None where nothing is known."""
    return (
        None if predicted is None else {"verdict": PREDICTED, "value": None, PREDICTED: predicted}
    )


def is_predicted(latency: Latency | None) -> bool:
    """Tells whether something was predicted of a point, for every limit."""
    known = latency or {}
    return all(predicted_of(part) for part in (known, *(known.get(OTHERS) or ())))


def with_predictions(latency: Latency | None, predicted: Latency) -> dict[str, Any]:
    """Gives a latency what is predicted; what was timed for some of several limits stays."""
    known, parts = parts_of(latency), parts_of(predicted)
    if len(known) != len(parts) or len(parts) == 1:
        return dict(predicted)
    return joined([{**guess, **_timed_of(part)} for part, guess in zip(known, parts, strict=True)])


def _timed_of(part: Latency) -> Latency:
    return part if _is_stable(part) else {}


def whole(parts: Sequence[Latency | None], wanted: Sequence[Asked]) -> dict[str, Any]:
    """Puts together what is known of each limit; of some of several, nothing may be."""
    return joined_as([NOTHING if part is None else part for part in parts], wanted)
