"""The baseline's latency, which a study's points are compared with on one and the same machine."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from trimtab.controller._expected import PREDICTED
from trimtab.controller._limits import LatencyWanted, latency_of
from trimtab.controller._session import Session
from trimtab.emission import LatencyCheck
from trimtab.selection import Limits
from trimtab.spec import Spec
from trimtab_workers.jobs import BenchJob, Candidate
from trimtab_workers.latency.summary import Latency
from trimtab_workers.latency.workload import Statistic

MOST_TRIES, LIMIT_S = 2, 10.0
SAME_SPEED = 0.15
"""By how much the baseline's median may differ from when the study began, for the same machine."""


def establish_latency(session: Session, key: str) -> dict[str, Any] | None:
    """Times the baseline, or finds that an earlier run's figure still holds.

    Where the machine runs at another speed than it did, or something else is timed now, what was
    measured so far says nothing any more and is forgotten. Without a budget nothing is timed, and
    an earlier run's figure stays, for a budget that may come back.
    """
    wanted = latency_of(session.spec)
    known: dict[str, Any] | None = (session.study.baseline or {}).get("latency_ms")
    if wanted is None:
        return known
    with session.spending.on("baseline"):
        now = _timed(session, key, wanted)
    if known is not None and _still_holds(known, now):
        _change(session, lambda latency: restated(latency, wanted.statistic))
        return _in_terms_of(known, wanted.statistic)
    if known is not None:
        session.reporter.note(
            "the machine or what is timed is not what it was, so points are timed again"
        )
    _change(session, lambda latency: None)
    return now


def reference_speed(reference: dict[str, Any], spec: Spec) -> float | None:
    """Gives the baseline's median at whose speed times are stated; None where a ratio is asked for.

    Times in milliseconds are compared with others of the study, and the machine may have run faster
    or slower then. A figure that was not stable is no speed to go by.
    """
    is_known = reference["verdict"] == "stable"
    return float(reference["p50"]) if is_known and not is_relative(spec) else None


def stated(latency: Latency, reference: dict[str, Any], spec: Spec) -> Latency:
    """States a latency as the budget asks for it: relative to the baseline's, or as it was."""
    if not is_relative(spec):
        return latency
    return latency.relative_to(Latency.from_plain(reference))


def margin_of(reference: dict[str, Any], spec: Spec) -> float:
    """Gives how far an interval's upper end is above its value: that end must be within a limit.

    Of a ratio it is near, as the same texts came for both; of a time it depends on the texts.
    """
    return 1.0 if is_relative(spec) else float(reference["high"] / reference["value"])


def is_relative(spec: Spec) -> bool:
    """Tells whether the latency budget is a share of the baseline's.

    Then a ratio is asked for, and that is measured in pairs whatever the machine's speed; a budget
    in milliseconds is about the time that passes.
    """
    budget = spec.budget.latency
    return budget is not None and budget.bound.ratio is not None


def check_of(
    spec: Spec, wanted: LatencyWanted, limits: Limits, reference: dict[str, Any]
) -> LatencyCheck:
    """Gives how a checkpoint of a study is timed before it is delivered."""
    return LatencyCheck(
        wanted.statistic,
        wanted.workload,
        limits.max_latency_ms,
        reference if is_relative(spec) else None,
    )


def _timed(session: Session, key: str, wanted: LatencyWanted) -> dict[str, Any]:
    """Times the baseline against a copy of itself, again where that was not stable."""
    for _ in range(MOST_TRIES):
        job = BenchJob(
            session.place,
            key,
            (Candidate(key, {}),),
            wanted.workload,
            wanted.statistic,
            is_relative=is_relative(session.spec),
            limit_s=LIMIT_S,
        )
        (result,) = session.runner.run(job, "timing the baseline")
        event = {"point": None, "what": "baseline", "samples_ms": result.samples}
        session.store.log_event(session.study.id, "latency", event)
        if result.latency.verdict == "stable":
            break
    else:
        session.reporter.note(f"the baseline's latency is not stable: {result.latency.reason}")
    return {
        **result.latency.to_plain(),
        "workload": wanted.workload.to_plain(),
        "is_relative": is_relative(session.spec),
    }


def _still_holds(known: dict[str, Any], now: dict[str, Any]) -> bool:
    """Tells whether what was timed beside an earlier figure compares with what will be timed.

    Ratios do whatever the machine's speed; and what cannot be timed well now disproves nothing.
    """
    same = ("workload", "device", "threads", "is_relative")
    if known["verdict"] != "stable" or any(known.get(name) != now[name] for name in same):
        return False
    if now["is_relative"] or now["verdict"] != "stable":
        return True
    return bool(abs(now["p50"] / known["p50"] - 1) <= SAME_SPEED)


def restated(latency: dict[str, Any], statistic: Statistic) -> dict[str, Any]:
    """Gives a latency for the statistic that the budget is on now.

    What was only predicted stays; what was not stable is forgotten, and gets another chance.
    """
    if latency.get("verdict") == "unstable":
        return {"value": None, "verdict": PREDICTED, PREDICTED: latency.get(PREDICTED)}
    if latency.get("value") is None:
        return {**latency, "tries": 0}
    return _in_terms_of(latency, statistic)


def _in_terms_of(latency: dict[str, Any], statistic: Statistic) -> dict[str, Any]:
    return {**latency, **Latency.from_plain(latency).with_statistic(statistic).to_plain()}


def _change(session: Session, change: Callable[[dict[str, Any]], dict[str, Any] | None]) -> None:
    """Changes the latencies of all points; they are judged by this run's limits afterwards."""
    every = session.store.points(session.study.id, split=None)
    known = {point.id: point.latency for point in every if point.latency is not None}
    changed = {point_id: change(latency) for point_id, latency in known.items()}
    different = {key: latency for key, latency in changed.items() if latency != known[key]}
    if different:
        session.store.set_latencies(session.lease, different, lambda point: point.feasible)
