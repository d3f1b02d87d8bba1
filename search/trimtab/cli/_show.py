"""From results to what is shown: as JSON-able values and as text."""

from __future__ import annotations

import csv
import json
import shlex
from collections.abc import Mapping, Sequence
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trimtab._latency_words import and_latency, latency_text, shown_latency
from trimtab._parts import joined, parts_of
from trimtab.cli._console import put, say
from trimtab.cli._tables import (
    big,
    duration,
    percent,
    points,
    show_facts,
    show_frontier,
)
from trimtab.errors import InputError
from trimtab.selection import Choice, Limits, is_feasible
from trimtab.study import POINT_FIELDS, Study, baseline_plain, point_plain
from trimtab_storage import PointRow, TrialRow
from trimtab_strategies.recipe import describe

if TYPE_CHECKING:
    from trimtab.controller import RunResult, TimingCost
    from trimtab.emission import Emission
    from trimtab.plan import Plan
    from trimtab.spec import Spec

COSTS = ("flops", "latency")
FAR_DROP = 0.05
"""Points that lose so much more than is allowed are not shown at the end of a run."""


def frontier_plain(study: Study, limits: Limits | None, cost: str) -> dict[str, Any]:
    """Gives a frontier as ``frontier --json`` does."""
    check_cost(cost)
    judged = limits or study.limits()
    baseline = baseline_plain(study.row()) or {}
    names = ("metric", "flops", "params", "latency_ms")
    return {
        "study": study.name,
        "cost": cost,
        "baseline": {name: baseline.get(name) for name in names},
        "points": [point_plain(p, judged) for p in study.frontier_points(limits, cost)],
    }


def print_csv(study: Study, limits: Limits | None, cost: str) -> None:
    """Prints a frontier as CSV on stdout; what is not a text or a number is written as JSON."""
    found = frontier_plain(study, limits, cost)["points"]
    put_csv(POINT_FIELDS, [{**point, "recipe": describe(point["recipe"])} for point in found])


def put_csv(columns: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> None:
    """Writes rows as CSV on stdout, with a head; what is None is left empty."""
    drawn = StringIO()
    writer = csv.writer(drawn, lineterminator="\n")
    writer.writerow(columns)
    for row in rows:
        writer.writerow([_cell(row[name]) for name in columns])
    put(drawn.getvalue())


def _cell(value: Any) -> Any:
    return json.dumps(value) if isinstance(value, dict | bool) else value


def show_study_frontier(study: Study, limits: Limits | None, cost: str) -> None:
    """Prints a frontier, with what is best and what to relax if nothing meets the limits."""
    check_cost(cost)
    row, judged = study.row(), limits or study.limits()
    n_points = study.n_points()
    if not n_points or row.baseline is None:
        say(f"{study.name}: nothing is measured yet")
        return
    shown = study.frontier_points(limits, cost)
    choice = study.choose(judged)
    feasible = {point.id for point in shown if is_feasible(point, judged)}
    best_id = choice.point.id if choice.feasible else None
    metric = row.spec["task"]["metric"]
    say(
        f"{study.name}: {metric} {row.baseline['metric']:.4f} at "
        f"{_cost_of(row.baseline)} is the baseline; {n_points} points measured"
    )
    if shown:
        show_frontier(shown, feasible, best_id, metric)
    _say_choice(choice)


def _say_choice(choice: Choice[PointRow]) -> None:
    point = choice.point
    what = f"point {point.id}: {_standing(vars(point))}"
    lines = [f"best within the limits: {what}"]
    if not choice.feasible:
        lines = [f"nothing meets the limits; closest: {what}"]
        lines += [f"  it would be enough to {text}" for text in choice.relaxations]
    for line in lines:
        say(line)


def _standing(point: Mapping[str, Any]) -> str:
    """Writes what a point costs and loses."""
    latency = point.get("latency_ms") or point.get("latency")
    cost = f"{percent(point['flops_ratio'])} FLOPs{and_latency(latency)}"
    return f"{cost} at {points(point['drop'])}"


def _cost_of(baseline: Mapping[str, Any]) -> str:
    return f"{big(baseline['flops'])}FLOPs{and_latency(baseline.get('latency_ms'))}"


def trials_plain(study: Study, rows: Sequence[TrialRow]) -> list[dict[str, Any]]:
    """Gives trials as ``trials --json`` does."""
    owned: dict[int | None, list[int]] = {}
    for point in study.points():
        owned.setdefault(point.trial_id, []).append(point.id)
    names = ("number", "recipe", "state", "reason", "attempts", "seconds", "reused")
    return [
        {**{name: getattr(row, name) for name in names}, "points": owned.get(row.id, [])}
        for row in rows
    ]


def show_status(found: dict[str, Any]) -> None:
    """Prints where a study stands."""
    best, baseline = found["best"], found["baseline"]
    trials = ", ".join(f"{count} {state}" for state, count in found["trials"].items() if count)
    facts = {"study": found["study"], "state": found["state"], "trials": trials or "none yet"}
    if baseline is not None:
        facts["baseline"] = f"{baseline['metric']:.4f} at {_cost_of(baseline)}"
    elif found["state"] == "running":
        facts["baseline"] = "being measured, after fine-tuning where the model has no head"
    else:
        facts["baseline"] = "not measured yet"
    if best is not None:
        word = "best" if best["feasible"] else "closest"
        made = describe(best["recipe"], best["knobs"])
        facts[word] = f"point {best['id']}: {_standing(best)} ({made})"
    facts["time used"] = duration(found["elapsed_s"])
    if found["remaining_s"] is not None:
        facts["time left"] = f"at most {duration(found['remaining_s'])}"
    show_facts(facts)


def show_plan(plan: Plan) -> None:
    """Prints a plan, warnings last."""
    show_facts(plan.facts())
    for warning in plan.warnings:
        say(f"warning: {warning}")


def emission_plain(choice: Choice[PointRow], emission: Emission, limits: Limits) -> dict[str, Any]:
    """Gives a checkpoint that was written for some limits as JSON-able values."""
    latency = shown_latency(choice.point.latency, limits.other_latencies_ms)
    return {
        "checkpoint": str(emission.path),
        "feasible": choice.feasible,
        "relaxations": list(choice.relaxations),
        "point": {**point_plain(choice.point), "latency_ms": latency},
        "certified": emission.certificate.holds,
        "certificate": emission.certificate.facts(),
        "delivered_latency": delivered_plain(emission.latency),
    }


def show_emission(choice: Choice[PointRow], emission: Emission) -> None:
    """Prints what was written and how it did on unseen rows."""
    _say_choice(choice)
    facts = emission.certificate.facts()
    low, high = facts["drop_interval_95"]
    verdict = "" if emission.certificate.holds else "; this is over the allowed drop: not certified"
    say(
        f"on {facts['n']} rows that decided nothing: {facts['metric']:.4f}, drop "
        f"{points(facts['drop'])} ({points(low)} to {points(high)}){verdict}"
    )
    if emission.latency is not None:
        say(f"timed in a fresh process: {latency_text(emission.latency)}{_held(emission.latency)}")
    say(f"checkpoint: {_shortest(emission.path)}")


def delivered_plain(latency: dict[str, Any] | None) -> dict[str, Any] | None:
    """Gives what ``--json`` tells of how long a checkpoint took; None where it was not timed."""
    if latency is None:
        return None
    parts = [
        {
            **(shown_latency(part) or {}),
            **{name: part.get(name) for name in ("holds", "max_ms", "reason", "verdict")},
        }
        for part in parts_of(latency)
    ]
    return joined(parts)


def _held(latency: dict[str, Any]) -> str:
    words = {True: ", within the budget", False: ", over the budget", None: ": not confirmed"}
    return words[latency["holds"]]


def _shortest(path: Path) -> Path:
    """Gives a path as one would type it here."""
    try:
        return path.relative_to(Path.cwd())
    except (ValueError, OSError):
        return path


def run_plain(result: RunResult) -> dict[str, Any]:
    """Gives a run's result as JSON-able values."""
    timing = {} if result.timing is None else {"timing": result.timing.to_plain()}
    emitted = emission_plain(result.choice, result.emission, result.limits)
    return {"study": result.study, **emitted, **timing}


def show_result(result: RunResult, spec: Spec) -> None:
    """Prints the frontier and the checkpoint of a run."""
    feasible = {point.id for point in result.frontier if is_feasible(point, result.limits)}
    best_id = result.choice.point.id if result.choice.feasible else None
    near = [point for point in result.frontier if is_near(point, result)]
    show_frontier(near, feasible, best_id, spec.task.metric)
    if n_left := len(result.frontier) - len(near):
        named = f"trimtab frontier {shlex.quote(result.study)}"
        say(f"{n_left} cheaper points with larger drops are left out: {named}")
    show_emission(result.choice, result.emission)
    if result.timing is not None:
        say(timing_text(result.timing))


def timing_text(cost: TimingCost) -> str:
    """Writes what timing took as ``timing took 41 s of 8 min 0 s (8.5%)``.

    A second or more that it waited for other runs is said too.
    """
    spent, whole = duration(cost.seconds), duration(cost.elapsed_s)
    waited = (
        f", and waited {duration(cost.held_up_s)} for other runs" if cost.held_up_s >= 1 else ""
    )
    return f"timing took {spent} of {whole} ({percent(cost.share)}){waited}"


def is_near(point: PointRow, result: RunResult) -> bool:
    """Tells whether a point is good enough to be looked at, or is the one that was delivered."""
    if result.limits.max_drop is None or point.id == result.choice.point.id:
        return True
    return point.drop <= result.limits.max_drop + FAR_DROP


def show_verified(folder: Path, found: dict[str, Any]) -> None:
    """Prints what ``verify`` found."""
    say(
        f"{folder}: {found['files']} files and {found['tensors']} tensors are as they were "
        f"written; logits within {found['max_logit_difference']:.1g}; "
        f"{big(found['flops'])}FLOPs per sample, {big(found['params'])} parameters"
    )
    if "metric" in found:
        say(
            f"{found['metric_name']} {found['metric']:.4f} on {found['n']} rows, "
            f"{big(found['flops_on'])}FLOPs per sample there"
        )


def check_cost(cost: str) -> None:
    """Checks that there is such a cost.

    Raises:
        InputError: if there is none.
    """
    if cost not in COSTS:
        raise InputError(f"--cost must be one of {', '.join(COSTS)}, but got {cost!r}")
