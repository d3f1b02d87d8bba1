"""The frontier as a notebook shows it: a picture, and a table of its points."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from trimtab._html import image, paragraph, table
from trimtab._latency_words import latency_text, shown_latency
from trimtab._wording import big, percent, points
from trimtab.selection import Limits, is_feasible

if TYPE_CHECKING:
    from trimtab_storage import PointRow

MOST_ROWS = 12


def recipe_text(point: PointRow) -> str:
    """Writes how a point was made."""
    from trimtab_strategies.recipe import describe

    return describe(point.recipe, point.knobs)


def frontier_parts(
    front: Sequence[PointRow],
    limits: Limits,
    best_id: int,
    metric: str,
    every: Sequence[PointRow] = (),
) -> Iterable[str]:
    """Shows a frontier as a picture and a table, of many points only some; ``every`` is drawn."""
    if not front:
        return
    yield _picture(front, limits, metric, every or front)
    timed = any(shown_latency(point.latency) for point in front)
    latency = ("latency",) if timed else ()
    columns = ("", "point", "FLOPs", "of baseline", *latency, metric, "drop", "params", "recipe")
    shown = _spread([place for place, point in enumerate(front) if point.id == best_id], len(front))
    rows = [_cells(front[place], limits, best_id, timed) for place in shown]
    yield table(columns, rows, right=columns[1:-1])
    if len(front) > len(shown):
        yield paragraph(f"{len(shown)} of {len(front)} points of the frontier")


def _cells(point: PointRow, limits: Limits, best_id: int, timed: bool) -> list[str]:
    mark = "*" if point.id == best_id else ""
    return [
        mark if is_feasible(point, limits) else "-",
        str(point.id),
        big(point.flops),
        percent(point.flops_ratio),
        *([latency_text(point.latency)] if timed else []),
        f"{point.metric:.4f}",
        points(point.drop),
        big(point.params),
        recipe_text(point),
    ]


def _spread(kept: Collection[int], n: int) -> list[int]:
    """Picks places evenly among ``n``, the ends and those that are ``kept`` included."""
    if n <= MOST_ROWS:
        return list(range(n))
    even = [round(place * (n - 1) / (MOST_ROWS - 1)) for place in range(MOST_ROWS)]
    return sorted({*even, *kept})


def _picture(
    front: Sequence[PointRow], limits: Limits, metric: str, drawn: Sequence[PointRow]
) -> str:
    from trimtab._plot_scene import make_scene
    from trimtab._plot_svg import svg_of

    first = front[0]
    dense = replace(
        first,
        drop=0.0,
        metric=first.metric + first.drop,
        flops=first.flops / (first.flops_ratio or 1.0),
        flops_ratio=1.0,
    )
    scene = make_scene(drawn, {p.id for p in front}, dense, limits, "", "flops", metric)
    return image(svg_of(scene), f"The frontier: change of {metric} against FLOPs")
