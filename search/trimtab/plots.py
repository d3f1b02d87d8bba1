"""Pictures of a study: PNG by matplotlib, self-contained HTML by plotly.

The suffix of a file decides its format: ``.png`` is 1200 x 750 pixels, ``.html`` needs no network
and tells more under the pointer. An existing file is replaced.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trimtab._plot_scene import Cost, Plotted, make_scene
from trimtab.selection import Limits, Measured

if TYPE_CHECKING:
    from trimtab.importance import Importance
    from trimtab.progress import Grown


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

    Points without a latency are left out of a latency plot.

    Raises:
        ValueError: if the suffix is neither, or no point has the cost that is asked for.
    """
    is_png = _is_png(out)
    scene = make_scene(points, frontier_ids, baseline, limits, title, cost, metric_name)
    if is_png:
        from trimtab._plot_png import paint
    else:
        from trimtab._plot_html import paint
    paint(scene, out)


def plot_growth(
    grown: Sequence[Grown], title: str, out: Path, *, max_drop: float, patience: int | None = None
) -> None:
    """Draws the hypervolume over the time of the search, with a mark for every trial.

    The latest ``patience`` trials, which ``search.stop`` judges, are shaded.

    Raises:
        ValueError: if the suffix is neither, or no trial has ended.
    """
    from trimtab._plot_course_scene import make_course

    is_png = _is_png(out)
    course = make_course(grown, title, max_drop, patience)
    if is_png:
        from trimtab._plot_course_png import paint_course
    else:
        from trimtab._plot_course_html import paint_course
    paint_course(course, out)


def plot_choices(importance: Importance, title: str, out: Path) -> None:
    """Draws which choices mattered, as bars.

    Raises:
        ValueError: if the suffix is neither.
    """
    from trimtab._plot_course_scene import make_bars

    is_png = _is_png(out)
    if is_png:
        from trimtab._plot_course_png import paint_bars
    else:
        from trimtab._plot_course_html import paint_bars
    paint_bars(make_bars(importance, title), out)


def _is_png(out: Path) -> bool:
    suffix = out.suffix.lower()
    if suffix not in (".png", ".html"):
        raise ValueError(f"a plot must be written to a .png or .html file, but got {out.name!r}")
    return suffix == ".png"
