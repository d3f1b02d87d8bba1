"""Paints a scene as PNG; no pyplot, so that nothing is shared with a user's own figures."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.patheffects import withStroke

from trimtab._plot_scene import (
    BLUE,
    GOLD,
    GREEN,
    GREY,
    HEIGHT_PX,
    INK,
    PALE_GREY,
    PALE_INK,
    RED,
    WIDTH_PX,
    Mark,
    Scene,
)

DPI = 100
LEFT, BOTTOM = 0.075, 0.095
HALO = [withStroke(linewidth=4, foreground="white")]
Conversion = Callable[[Any], Any]
"""From arrays to arrays of the same shape."""


def paint(scene: Scene, out: Path) -> None:
    """Writes the scene to ``out``."""
    figure, axes = page(scene.title, scene.subtitle, (LEFT, BOTTOM, 0.845, 0.79))
    axes.set_xlim(*scene.x_range)
    axes.set_ylim(*scene.y_range)
    _frame(axes, scene)
    _limits(axes, scene)
    _points(axes, scene)
    _frontier(axes, scene)
    _baseline_and_chosen(axes, scene)
    if scene.marks:
        axes.legend(loc="lower right", framealpha=0.95, edgecolor="#dde1e6", fontsize=11)
    figure.savefig(out, dpi=DPI)


def page(
    title: str, subtitle: str, rectangle: tuple[float, float, float, float]
) -> tuple[Figure, Axes]:
    """Titles, and empty axes at left, bottom, width and height. User's text is no mathematics."""
    figure = Figure(figsize=(WIDTH_PX / DPI, HEIGHT_PX / DPI), dpi=DPI, facecolor="white")
    FigureCanvasAgg(figure)
    figure.text(LEFT, 0.945, title, fontsize=18, weight="bold", color=INK, parse_math=False)
    figure.text(LEFT, 0.905, subtitle, fontsize=12, color=PALE_INK, parse_math=False)
    axes = figure.add_axes(rectangle)
    axes.set_axisbelow(True)
    plain_sides(axes)
    axes.spines["bottom"].set_visible(True)
    axes.spines["bottom"].set_color(GREY)
    return figure, axes


def plain_sides(axes: Any) -> None:
    """Numbers alone, without ticks or lines."""
    axes.tick_params(colors=PALE_INK, labelsize=11, length=0)
    for spine in axes.spines.values():
        spine.set_visible(False)


def _frame(axes: Axes, scene: Scene) -> None:
    """What the axes are, and the grid."""
    axes.set_xlabel(scene.x_label, fontsize=12.5, color=INK, labelpad=8)
    axes.set_ylabel(scene.y_label, fontsize=12.5, color=INK, labelpad=8, parse_math=False)
    right = axes.secondary_yaxis("right", functions=_metric_of_change(scene.baseline_metric))
    right.set_ylabel(scene.metric_name, fontsize=12.5, color=INK, labelpad=8, parse_math=False)
    axes.grid(True, color=PALE_GREY, linewidth=1)
    plain_sides(right)


def _metric_of_change(base: float) -> tuple[Conversion, Conversion]:
    return (lambda change: base + change / 100), (lambda metric: 100 * (metric - base))


def _limits(axes: Axes, scene: Scene) -> None:
    """Shades where everything is within the limits, and draws and names the limits."""
    (x0, x1), (y0, y1) = scene.x_range, scene.y_range
    right = x1 if scene.max_x is None else scene.max_x
    bottom = y0 if scene.min_y is None else scene.min_y
    if scene.max_x is not None or scene.min_y is not None:
        corner, size = (x0, bottom), (right - x0, y1 - bottom)
        axes.add_patch(Rectangle(corner, *size, facecolor=GREEN, alpha=0.09, linewidth=0, zorder=0))
    if scene.max_x is not None:
        axes.axvline(scene.max_x, color=GREEN, linestyle=(0, (6, 4)), linewidth=1.5, zorder=2)
        axes.annotate(
            scene.budget_label,
            (scene.max_x, y1),
            xytext=(7, -6),
            textcoords="offset points",
            va="top",
            color=GREEN,
            fontsize=12,
            weight="bold",
        )
    if scene.min_y is not None:
        axes.axhline(scene.min_y, color=GREEN, linestyle=(0, (6, 4)), linewidth=1.5, zorder=2)
        axes.annotate(
            scene.drop_label,
            (x1, scene.min_y),
            xytext=(-6, -6),
            textcoords="offset points",
            ha="right",
            va="top",
            color=GREEN,
            fontsize=12,
            weight="bold",
        )


def _points(axes: Axes, scene: Scene) -> None:
    for feasible, color, label in ((False, GREY, "not feasible"), (True, BLUE, "feasible")):
        marks = scene.dots(feasible=feasible)
        xs, ys = _coordinates(marks)
        if marks:
            axes.scatter(xs, ys, s=26, color=color, alpha=0.75, linewidths=0, label=label, zorder=3)
        if scene.cost == "latency":
            axes.hlines(ys, [m.x_low for m in marks], [m.x_high for m in marks], color, alpha=0.5)
    if scene.below:
        low, high = scene.y_range
        axes.scatter(
            [m.x for m in scene.below],
            [low + 0.018 * (high - low)] * len(scene.below),
            s=34,
            marker="v",
            color=GREY,
            linewidths=0,
            label=f"{len(scene.below)} further down",
            zorder=3,
        )


def _frontier(axes: Axes, scene: Scene) -> None:
    """A staircase: between two points, what one can have is what the cheaper one gives."""
    marks = scene.frontier
    if not marks:
        return
    axes.step(*_coordinates(marks), where="post", color=BLUE, linewidth=2, zorder=4)
    axes.plot([], [], color=BLUE, linewidth=2, marker="o", markersize=7, label="frontier")
    for mark in [m for m in marks if m.y >= scene.y_floor]:
        fill = BLUE if mark.feasible else "white"
        axes.plot(mark.x, mark.y, "o", ms=8, mfc=fill, mec=BLUE, mew=1.8, zorder=5)


def _baseline_and_chosen(axes: Axes, scene: Scene) -> None:
    if scene.baseline_x is not None:
        axes.plot(scene.baseline_x, 0, "D", ms=10, mfc=INK, mec="white", mew=1.5, zorder=6)
        axes.annotate(
            "baseline",
            (scene.baseline_x, 0),
            xytext=(0, 12),
            textcoords="offset points",
            ha="center",
            fontsize=12,
            color=INK,
        )
    if scene.chosen is None:
        return
    color = GOLD if scene.chosen.feasible else RED
    at = (scene.chosen.x, scene.chosen.y)
    axes.plot(*at, "*", ms=24, mfc=color, mec="white", mew=1.4, zorder=7)
    is_far_left = scene.chosen.x < 0.32 * scene.x_range[1]
    axes.annotate(
        scene.chosen_label,
        at,
        xytext=(14 if is_far_left else -14, 16),
        textcoords="offset points",
        ha="left" if is_far_left else "right",
        path_effects=HALO,
        fontsize=13,
        weight="bold",
        color=INK,
        zorder=8,
    )


def _coordinates(marks: list[Mark]) -> tuple[list[float], list[float]]:
    return [m.x for m in marks], [m.y for m in marks]
