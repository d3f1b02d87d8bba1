"""Paints the pictures of a search's course as HTML that carries all it needs."""

from __future__ import annotations

import html
from pathlib import Path
from typing import Any

import plotly.graph_objects as go

from trimtab._plot_course_scene import Bars, Course, Step
from trimtab._plot_html import page_layout, write_page
from trimtab._plot_scene import BLUE, GREEN, GREY, INK, RED


def paint_course(course: Course, out: Path) -> None:
    """Writes how the hypervolume grew to ``out``."""
    layout = page_layout(course.title, course.subtitle)
    layout["xaxis"] |= {"title": {"text": course.x_label}, "range": course.x_range}
    layout["yaxis"] |= {"title": {"text": course.y_label}, "range": course.y_range}
    figure = go.Figure(layout=layout)
    _judged(figure, course)
    line = {"color": BLUE, "width": 2.5, "shape": "hv"}
    xs, ys = [step.x for step in course.steps], [step.y for step in course.steps]
    figure.add_scatter(x=xs, y=ys, mode="lines", line=line, hoverinfo="skip", showlegend=False)
    _steps(figure, course)
    figure.add_annotation(
        x=course.steps[-1].x,
        y=course.steps[-1].y,
        text=f"<b>{course.end_label}</b>",
        font={"size": 16},
        showarrow=False,
        yshift=20,
    )
    write_page(figure, course.title, out)


def paint_bars(bars: Bars, out: Path) -> None:
    """Writes which choices mattered to ``out``."""
    layout = page_layout(bars.title, bars.subtitle)
    layout["xaxis"] |= {"title": {"text": bars.x_label}}
    layout["yaxis"] |= {"autorange": "reversed", "automargin": True, "showgrid": False}
    layout["yaxis"] |= {"tickfont": {"color": INK}, "ticksuffix": "  "}
    figure = go.Figure(layout=layout)
    figure.add_bar(
        x=[bar.length for bar in bars.bars],
        y=[html.escape(bar.name) for bar in bars.bars],
        text=[f"<b>{html.escape(bar.label)}</b>" for bar in bars.bars],
        textposition="outside",
        cliponaxis=False,
        orientation="h",
        marker={"color": BLUE},
        width=0.62,
        hovertemplate="%{y}: %{x:.1f}%<extra></extra>",
    )
    write_page(figure, bars.title, out)


def _judged(figure: go.Figure, course: Course) -> None:
    """Shades the trials that ``search.stop`` judges."""
    if course.last is None:
        return
    start, stop = course.last
    shade = {"fillcolor": GREEN, "opacity": 0.09, "line_width": 0, "layer": "below"}
    figure.add_vrect(x0=start, x1=stop, **shade)
    at: dict[str, Any] = {"x": stop, "y": 1, "yref": "paper", "xanchor": "right", "yanchor": "top"}
    text, font = f"<b>{html.escape(course.last_label)}</b>", {"color": GREEN, "size": 15}
    figure.add_annotation(text=text, font=font, showarrow=False, **at)


def _steps(figure: go.Figure, course: Course) -> None:
    steps = course.steps
    flat = [s for s in steps if not s.has_grown and not s.failed]
    _dots(figure, flat, "trial", {"color": GREY, "size": 7})
    grown = [s for s in steps if s.has_grown]
    _dots(figure, grown, "trial that found better", {"color": BLUE, "size": 10})
    failed = [s for s in steps if s.failed]
    _dots(figure, failed, "failed trial", {"color": RED, "size": 9, "symbol": "x"})


def _dots(figure: go.Figure, shown: list[Step], name: str, marker: dict[str, Any]) -> None:
    if shown:
        figure.add_scatter(
            x=[step.x for step in shown],
            y=[step.y for step in shown],
            name=name,
            mode="markers",
            marker=marker,
            hovertext=[step.text for step in shown],
            hoverinfo="text",
        )
