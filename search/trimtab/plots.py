"""Pictures of a frontier: PNG by matplotlib, self-contained HTML by plotly."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

from trimtab._plot_scene import Cost, Plotted, make_scene
from trimtab.selection import Limits, Measured


def plot_frontier(
    points: Sequence[Plotted],
    frontier_ids: Collection[Any],
    baseline: Measured,
    limits: Limits,
    title: str,
    out: Path,
    *,
    cost: Cost = "flops",
    metric_name: str = "metric",
) -> None:
    """Draws all points, the frontier through those named, the limits, and the best point.

    The suffix of ``out`` decides the format: ``.png`` is 1200 x 750 pixels, ``.html`` needs no
    network and shows each point's recipe under the pointer. Points without a latency are left
    out of a latency plot. An existing file is replaced.

    Raises:
        ValueError: if the suffix is neither, or no point has the cost that is asked for.
    """
    suffix = out.suffix.lower()
    if suffix not in (".png", ".html"):
        raise ValueError(f"a plot must be written to a .png or .html file, but got {out.name!r}")
    scene = make_scene(points, frontier_ids, baseline, limits, title, cost, metric_name)
    if suffix == ".png":
        from trimtab._plot_png import paint
    else:
        from trimtab._plot_html import paint
    paint(scene, out)
