"""What people see: tables on stdout, and how numbers are written in them."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from itertools import groupby
from typing import Any

from rich.table import Table

from trimtab.cli._console import say, show
from trimtab_storage import PointRow, TrialRow
from trimtab_strategies.recipe import describe


def table(*columns: str, right: Collection[str] = ()) -> Table:
    """Gives an empty table; columns named in ``right`` hold numbers."""
    made = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        made.add_column(column, justify="right" if column in right else "left", overflow="fold")
    return made


def percent(value: float) -> str:
    """Writes a ratio: ``45.2%``."""
    return f"{100 * value:.1f}%"


def points(value: float) -> str:
    """Writes a drop in points: ``+0.40 pt`` is worse."""
    return f"{100 * value:+.2f} pt"


def big(value: float) -> str:
    """Writes FLOPs or a count shortly: ``1.24 G``."""
    for size, letter in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        # From 999.5 on, three figures round up to the next letter.
        if abs(value) >= 0.9995 * size:
            return f"{value / size:.3g} {letter}"
    return f"{value:.0f}"


def duration(seconds: float | None) -> str:
    """Writes a time shortly: ``3 min 20 s``."""
    if seconds is None:
        return "–"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


def one_line(text: str) -> str:
    """Writes a text that may come from anywhere on one line, without control characters."""
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())


def show_frontier(
    rows: Sequence[PointRow], feasible: Collection[int], best_id: int | None, metric: str
) -> None:
    """Prints points from cheap to dear; ``*`` marks the best, ``-`` what is over the limits.

    Of points that are alike in cost and drop one is shown, the best where it is among them.
    """
    columns = ("", "point", "FLOPs", "of baseline", metric, "drop", "params", "recipe")
    shown = table(*columns, right=columns[1:-1])
    for row, alike in _without_ties(rows, best_id):
        more = f" and {alike} alike" if alike else ""
        mark = "*" if row.id == best_id else "" if row.id in feasible else "-"
        shown.add_row(
            mark,
            str(row.id),
            big(row.flops),
            percent(row.flops_ratio),
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
