"""The baseline's latency, which a study's points are compared with on one and the same machine.

Legend:
    wanted     what the limits on latency ask for, in their order
    part       what is known of one of them: of a point, or of the baseline
    reference  the baseline's parts
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from trimtab._parts import doubts_of, joined_as, named_part, parts_of, without_names
from trimtab.controller._expected import PREDICTED, whole
from trimtab.controller._limits import latencies_of
from trimtab.controller._session import Session
from trimtab.emission import LatencyCheck
from trimtab.selection import Limits
from trimtab_workers.jobs import BenchJob, BenchResult, Candidate
from trimtab_workers.latency.asked import Asked, Timing, in_order, timings_of
from trimtab_workers.latency.summary import Latency
from trimtab_workers.latency.workload import Statistic

MOST_TRIES, LIMIT_S = 2, 10.0
SAME_SPEED = 0.15
"""By how much the baseline's median may differ from when the study began, for the same machine."""


def establish_latency(session: Session, key: str) -> dict[str, Any] | None:
    """Times the baseline, or finds that an earlier run's figures still hold.

    Where the machine runs at another speed than it did, or something else is timed now, what was
    measured so far says nothing any more and is forgotten. Without a budget nothing is timed, and
    an earlier run's figure stays, for a budget that may come back.
    """
    wanted = latencies_of(session.spec)
    known: dict[str, Any] | None = (session.study.baseline or {}).get("latency_ms")
    if not wanted:
        return known
    with session.spending.on("baseline"):
        now = _timed(session, key, wanted)
    before = parts_of(known)
    sources = [_source_of(part, before) for part in now]
    if known is not None and None in sources:
        session.reporter.note(
            "the machine or what is timed is not what it was, so points are timed again"
        )
    # Killed between this and the baseline's own record, a run finds points as they are wanted
    # beside the baseline as it was: each part is told by what it says it is of, not by its place.
    alone = len(before) == 1
    _change(session, lambda latency: restated(latency, sources, wanted, alone))
    parts = [
        part if source is None else _kept(source, asked)
        for part, source, asked in zip(now, sources, wanted, strict=True)
    ]
    return joined_as(parts, wanted)


def reference_speed(reference: Mapping[str, Any], asked: Asked) -> float | None:
    """Gives the baseline's median at whose speed times are stated; None where a ratio is asked for.

    Times in milliseconds are compared with others of the study, and the machine may have run faster
    or slower then. A figure that was not stable is no speed to go by.
    """
    is_known = reference["verdict"] == "stable"
    return float(reference["p50"]) if is_known and not asked.is_relative else None


def stated(latency: Latency, reference: Mapping[str, Any], asked: Asked) -> Latency:
    """States a latency as it is asked for: relative to the baseline's, or as it was."""
    if not asked.is_relative:
        return latency
    return latency.relative_to(Latency.from_plain(reference))


def margin_of(reference: Mapping[str, Any], asked: Asked) -> float:
    """Gives how far an interval's upper end is above its value: that end must be within a limit.

    Of a ratio it is near, as the same texts came for both; of a time it depends on the texts.
    """
    return 1.0 if asked.is_relative else float(reference["high"] / reference["value"])


def check_of(
    wanted: Sequence[Asked], limits: Limits, references: Sequence[Mapping[str, Any]]
) -> LatencyCheck:
    """Gives how a checkpoint of a study is timed before it is delivered.

    Of the wanted ones after the first, those that the limits name.
    """
    allowed = (limits.max_latency_ms, *limits.other_latencies_ms)
    first, *others = (
        LatencyCheck(
            asked.statistic, asked.workload, max_ms, reference if asked.is_relative else None
        )
        for asked, max_ms, reference in zip(wanted, allowed, references, strict=False)
    )
    return replace(first, others=tuple(others))


def _timed(session: Session, key: str, wanted: Sequence[Asked]) -> list[dict[str, Any]]:
    """Times the baseline as it is wanted; gives a part for each."""
    timings = timings_of(wanted)
    every = in_order(timings, [_figures(session, key, timing) for timing in timings])
    parts = [
        {
            **latency.to_plain(),
            "workload": asked.workload.to_plain(),
            "is_relative": asked.is_relative,
        }
        for latency, asked in zip(every, wanted, strict=True)
    ]
    if doubts := doubts_of(joined_as(parts, wanted)):
        session.reporter.note(f"the baseline's latency is not stable: {doubts}")
    return parts


def _figures(session: Session, key: str, timing: Timing) -> list[Latency]:
    """Times the baseline against a copy of itself, again where that was not stable."""
    for _ in range(MOST_TRIES):
        figures = timing.figures(_result(session, key, timing))
        if all(each.verdict == "stable" for each in figures):
            break
    return figures


def _result(session: Session, key: str, timing: Timing) -> BenchResult:
    job = BenchJob(session.place, key, (Candidate(key, {}),), **timing.settings(), limit_s=LIMIT_S)
    result: BenchResult
    (result,) = session.runner.run(job, "timing the baseline")
    event = {"point": None, "what": "baseline", "samples_ms": result.samples}
    session.store.log_event(session.study.id, "latency", event)
    return result


def _source_of(
    now: Mapping[str, Any], before: Sequence[Mapping[str, Any]]
) -> Mapping[str, Any] | None:
    """Finds which of the figures of an earlier run compare with what is timed now.

    Rather those of the same statistic, as points may be known by one and not by another.
    """
    holding = [known for known in before if _still_holds(known, now)]
    own = (known for known in holding if known["statistic"] == now["statistic"])
    return next(own, holding[0] if holding else None)


def _still_holds(known: Mapping[str, Any], now: Mapping[str, Any]) -> bool:
    """Tells whether what was timed beside an earlier figure compares with what will be timed.

    Ratios do whatever the machine's speed; and what cannot be timed well now disproves nothing.
    """
    same = ("workload", "device", "threads", "is_relative")
    if known["verdict"] != "stable" or any(known.get(name) != now[name] for name in same):
        return False
    if now["is_relative"] or now["verdict"] != "stable":
        return True
    return bool(abs(now["p50"] / known["p50"] - 1) <= SAME_SPEED)


def restated(
    latency: Mapping[str, Any],
    sources: Sequence[Mapping[str, Any] | None],
    wanted: Sequence[Asked],
    alone: bool,
) -> dict[str, Any] | None:
    """Gives a latency for what is wanted now, each part from what compares with a baseline's part.

    None where nothing of it is wanted. What has to be timed anew gets all its chances again. Doing
    so once more with the same arguments changes nothing.

    Args:
        latency: What is known of a point.
        sources: The baseline's part for each that is wanted; None where that is no longer true.
        wanted: What the limits ask for now.
        alone: Whether the baseline had but one part. Only then a point's single part, which does
            not say all that it is of, is known to be of the same.
    """
    parts = [
        None
        if source is None or (own := _own(latency, source, asked, alone)) is None
        else _restated(own, asked.statistic)
        for source, asked in zip(sources, wanted, strict=True)
    ]
    if all(part is None for part in parts):
        return None
    found = whole(parts, wanted)
    is_known = all(part is not None and part.get("value") is not None for part in parts)
    return found if is_known or len(wanted) == 1 else {**found, "tries": 0}


def _own(
    latency: Mapping[str, Any], source: Mapping[str, Any], asked: Asked, alone: bool
) -> Mapping[str, Any] | None:
    """Finds the part of a point that was timed as the baseline's was; None where it has none."""
    parts = parts_of(latency)
    if len(parts) == 1:
        return parts[0] if alone else None
    return named_part(parts, asked, source["statistic"])


def _restated(part: Mapping[str, Any], statistic: Statistic) -> dict[str, Any]:
    """Gives a part for another statistic of the same times.

    What was only predicted stays; what was not stable is forgotten, and gets another chance.
    """
    if part.get("verdict") == "unstable":
        return {"value": None, "verdict": PREDICTED, PREDICTED: part.get(PREDICTED)}
    if part.get("value") is None:
        return {**without_names(part), "tries": 0}
    return _in_terms_of(without_names(part), statistic)


def _kept(source: Mapping[str, Any], asked: Asked) -> dict[str, Any]:
    """Gives a part of the baseline for another statistic, or without the others that it had."""
    own = {**without_names(source), "is_relative": asked.is_relative}
    return _in_terms_of(own, asked.statistic)


def _in_terms_of(latency: Mapping[str, Any], statistic: Statistic) -> dict[str, Any]:
    return {**latency, **Latency.from_plain(latency).with_statistic(statistic).to_plain()}


def _change(session: Session, change: Callable[[dict[str, Any]], dict[str, Any] | None]) -> None:
    """Changes the latencies of all points; they are judged by this run's limits afterwards."""
    every = session.store.points(session.study.id, split=None)
    known = {point.id: point.latency for point in every if point.latency is not None}
    changed = {point_id: change(latency) for point_id, latency in known.items()}
    different = {key: latency for key, latency in changed.items() if latency != known[key]}
    if different:
        session.store.set_latencies(session.lease, different, lambda point: point.feasible)
