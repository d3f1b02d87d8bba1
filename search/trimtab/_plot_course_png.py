"""Paints the pictures of a search's course as PNG, in the style of the frontier's."""

from __future__ import annotations

from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from trimtab._plot_course_scene import Bars, Course
from trimtab._plot_png import BOTTOM, DPI, HALO, LEFT, page
from trimtab._plot_scene import (
    BLUE,
    GREEN,
    GREY,
    INK,
    PALE_GREY,
    RED,
)

HEIGHT = 0.77


def paint_course(course: Course, out: Path) -> None:
    """Writes how the hypervolume grew to ``out``."""
    figure, axes = page(course.title, course.subtitle, (LEFT, BOTTOM, 0.96 - LEFT, HEIGHT))
    axes.set_xlim(*course.x_range)
    axes.set_ylim(*course.y_range)
    axes.set_xlabel(course.x_label, fontsize=12.5, color=INK, labelpad=8)
    axes.set_ylabel(course.y_label, fontsize=12.5, color=INK, labelpad=8)
    axes.grid(True, color=PALE_GREY, linewidth=1)
    _judged(axes, course)
    _steps(axes, course)
    axes.legend(loc="lower right", framealpha=0.95, edgecolor="#dde1e6", fontsize=11)
    figure.savefig(out, dpi=DPI)


def paint_bars(bars: Bars, out: Path) -> None:
    """Writes which choices mattered to ``out``."""
    figure, axes = page(bars.title, bars.subtitle, (0.25, BOTTOM, 0.71, HEIGHT))
    names, lengths = [bar.name for bar in bars.bars], [bar.length for bar in bars.bars]
    places = range(len(names))
    axes.barh(places, lengths, height=0.62, color=BLUE, zorder=3)
    axes.set_yticks(places, names, fontsize=12.5, color=INK, parse_math=False)
    axes.set_ylim(max(len(names), 5) - 0.4, -0.6)
    axes.set_xlim(0, 1.1 * max(lengths))
    axes.set_xlabel(bars.x_label, fontsize=12.5, color=INK, labelpad=8)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(True, axis="x", color=PALE_GREY, linewidth=1)
    axes.tick_params(axis="y", colors=INK, labelsize=12.5)
    for place, bar in enumerate(bars.bars):
        axes.annotate(
            bar.label,
            (bar.length, place),
            xytext=(7, 0),
            textcoords="offset points",
            va="center",
            fontsize=12,
            weight="bold",
            color=INK,
        )
    figure.savefig(out, dpi=DPI)


def _judged(axes: Axes, course: Course) -> None:
    """Shades the trials that ``search.stop`` judges."""
    if course.last is None:
        return
    start, stop = course.last
    axes.axvspan(start, stop, facecolor=GREEN, alpha=0.09, linewidth=0, zorder=0)
    axes.annotate(
        course.last_label,
        (stop, course.y_range[1]),
        xytext=(-6, -8),
        textcoords="offset points",
        ha="right",
        va="top",
        color=GREEN,
        fontsize=12,
        weight="bold",
        path_effects=HALO,
    )


def _steps(axes: Axes, course: Course) -> None:
    steps = course.steps
    axes.step([s.x for s in steps], [s.y for s in steps], where="post", color=BLUE, lw=2, zorder=3)
    kinds = (
        ([s for s in steps if not s.has_grown and not s.failed], "o", GREY, 5, "trial"),
        ([s for s in steps if s.has_grown], "o", BLUE, 8, "trial that found better"),
        ([s for s in steps if s.failed], "x", RED, 8, "failed trial"),
    )
    for shown, marker, color, size, label in kinds:
        if shown:
            xs, ys = [s.x for s in shown], [s.y for s in shown]
            axes.plot(xs, ys, marker, ms=size, color=color, mew=2, label=label, ls="", zorder=4)
    axes.annotate(
        course.end_label,
        (steps[-1].x, steps[-1].y),
        xytext=(0, 12),
        textcoords="offset points",
        ha="center",
        fontsize=13,
        weight="bold",
        color=INK,
        path_effects=HALO,
        zorder=5,
    )
