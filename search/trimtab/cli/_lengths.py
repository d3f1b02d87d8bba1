"""A frontier by length of text: as JSON, as CSV and as a table."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import TYPE_CHECKING, Literal, TypeVar

from trimtab.cli._console import put, say, show
from trimtab.cli._options import print_json
from trimtab.cli._show import check_cost, put_csv
from trimtab.cli._tables import percent, points, table
from trimtab.errors import InputError
from trimtab.selection import Limits
from trimtab.study import Study
from trimtab_strategies.recipe import describe

if TYPE_CHECKING:
    from trimtab.by_length import ByLength, InBucket, PointByLength

T = TypeVar("T")

MOST_SHOWN = 20
NOTHING = "–"


def show_by_length(
    study: Study, limits: Limits | None, cost: str, form: Literal["json", "csv", "table"]
) -> None:
    """Prints what the points of a frontier cost and lose among short and long texts.

    What is missing is told on stderr.

    Raises:
        InputError: if another cost than FLOPs is asked for, or the baseline's files are gone.
    """
    check_cost(cost)
    if cost != "flops":
        raise InputError(f"--by-length tells FLOPs and drop only: leave out --cost {cost}")
    # Not above: whoever asks for the plain frontier need not wait for numpy.
    from trimtab.by_length import COLUMNS, by_length_lines, by_length_plain

    found = study.points_by_length(limits)
    if form == "json":
        print_json(by_length_plain(study.name, found))
    elif form == "csv":
        lines = by_length_lines(found)
        put_csv(COLUMNS, [{**line, "recipe": describe(line["recipe"])} for line in lines])
    else:
        _show_table(study, found)
    for fault in found.faults():
        put(f"{fault}\n", sys.stderr)


def _show_table(study: Study, found: ByLength) -> None:
    if not found.points:
        known = found.without or study.points()
        say(f"{study.name}: {'no point to show' if known else 'nothing is measured yet'}")
        return
    groups = list(_alike(found.points))
    shown = _spread(groups)
    say(f"{study.name}: FLOPs as a share of the baseline's, and drop, by length in tokens")
    _draw(shown, found.counts)
    left_out = sum(len(group) for group in groups) - sum(len(group) for group in shown)
    if left_out:
        say(f"{left_out} points in between are left out; --json and --csv have all")


def _draw(groups: Sequence[Sequence[PointByLength]], counts: Sequence[int | None]) -> None:
    headings = [f"{span} ({n} rows)" for span, n in zip(_spans(), counts, strict=True)]
    columns = [name for heading in headings for name in (heading, "drop")]
    drawn = table("point", *columns, "recipe", right=("point", *columns))
    for first, *others in groups:
        cells = [cell for here in first.buckets for cell in _cells(here)]
        more = f" and {len(others)} alike" if others else ""
        made = describe(first.point.recipe, first.point.knobs) + more
        drawn.add_row(str(first.point.id), *cells, made)
    show(drawn)


def _cells(here: InBucket | None) -> tuple[str, str]:
    if here is None:
        return NOTHING, NOTHING
    return percent(here.flops_ratio), NOTHING if here.drop is None else points(here.drop)


def _spans() -> list[str]:
    from trimtab_strategies.replay import LENGTH_BUCKETS

    return [f"> {low - 1}" if high is None else f"{low}–{high}" for low, high in LENGTH_BUCKETS]


def _alike(found: Sequence[PointByLength]) -> Iterator[list[PointByLength]]:
    """Puts together those that are alike in cost and drop, in every bucket as on the whole."""
    for _, group in groupby(found, key=lambda one: (one.point.flops, one.point.drop, one.buckets)):
        yield list(group)


def _spread(every: Sequence[T]) -> list[T]:
    """Gives so many as can be looked at, from the first to the last in even steps."""
    if len(every) <= MOST_SHOWN:
        return list(every)
    step = (len(every) - 1) / (MOST_SHOWN - 1)
    return [every[round(place * step)] for place in range(MOST_SHOWN)]
