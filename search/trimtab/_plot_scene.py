"""What a picture of a frontier shows, decided before any plotting library is involved.

Cost goes to the right; the change against the baseline (minus the drop, in points of the metric)
goes up, so that the upper left is where one wants to be.
"""

from __future__ import annotations

import html
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from trimtab._latency_words import latency_text
from trimtab._rules import NOT_MEASURED
from trimtab.query import choose_among
from trimtab.selection import Limits, Measured, is_feasible
from trimtab_strategies.recipe import describe

Cost = Literal["flops", "latency"]

WIDTH_PX, HEIGHT_PX = 1200, 750
BLUE, GREEN, GOLD, RED = "#2563ab", "#3c9d5d", "#f2a900", "#c2413b"
INK, PALE_INK, GREY, PALE_GREY = "#22272e", "#59626e", "#b3bac4", "#eceff2"
VIEW_PT = 3.0
"""At least so far below the baseline points are shown where they lie; in points."""


class Plotted(Measured, Protocol):
    """A measured point together with what made it."""

    @property
    def recipe(self) -> Sequence[Mapping[str, Any]]:
        """The steps, as plain values."""

    @property
    def knobs(self) -> Mapping[str, Any]:
        """The operating point of the finished model."""


@dataclass(frozen=True)
class Mark:
    """One point in the picture's own units; ``text`` is escaped HTML."""

    x: float
    y: float
    x_low: float
    x_high: float
    feasible: bool
    on_frontier: bool
    text: str


@dataclass(frozen=True)
class Scene:
    """Everything that a painter needs; ``unit`` follows a number on the cost axis."""

    title: str
    metric_name: str
    cost: Cost
    unit: str
    marks: list[Mark]
    chosen: Mark | None
    chosen_label: str
    baseline_x: float | None
    baseline_metric: float
    max_x: float | None
    min_y: float | None
    x_range: tuple[float, float]
    y_range: tuple[float, float]
    y_floor: float
    statistic: str = ""

    @property
    def x_label(self) -> str:
        """The name of the cost axis."""
        if self.cost == "flops":
            return "FLOPs per sample, % of the baseline"
        return " ".join([*([self.statistic] if self.statistic else []), "latency of a request, ms"])

    @property
    def y_label(self) -> str:
        """The name of the other axis."""
        return f"change of {self.metric_name} against the baseline, points"

    @property
    def budget_label(self) -> str:
        """What stands at the budget line."""
        return "" if self.max_x is None else f"budget {self.max_x:.4g}{self.unit}"

    @property
    def drop_label(self) -> str:
        """What stands at the line of the largest drop allowed."""
        return "" if self.min_y is None else f"max drop {-self.min_y:.4g} pt"

    @property
    def subtitle(self) -> str:
        """What was measured, and the limits it is held against."""
        limits = [label for label in (self.budget_label, self.drop_label) if label]
        counted = f"{len(self.marks)} point{'' if len(self.marks) == 1 else 's'} measured"
        baseline = f"baseline {self.metric_name} {self.baseline_metric:.4f}"
        return " · ".join([baseline, counted, *limits])

    @property
    def frontier(self) -> list[Mark]:
        """The frontier from cheap to dear."""
        return sorted((m for m in self.marks if m.on_frontier), key=lambda m: (m.x, m.y))

    def dots(self, *, feasible: bool) -> list[Mark]:
        """The points within view that are, or are not, feasible."""
        return [m for m in self.marks if m.feasible == feasible and m.y >= self.y_floor]

    @property
    def below(self) -> list[Mark]:
        """The points that lie too far down to be shown."""
        return [m for m in self.marks if m.y < self.y_floor]


def make_scene(
    points: Sequence[Plotted],
    frontier_ids: Collection[Any],
    baseline: Measured,
    limits: Limits,
    title: str,
    cost: Cost,
    metric_name: str,
) -> Scene:
    """Works out marks, lines, labels and ranges.

    Raises:
        ValueError: if ``cost`` is latency and no point has one.
    """
    drawn = [p for p in points if _x(p, cost) is not None]
    if cost == "latency" and not drawn:
        raise ValueError(
            "a latency plot needs a point with a latency, but none has one; plot FLOPs instead"
        )
    marks = {id(p): _mark(p, cost, limits, p.id in frontier_ids, metric_name) for p in drawn}
    choice = choose_among(drawn, limits) if drawn else None
    chosen = marks[id(choice.point)] if choice else None
    unit = "% FLOPs" if cost == "flops" else " ms"
    max_x, baseline_x = _max_x(limits, baseline, cost), _x(baseline, cost)
    min_y = None if limits.max_drop is None else -100 * limits.max_drop
    xs = [m.x for m in marks.values()] + [x for x in (max_x, baseline_x) if x is not None]
    y_floor, y_top = _y_extent([m.y for m in marks.values()], min_y, chosen)
    room = 0.08 * max(y_top - y_floor, 0.5)
    return Scene(
        title=title,
        metric_name=metric_name,
        cost=cost,
        unit=unit,
        marks=list(marks.values()),
        chosen=chosen,
        chosen_label=_label("best" if choice.feasible else "closest", chosen, unit)
        if choice and chosen
        else "",
        baseline_x=baseline_x,
        baseline_metric=baseline.metric,
        max_x=max_x,
        min_y=min_y,
        x_range=(0.0, 1.06 * max(xs)),
        y_range=(y_floor - room, y_top + 2 * room),
        y_floor=y_floor,
        statistic=_statistic(drawn) if cost == "latency" else "",
    )


def _x(point: Measured, cost: Cost) -> float | None:
    if cost == "flops":
        return 100 * point.flops_ratio
    latency = point.latency
    if latency is None or latency.get("value") is None or latency.get("verdict") in NOT_MEASURED:
        return None
    return float(latency["value"])


def _statistic(points: Sequence[Measured]) -> str:
    """Names what of many requests is drawn; nothing where that is not the same of all points."""
    found = {str((point.latency or {}).get("statistic") or "") for point in points}
    return found.pop() if len(found) == 1 else ""


def _max_x(limits: Limits, baseline: Measured, cost: Cost) -> float | None:
    if cost == "latency":
        return limits.max_latency_ms
    ratios = [] if limits.max_flops_ratio is None else [limits.max_flops_ratio]
    if limits.max_flops is not None:
        ratios.append(limits.max_flops / baseline.flops)
    return 100 * min(ratios) if ratios else None


def _mark(point: Plotted, cost: Cost, limits: Limits, on_frontier: bool, metric_name: str) -> Mark:
    x = _x(point, cost)
    assert x is not None
    interval = (point.latency or {}) if cost == "latency" else {}
    return Mark(
        x=x,
        y=-100 * point.drop,
        x_low=float(interval.get("low") or x),
        x_high=float(interval.get("high") or x),
        feasible=is_feasible(point, limits),
        on_frontier=on_frontier,
        text=_hover(point, metric_name),
    )


def _hover(point: Plotted, metric_name: str) -> str:
    """Describes a point in the HTML that plotly shows; what users wrote is escaped."""
    lines = [
        f"point {point.id}",
        *([describe([step]) for step in point.recipe] or ["dense"]),
        ", ".join(f"{name} = {value}" for name, value in point.knobs.items()),
        f"{metric_name} {point.metric:.4f}, drop {100 * point.drop:.2f} pt",
        f"{100 * point.flops_ratio:.1f}% FLOPs, {point.flops / 1e6:,.1f} MFLOPs",
        "" if _x(point, "latency") is None else latency_text(point.latency),
    ]
    return "<br>".join(html.escape(line) for line in lines if line)


def _label(word: str, mark: Mark, unit: str) -> str:
    # Adding 0.0 takes the sign off a zero that came from below.
    change = f"{round(mark.y, 2) + 0.0:+.2f}".replace("-", "\N{MINUS SIGN}")
    return f"{word}: {mark.x:.1f}{unit}, {change} pt"


def _y_extent(ys: Sequence[float], min_y: float | None, chosen: Mark | None) -> tuple[float, float]:
    """Keeps the neighbourhood of the limit legible, however far down some points lie."""
    wanted = [0.0, *([] if min_y is None else [min_y]), *([] if chosen is None else [chosen.y])]
    deepest = min(-VIEW_PT, 3 * min(wanted))
    return min([*wanted, *(y for y in ys if y >= deepest)]), max([*wanted, *ys])
