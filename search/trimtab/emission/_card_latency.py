"""What the card says of time: the budget, what was timed, and what it took."""

from __future__ import annotations

from typing import Any

from trimtab._latency_words import (
    bounds_text,
    is_any_timed,
    latency_text,
    texts_text,
    workload_text,
)
from trimtab._parts import STABLE, Latency, parts_of, requests_of
from trimtab.emission._distribution import drawn

STATISTICS = ("p50", "p95", "mean")
SPREAD = "How requests are spread; the higher a block, the more of them took so long:"
HELD = {
    True: "It was timed again as it lies here, in a fresh process, and keeps within the budget.",
    False: "**It was timed again as it lies here, in a fresh process, and is over the budget.**",
    None: "It was timed again as it lies here, in a fresh process, but whether it keeps within the "
    "budget could not be told.",
}


def latency_section(facts: dict[str, Any]) -> str:
    """Writes the section; an empty text where nothing was timed."""
    columns = {
        "baseline": facts["baseline"].get("latency_ms"),
        "this model in the search": facts["point"].get("latency"),
        "this checkpoint": facts.get("delivered_latency"),
    }
    timed = {name: known for name, known in columns.items() if is_any_timed(known)}
    if not timed:
        return ""
    by_requests = _by_requests(timed)
    workloads = [_workload(facts, each) for each in by_requests]
    delivered = facts.get("delivered_latency") or {}
    parts = [_timed(facts, workloads[0]), _table(by_requests[0])]
    if "distribution" in delivered:
        parts.append(f"{SPREAD}\n\n{drawn(delivered['distribution'])}")
    for each, workload in zip(by_requests[1:], workloads[1:], strict=True):
        parts += [f"The same {workload}:", _table(each)]
    if delivered:
        parts.append(HELD[delivered.get("holds")])
    return "## Latency\n\n" + "\n\n".join(parts) + "\n"


def _by_requests(timed: dict[str, Any]) -> list[dict[str, list[Latency]]]:
    """Sorts the parts of each column by the requests that they are of; one table for each."""
    tables: dict[Any, dict[str, list[Latency]]] = {}
    for name, latency in timed.items():
        for part in parts_of(latency):
            tables.setdefault(requests_of(part), {}).setdefault(name, []).append(part)
    return list(tables.values())


def _workload(facts: dict[str, Any], table: dict[str, list[Latency]]) -> str:
    """Tells what was timed; which texts only the baseline knows."""
    shown = next(iter(table.values()))[0]
    known = {
        requests_of(part): part.get("workload") or {}
        for part in reversed(parts_of(facts["baseline"].get("latency_ms")))
    }
    return f"{workload_text(shown)}; {texts_text(known.get(requests_of(shown), {}))}"


def _timed(facts: dict[str, Any], what: str) -> str:
    """Tells what was timed and what the budget was."""
    said = f"Time of a request {what}, one after the other with nothing else of ours running."
    budget = facts["budget"].get("latency")
    if budget is not None:
        said = f"The budget was {bounds_text(budget)}. {said}"
    return (
        f"{said} Brackets hold 95 % intervals; it is the upper end of what was limited that must "
        "keep to the budget."
    )


def _table(timed: dict[str, list[Latency]]) -> str:
    rows = [["", *timed], ["---"] * (1 + len(timed))]
    rows += [[name, *(_cell(parts, name) for parts in timed.values())] for name in STATISTICS]
    rows.append(["verdict", *(_verdict(parts) for parts in timed.values())])
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _cell(parts: list[Latency], statistic: str) -> str:
    """Writes a statistic: from the part that it is limited by, or else from the first."""
    own = next((part for part in parts if part.get("statistic") == statistic), None)
    if own is not None:
        return latency_text({**own, "statistic": None, "verdict": STABLE})
    low, high = (parts[0].get("intervals") or {}).get(statistic, (None, None))
    return latency_text({"value": parts[0].get(statistic), "low": low, "high": high})


def _verdict(parts: list[Latency]) -> str:
    latency = next((part for part in parts if part["verdict"] != STABLE), parts[0])
    reason = latency.get("reason")
    return f"{latency['verdict']}: {reason}" if reason else str(latency["verdict"])
