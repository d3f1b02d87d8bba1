"""The pictures of ``trimtab plot``: the frontier, how it grew, and which choices mattered."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from trimtab.cli._show import check_cost
from trimtab.errors import InputError, NothingFinishedError
from trimtab.study import Study

FRONTIER, OVER_TIME, CHOICES = "frontier", "over-time", "choices"


def wanted_picture(over_time: bool, choices: bool, cost: str) -> str:
    """Tells which picture the options ask for.

    Raises:
        InputError: if they ask for two, or for a cost where there is none to choose.
    """
    if over_time and choices:
        raise InputError("--over-time and --choices are two pictures: give one of them at a time")
    if not over_time and not choices:
        return FRONTIER
    wanted = OVER_TIME if over_time else CHOICES
    if cost != "flops":
        raise InputError(f"--{wanted} is told in FLOPs only: leave out --cost {cost}")
    return wanted


def draw_picture(study: Study, picture: str, out: Path, cost: str) -> dict[str, Any]:
    """Writes a picture; gives what of it there is to tell beside the file's name.

    Raises:
        InputError: if the study has too little for it yet, or the file's suffix is no picture's.
        NothingFinishedError: if nothing was measured yet.
    """
    if picture == FRONTIER:
        _draw_frontier(study, out, cost)
        return {}
    try:
        return _draw_growth(study, out) if picture == OVER_TIME else _draw_choices(study, out)
    except ValueError as error:
        raise InputError(str(error)) from error


def _draw_frontier(study: Study, out: Path, cost: str) -> None:
    from trimtab.plots import plot_frontier

    check_cost(cost)
    row, every = study.row(), study.points()
    if not every or row.baseline is None:
        raise NothingFinishedError(f"study {study.name!r} has no measured points yet")
    baseline = next(point for point in every if point.artifact_key == row.baseline["artifact"])
    shown = {point.id for point in study.frontier_points(None, cost)}
    try:
        plot_frontier(
            every,
            shown,
            baseline,
            study.limits(),
            study.name,
            out,
            cost="latency" if cost == "latency" else "flops",
            metric_name=row.spec["task"]["metric"],
        )
    except ValueError as error:
        raise InputError(str(error)) from error


def _draw_growth(study: Study, out: Path) -> dict[str, Any]:
    from trimtab.plots import plot_growth
    from trimtab.progress import growth

    row, limits = study.row(), study.limits()
    grown = growth(study.trial_rows(), study.points(), limits.max_drop or 0.0)
    if not grown:
        raise NothingFinishedError(f"no trial of study {study.name!r} has ended yet")
    stop = row.spec["search"].get("stop")
    patience = None if stop is None else stop["patience"]
    plot_growth(grown, study.name, out, max_drop=limits.max_drop or 0.0, patience=patience)
    return {
        "over_time": [
            {"trial": one.trial.number, "at_s": one.at_s, "hypervolume": one.hypervolume}
            for one in grown
        ]
    }


def _draw_choices(study: Study, out: Path) -> dict[str, Any]:
    from trimtab.importance import importance_of
    from trimtab.plots import plot_choices

    trials, points = study.trial_rows(), study.points()
    found = importance_of(study.name, trials, points, study.limits())
    plot_choices(found, study.name, out)
    return {"choices": dict(found.shares)}
