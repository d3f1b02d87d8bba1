"""Paints a scene as one HTML file that carries all it needs, the plotting library included."""

from __future__ import annotations

import html
from pathlib import Path
from typing import Any

import plotly.graph_objects as go

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
    Mark,
    Scene,
)

PAGE = """\
<!doctype html>
<html lang="en">
<head><meta charset="utf-8"><title>{title}</title></head>
<body>{body}</body>
</html>
"""


def paint(scene: Scene, out: Path) -> None:
    """Writes the scene to ``out``."""
    figure = go.Figure(layout=_layout(scene))
    _limits(figure, scene)
    _points(figure, scene)
    _frontier(figure, scene)
    _baseline_and_chosen(figure, scene)
    write_page(figure, scene.title, out)


def write_page(figure: go.Figure, title: str, out: Path) -> None:
    """Writes a figure as a page that needs no network."""
    body = figure.to_html(
        include_plotlyjs=True,
        include_mathjax=False,
        full_html=False,
        default_height=f"{HEIGHT_PX}px",
        config={"displaylogo": False, "responsive": True},
    )
    out.write_text(PAGE.format(title=html.escape(title), body=body), encoding="utf-8")


def _layout(scene: Scene) -> dict[str, Any]:
    layout = page_layout(scene.title, scene.subtitle)
    layout["xaxis"] |= {"title": {"text": scene.x_label}, "range": scene.x_range}
    layout["yaxis"] |= {"title": {"text": html.escape(scene.y_label)}, "range": scene.y_range}
    return layout


def page_layout(title: str, subtitle: str) -> dict[str, Any]:
    """Gives the style that all pictures share, axes without titles; both texts are escaped."""
    title, subtitle = html.escape(title), html.escape(subtitle)
    axis = {"gridcolor": PALE_GREY, "zeroline": False, "tickfont": {"color": PALE_INK}}
    return {
        "template": "none",
        "font": {"family": "system-ui, sans-serif", "size": 14, "color": INK},
        "title": {
            "text": f"<b>{title}</b>",
            "subtitle": {"text": subtitle, "font": {"size": 14, "color": PALE_INK}},
            "font": {"size": 22},
            "x": 0,
            "xref": "paper",
        },
        "xaxis": {**axis},
        "yaxis": {**axis},
        "legend": {"x": 0.99, "y": 0.02, "xanchor": "right", "yanchor": "bottom"},
        "hoverlabel": {"align": "left", "bgcolor": "white", "font": {"color": INK}},
        "margin": {"l": 80, "r": 40, "t": 100, "b": 70},
    }


def _limits(figure: go.Figure, scene: Scene) -> None:
    """Shades where everything is within the limits, and draws and names the limits."""
    (x0, x1), (y0, y1) = scene.x_range, scene.y_range
    right = x1 if scene.max_x is None else scene.max_x
    bottom = y0 if scene.min_y is None else scene.min_y
    line = {"color": GREEN, "width": 1.5, "dash": "dash"}
    label = {"font": {"color": GREEN, "size": 15}, "showarrow": False}
    if scene.max_x is not None or scene.min_y is not None:
        shade = {"fillcolor": GREEN, "opacity": 0.09, "line_width": 0, "layer": "below"}
        figure.add_shape(type="rect", x0=x0, x1=right, y0=bottom, y1=y1, **shade)
    if scene.max_x is not None:
        text = f"<b>{html.escape(scene.budget_label)}</b>"
        figure.add_vline(scene.max_x, line=line)
        at: dict[str, Any] = {"x": scene.max_x, "y": 1, "yref": "paper"}
        figure.add_annotation(text=text, xanchor="left", yanchor="top", **at, **label)
    if scene.min_y is not None:
        text = f"<b>{html.escape(scene.drop_label)}</b>"
        figure.add_hline(scene.min_y, line=line)
        at = {"x": 1, "xref": "paper", "y": scene.min_y}
        figure.add_annotation(text=text, xanchor="right", yanchor="top", **at, **label)


def _points(figure: go.Figure, scene: Scene) -> None:
    """The points; those far below the view are there too, and come up by zooming out."""
    for feasible, color, name in ((False, GREY, "not feasible"), (True, BLUE, "feasible")):
        marks = [m for m in scene.marks if m.feasible == feasible]
        if marks:
            marker = {"color": color, "size": 7, "opacity": 0.75}
            figure.add_trace(_scatter(marks, name, mode="markers", marker=marker, scene=scene))


def _frontier(figure: go.Figure, scene: Scene) -> None:
    """A staircase: between two points, what one can have is what the cheaper one gives."""
    marks = scene.frontier
    if not marks:
        return
    fills = [BLUE if mark.feasible else "white" for mark in marks]
    marker = {"color": fills, "size": 10, "line": {"color": BLUE, "width": 2}}
    line = {"color": BLUE, "width": 2.5, "shape": "hv"}
    trace = _scatter(marks, "frontier", mode="lines+markers", marker=marker, scene=scene)
    figure.add_trace(trace.update(line=line))


def _baseline_and_chosen(figure: go.Figure, scene: Scene) -> None:
    if scene.baseline_x is not None:
        figure.add_scatter(
            x=[scene.baseline_x],
            y=[0],
            name="baseline",
            mode="markers",
            marker={"symbol": "diamond", "size": 14, "color": INK},
            hovertext=[f"baseline: {html.escape(scene.metric_name)} {scene.baseline_metric:.4f}"],
            hoverinfo="text",
        )
    if scene.chosen is None:
        return
    color = GOLD if scene.chosen.feasible else RED
    marker = {"symbol": "star", "size": 22, "color": color, "line": {"color": "white", "width": 1}}
    name = scene.chosen_label.partition(":")[0]
    figure.add_trace(_scatter([scene.chosen], name, mode="markers", marker=marker, scene=scene))
    is_far_left = scene.chosen.x < 0.32 * scene.x_range[1]
    figure.add_annotation(
        x=scene.chosen.x,
        y=scene.chosen.y,
        text=f"<b>{html.escape(scene.chosen_label)}</b>",
        font={"size": 16},
        bgcolor="rgba(255, 255, 255, 0.75)",
        showarrow=False,
        xanchor="left" if is_far_left else "right",
        xshift=12 if is_far_left else -12,
        yshift=22,
    )


def _scatter(marks: list[Mark], name: str, *, scene: Scene, **style: Any) -> go.Scatter:
    trace = go.Scatter(
        x=[m.x for m in marks],
        y=[m.y for m in marks],
        name=name,
        hovertext=[m.text for m in marks],
        hoverinfo="text",
        **style,
    )
    if scene.cost == "latency":
        plus, minus = [m.x_high - m.x for m in marks], [m.x - m.x_low for m in marks]
        bars = {"type": "data", "array": plus, "arrayminus": minus, "thickness": 1, "width": 0}
        trace.update(error_x=bars)
    return trace
