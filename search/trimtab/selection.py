"""Choosing among measured points: what meets the limits, which is best, and what to relax.

Legend:
    limit    the most that is allowed of one quantity, included
    excess   (value - limit) / limit: how far a point is over it, relatively; <= 0 is within
    closest  the point whose worst excess is smallest

What the excess of each quantity is relative to, and what counts as none, is told in ``_rules``.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Generic, NamedTuple, Protocol, TypeVar

from trimtab._rules import ONE_POINT, Rule, latency_ms, rules_of


class Measured(Protocol):
    """What selection looks at; rows of the store and plain test objects have it alike."""

    @property
    def id(self) -> Any:
        """What a reader finds the point by."""

    @property
    def metric(self) -> float:
        """The metric's value."""

    @property
    def drop(self) -> float:
        """The baseline's metric minus this one's: positive is worse, 0.01 is one point."""

    @property
    def flops(self) -> float:
        """Mean FLOPs per sample."""

    @property
    def flops_ratio(self) -> float:
        """The same as a fraction of the baseline's."""

    @property
    def latency(self) -> Mapping[str, Any] | None:
        """None, or a mapping with ``value``, ``low``, ``high`` (ms) and ``verdict``.

        Only a latency that was measured and is stable counts; others are as good as none. Where
        several are limited, those after the first are under ``others``.
        """


P = TypeVar("P", bound=Measured)


@dataclass(frozen=True)
class Limits:
    """The most that is allowed; None is no limit.

    ``max_drop`` is in the metric's units, ``max_flops_ratio`` a fraction of the baseline,
    ``max_flops`` a mean per sample. ``max_latency_ms`` holds for the upper end of a latency's
    interval; a point without a stable latency does not meet it. ``other_latencies_ms`` hold alike
    for what a latency has under ``others``, each for the one at its place.

    Raises:
        ValueError: if a limit is not finite, or one on a cost is not positive.
    """

    max_drop: float | None = None
    max_flops_ratio: float | None = None
    max_flops: float | None = None
    max_latency_ms: float | None = None
    other_latencies_ms: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        # A list where the limits were read from JSON.
        object.__setattr__(self, "other_latencies_ms", tuple(self.other_latencies_ms))
        if self.max_drop is not None and not math.isfinite(self.max_drop):
            raise ValueError(f"max_drop must be finite, but got {self.max_drop}")
        for name in ("max_flops_ratio", "max_flops", "max_latency_ms"):
            limit = getattr(self, name)
            if limit is not None and not 0 < limit < math.inf:
                raise ValueError(f"{name} must be positive and finite, but got {limit}")
        if not all(0 < limit < math.inf for limit in self.other_latencies_ms):
            got = self.other_latencies_ms
            raise ValueError(f"other_latencies_ms must be positive and finite, but got {got}")
        if self.other_latencies_ms and self.max_latency_ms is None:
            raise ValueError("other_latencies_ms must come with max_latency_ms, but that is None")

    def to_plain(self) -> dict[str, Any]:
        """Gives the limits as JSON has them; ``Limits(**plain)`` makes equal ones."""
        plain = {**vars(self), "other_latencies_ms": list(self.other_latencies_ms)}
        return plain if self.other_latencies_ms else self.on_points()

    def on_points(self) -> dict[str, float | None]:
        """Gives the limits that a database looks at; it has a column for one latency."""
        return {name: limit for name, limit in vars(self).items() if name != "other_latencies_ms"}

    def on_latency(self) -> Limits:
        """Gives the limits on latency alone."""
        return replace(self, max_drop=None, max_flops_ratio=None, max_flops=None)

    def without_latency(self) -> Limits:
        """Gives the limits on all else."""
        return replace(self, max_latency_ms=None, other_latencies_ms=())

    @property
    def latencies_ms(self) -> tuple[float, ...]:
        """All limits on latency, the main one first."""
        first = () if self.max_latency_ms is None else (self.max_latency_ms,)
        return (*first, *self.other_latencies_ms)

    @property
    def has_budget(self) -> bool:
        """Tells whether any cost is limited."""
        return any(rule.word != "max_drop" for rule in rules_of(self))


@dataclass(frozen=True)
class Choice(Generic[P]):
    """The point to deliver; when it is not feasible, ``relaxations`` says what would help."""

    point: P
    feasible: bool
    relaxations: list[str]


class RecipeScores(NamedTuple):
    """What the sampler is told of one recipe: two numbers to minimise and one constraint."""

    cost_ratio: float
    drop: float
    violation: float


def is_feasible(point: Measured, limits: Limits) -> bool:
    """Tells whether the point is within every limit."""
    return excess(point, limits) <= 0


def excess(point: Measured, limits: Limits) -> float:
    """Measures the worst relative excess over the limits: <= 0 exactly when feasible.

    Infinite where a limited quantity was not measured; minus infinity without limits.
    """
    return max((rule.excess_of(point) for rule in rules_of(limits)), default=-math.inf)


def best(points: Iterable[P], limits: Limits) -> P | None:
    """Finds the smallest drop among the feasible, ties to the lower cost; None if none is.

    Without a limit on any cost it is the lowest cost within the drop, ties to the smaller drop.
    The cost is the FLOPs ratio, or the latency where only that is limited.
    """
    cost_first = not limits.has_budget

    def rank(point: P) -> tuple[float, float]:
        cost = _cost(point, limits)
        return (cost, point.drop) if cost_first else (point.drop, cost)

    return min((p for p in points if is_feasible(p, limits)), key=rank, default=None)


def closest(points: Iterable[P], limits: Limits) -> P:
    """Finds the smallest worst excess; ties to the smaller drop, then to the lower cost.

    Raises:
        ValueError: if there are no points.
    """
    candidates = list(points)
    if not candidates:
        raise ValueError("choosing needs at least one measured point, but there is none")
    return min(candidates, key=lambda p: (excess(p, limits), p.drop, _cost(p, limits)))


def choose(points: Iterable[P], limits: Limits) -> Choice[P]:
    """Chooses the best point, or the closest together with the smallest relaxations.

    Each relaxation raises one limit just so far that a measured point meets them all, the
    smallest relative raise first. Where no single limit is enough, the one relaxation raises
    every limit that the closest point breaks. It is empty if the limits ask for what no point
    has measured.

    Raises:
        ValueError: if there are no points.
    """
    candidates = list(points)
    winner = best(candidates, limits)
    if winner is not None:
        return Choice(winner, True, [])
    nearest = closest(candidates, limits)
    return Choice(nearest, False, _relaxations(candidates, nearest, limits))


def recipe_scores(points: Iterable[Measured], limits: Limits) -> RecipeScores:
    """Sums up all points of one recipe for the sampler.

    ``cost_ratio`` is the lowest cost whose drop is within ``max_drop``, ``drop`` the lowest drop
    whose cost is within the budget; the closest point stands in where there is none.
    ``violation`` is the excess of the best or closest point: <= 0 when feasible. The cost is the
    FLOPs ratio, or where only latency is limited the latency over its limit, infinite if not
    measured.

    Raises:
        ValueError: if there are no points.
    """
    nearest_or_best, cheapest, truest = deciding(points, limits)
    violation = excess(nearest_or_best, limits)
    return RecipeScores(
        cost_ratio=_cost(cheapest, limits),
        drop=truest.drop,
        violation=violation if violation > -math.inf else 0.0,
    )


def deciding(points: Iterable[P], limits: Limits) -> tuple[P, P, P]:
    """Gives the points that alone decide the scores of a recipe: best or closest, cheapest, truest.

    Of these and whatever comes later the scores are those of all points.

    Raises:
        ValueError: if there are no points.
    """
    candidates = list(points)
    nearest = closest(candidates, limits)
    good_enough = [p for p in candidates if is_feasible(p, Limits(max_drop=limits.max_drop))]
    cheap_enough = [p for p in candidates if is_feasible(p, replace(limits, max_drop=None))]
    cheapest = min(good_enough or [nearest], key=lambda p: _cost(p, limits))
    truest = min(cheap_enough or [nearest], key=lambda p: p.drop)
    return best(candidates, limits) or nearest, cheapest, truest


def _cost(point: Measured, limits: Limits) -> float:
    on_flops = limits.max_flops_ratio is not None or limits.max_flops is not None
    if limits.max_latency_ms is None or on_flops:
        return point.flops_ratio
    return latency_ms(point) / limits.max_latency_ms


def _relaxations(points: Sequence[P], nearest: P, limits: Limits) -> list[str]:
    rules = rules_of(limits)
    found: list[tuple[float, str]] = []
    for rule in rules:
        others = [other for other in rules if other is not rule]
        enough = [
            p
            for p in points
            if rule.excess_of(p) < math.inf and all(o.excess_of(p) <= 0 for o in others)
        ]
        if enough:
            point = min(enough, key=lambda p: (rule.value_of(p), p.drop, _cost(p, limits)))
            found.append((rule.excess_of(point), _sentence([rule], point)))
    if not found and excess(nearest, limits) < math.inf:
        broken = [rule for rule in rules if rule.excess_of(nearest) > 0]
        return [_sentence(broken, nearest)]
    return [text for _, text in sorted(found)]


def _sentence(rules: Sequence[Rule], point: Measured) -> str:
    raised = " and ".join(rule.raised_for(point) for rule in rules)
    facts = []
    if all(rule.word != "max_drop" for rule in rules):
        facts.append(f"drop {point.drop / ONE_POINT:.3g} pt")
    if all(rule.word != "flops" for rule in rules):
        facts.append(f"{100 * point.flops_ratio:.3g}% FLOPs")
    return f"raise {raised} (point {point.id}{': ' if facts else ''}{', '.join(facts)})"
