"""What people see: tables on stdout."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from itertools import groupby
from typing import Any

from rich.table import Table

from trimtab._latency_words import latency_text, shown_latency
from trimtab._wording import big as big
from trimtab._wording import duration as duration
from trimtab._wording import one_line as one_line
from trimtab._wording import percent as percent
from trimtab._wording import points as points
from trimtab.cli._console import say, show
from trimtab_storage import PointRow, TrialRow
from trimtab_strategies.recipe import describe


def table(*columns: str, right: Collection[str] = ()) -> Table:
    """Gives an empty table; columns named in ``right`` hold numbers."""
    made = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        made.add_column(column, justify="right" if column in right else "left", overflow="fold")
    return made


def show_frontier(
    rows: Sequence[PointRow], feasible: Collection[int], best_id: int | None, metric: str
) -> None:
    """Prints points from cheap to dear; ``*`` marks the best, ``-`` what is over the limits.

    Of points that are alike in cost and drop one is shown, the best where it is among them.
    Latencies are shown where any was measured.
    """
    timed = any(shown_latency(row.latency) for row in rows)
    latency = ("latency",) if timed else ()
    columns = ("", "point", "FLOPs", "of baseline", *latency, metric, "drop", "params", "recipe")
    shown = table(*columns, right=columns[1:-1])
    for row, alike in _without_ties(rows, best_id):
        more = f" and {alike} alike" if alike else ""
        mark = "*" if row.id == best_id else "" if row.id in feasible else "-"
        shown.add_row(
            mark,
            str(row.id),
            big(row.flops),
            percent(row.flops_ratio),
            *([latency_text(row.latency)] if timed else []),
            f"{row.metric:.4f}",
            points(row.drop),
            big(row.params),
            describe(row.recipe, row.knobs) + more,
        )
    show(shown)


def _without_ties(rows: Sequence[PointRow], best_id: int | None) -> Iterator[tuple[PointRow, int]]:
    """Gives one point of each group that is alike, and how many others it stands for."""
    for _, group in groupby(rows, key=lambda row: (row.flops, row.drop)):
        alike = sorted(group, key=lambda row: (row.id != best_id, row.id))
        yield alike[0], len(alike) - 1


def show_trials(study: str, rows: Sequence[TrialRow], failed: bool) -> None:
    """Prints trials by number: all, or those that failed."""
    if not rows:
        say(
            f"no trial of study {study!r} failed"
            if failed
            else f"study {study!r} has no trials yet"
        )
        return
    columns = ("trial", "state", "time", "reused", "recipe", "reason")
    shown = table(*columns, right=("trial", "time", "reused"))
    for row in rows:
        shown.add_row(
            str(row.number),
            str(row.state),
            duration(row.seconds),
            str(row.reused),
            describe(row.recipe),
            one_line(row.reason or ""),
        )
    show(shown)


def show_facts(facts: dict[str, Any]) -> None:
    """Prints names and values, one a line."""
    shown = Table(box=None, pad_edge=False, show_header=False)
    shown.add_column(style="bold", no_wrap=True)
    shown.add_column(overflow="fold")
    for name, value in facts.items():
        shown.add_row(name, str(value))
    show(shown)
