"""What a notebook shows of studies and results: one line as text, a small block as HTML.

Nothing here fails: what cannot be read is said in the line or block. The picture is an image of
its own, which notebooks show also where they do not trust the rest.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from trimtab._frontier_html import frontier_parts, recipe_text
from trimtab._html import block, facts, message, paragraph
from trimtab._latency_words import and_latency
from trimtab._wording import big, duration, one_line, percent, points, replay_command
from trimtab.selection import Choice

if TYPE_CHECKING:
    from trimtab.controller import RunResult
    from trimtab.emission import Emission
    from trimtab.plan import Plan
    from trimtab.study import Study
    from trimtab_storage import PointRow, TrialRow

Parts = Iterable[str]

MOST_FAILED = 3
MOST_DRAWN = 2000
"""Of more points than that only the frontier is drawn: reading and drawing all takes time."""


# Lines


def study_line(study: Study) -> str:
    """Tells on one line where a study stands, or why that cannot be told."""
    place = f" in {study.db}" if study.db.startswith("sqlite") else ""
    return _line(f"Study {study.name!r}{place}", lambda: _standing(study))


def choice_line(choice: Choice[PointRow]) -> str:
    """Tells which point was chosen, and whether it is within the limits."""
    return _line("Choice", lambda: _chosen(choice))


def result_line(result: RunResult) -> str:
    """Tells what a run ended with."""
    told = f"; checkpoint: {result.emission.path}"
    return _line(f"RunResult of {result.study!r}", lambda: _chosen(result.choice) + told)


def emission_line(emission: Emission) -> str:
    """Tells which point was written where, and how it did on unseen rows."""
    what = f"Emission of point {emission.point.id}"
    return _line(what, lambda: f"{emission.path}; {_certified(emission)}")


def plan_line(plan: Plan) -> str:
    """Tells how much of what is wanted would run."""
    warned = f"; {'; '.join(plan.warnings)}" if plan.warnings else ""
    told = f"{plan.trials_wanted} trials wanted, about {plan.trials_that_fit} fit{warned}"
    return _line(f"Plan of {plan.study!r}", lambda: told)


def _line(what: str, tell: Callable[[], str]) -> str:
    try:
        told = tell()
    except Exception as error:  # Whatever it is: nobody who looks at a value asked for an error.
        told = message(error)
    return one_line(f"<{what}: {told}>")


def _standing(study: Study) -> str:
    found, wanted = study.status(), study.row().spec["search"]["trials"]
    told = [f"{found['state']}, {_counted(found['trials'], wanted)}"]
    return "; ".join([*told, *([] if found["best"] is None else [_best(found["best"])])])


def _counted(counts: Mapping[str, int], wanted: int) -> str:
    done = f"{counts['complete'] + counts['failed']} of {wanted} trials done"
    others = [f"{counts[name]} {name}" for name in ("failed", "running", "waiting") if counts[name]]
    return ", ".join([done, *others])


def _best(best: Mapping[str, Any]) -> str:
    word = "best" if best["feasible"] else "nothing meets the limits; closest"
    return f"{word}: point {best['id']}, {_standing_of(best)}"


def _standing_of(point: Mapping[str, Any]) -> str:
    latency = and_latency(point.get("latency_ms") or point.get("latency"))
    return f"{percent(point['flops_ratio'])} FLOPs{latency} at {points(point['drop'])}"


def _chosen(choice: Choice[PointRow]) -> str:
    return _best({**vars(choice.point), "feasible": choice.feasible})


def _certified(emission: Emission) -> str:
    found = emission.certificate.facts()
    low, high = map(points, found["drop_interval_95"])
    verdict = "" if emission.certificate.holds else "; over the allowed drop: not certified"
    drop = f"{points(found['drop'])} ({low} to {high})"
    return f"drop {drop} on {found['n']} rows that decided nothing{verdict}"


# Blocks


def study_html(study: Study) -> str:
    """Shows where a study stands, its frontier, and what failed."""
    return block(f"Study {study.name}", lambda: _study_parts(study))


def choice_html(choice: Choice[PointRow]) -> str:
    """Shows the chosen point, and what to relax where nothing meets the limits."""
    return block("Choice", lambda: [facts(_choice_facts(choice))])


def result_html(result: RunResult) -> str:
    """Shows the frontier of a run and its checkpoint."""

    def parts() -> Parts:
        written, chosen = result.emission, result.choice
        seen = {"unseen rows": _certified(written), "checkpoint": written.path}
        yield facts({**_choice_facts(chosen), **seen})
        yield from frontier_parts(result.frontier, result.limits, chosen.point.id, "metric")

    return block(f"Run of {result.study}", parts)


def emission_html(emission: Emission) -> str:
    """Shows what was written, and how it did on unseen rows."""

    def parts() -> Parts:
        point = emission.point
        told = f"point {point.id}, {_standing_of(vars(point))}"
        seen = {"unseen rows": _certified(emission), "checkpoint": emission.path}
        yield facts({"point": told, "recipe": recipe_text(point), **seen})

    return block("Checkpoint", parts)


def plan_html(plan: Plan) -> str:
    """Shows what would run, warnings last."""

    def parts() -> Parts:
        yield facts(plan.facts())
        yield from (paragraph(f"warning: {text}") for text in plan.warnings)

    return block(f"Plan of {plan.study}", parts)


def _study_parts(study: Study) -> Parts:
    row, found, trials = study.row(), study.status(), study.trial_rows()
    counted = _counted(found["trials"], row.spec["search"]["trials"])
    reused, left, base = sum(t.reused for t in trials), found["remaining_s"], row.baseline
    at_most = "" if left is None else f", at most {duration(left)} left"
    told = {
        "state": found["state"],
        "trials": counted + (f"; steps reused: {reused}" if reused else ""),
        "time": f"{duration(found['elapsed_s'])} used{at_most}",
        "baseline": _dense(base),
    }
    choice = None if found["best"] is None else study.choose()
    yield facts(told | (_choice_facts(choice) if choice else {}))
    if choice is not None:
        every = study.points() if study.n_points() <= MOST_DRAWN else []
        metric = row.spec["task"]["metric"]
        yield from frontier_parts(
            study.frontier_points(), study.limits(), choice.point.id, metric, every
        )
    yield from _failed(study, [trial for trial in trials if trial.state == "failed"])


def _dense(base: Mapping[str, Any] | None) -> str:
    if base is None:
        return "not measured yet"
    latency = and_latency(base.get("latency_ms"))
    return f"{base['metric']:.4f} at {big(base['flops'])}FLOPs{latency}"


def _choice_facts(choice: Choice[PointRow]) -> dict[str, Any]:
    word, _, told = _chosen(choice).rpartition(": ")
    relax = "; or to ".join(choice.relaxations)
    more = {"it would be enough to": relax} if relax else {}
    return {word: told, "recipe": recipe_text(choice.point), **more}


def _failed(study: Study, failed: Sequence[TrialRow]) -> Parts:
    """Tells why the latest failed, each with the command that runs it again."""
    for trial in failed[-MOST_FAILED:]:
        command = replay_command(study.name, trial.number, study.db)
        reason = trial.reason or "for no reason that is known"
        yield paragraph(f"trial {trial.number} failed: {reason}; to run it again:", command)
    if len(failed) > MOST_FAILED:
        yield paragraph(f"{len(failed) - MOST_FAILED} more failed before; all:", "study.trials()")
