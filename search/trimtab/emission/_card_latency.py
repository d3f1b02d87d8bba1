"""What the card says of time: the budget, what was timed, and what it took."""

from __future__ import annotations

from typing import Any

from trimtab._latency_words import (
    bound_text,
    latency_text,
    shown_latency,
    texts_text,
    workload_text,
)

STATISTICS = ("p50", "p95", "mean")
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
    timed = {name: known for name, known in columns.items() if shown_latency(known) is not None}
    if not timed:
        return ""
    parts = [_timed(facts, next(iter(timed.values()))), _table(timed)]
    delivered = facts.get("delivered_latency")
    if delivered is not None:
        parts.append(HELD[delivered.get("holds")])
    return "## Latency\n\n" + "\n\n".join(parts) + "\n"


def _timed(facts: dict[str, Any], latency: dict[str, Any]) -> str:
    """Tells what was timed and what the budget was."""
    workload = (facts["baseline"].get("latency_ms") or {}).get("workload") or {}
    what = f"{workload_text(latency)}; {texts_text(workload)}"
    said = f"Time of a request {what}, one after the other with nothing else of ours running."
    budget = facts["budget"].get("latency")
    if budget is not None:
        said = f"The budget was {bound_text(budget)}. {said}"
    return (
        f"{said} Brackets hold 95 % intervals; it is the upper end of what was limited that must "
        "keep to the budget."
    )


def _table(timed: dict[str, dict[str, Any]]) -> str:
    rows = [["", *timed], ["---"] * (1 + len(timed))]
    rows += [[name, *(_cell(latency, name) for latency in timed.values())] for name in STATISTICS]
    rows.append(["verdict", *(_verdict(latency) for latency in timed.values())])
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _cell(latency: dict[str, Any], statistic: str) -> str:
    if latency["statistic"] == statistic:
        low, high = latency.get("low"), latency.get("high")
    else:
        low, high = (latency.get("intervals") or {}).get(statistic, (None, None))
    return latency_text({"value": latency.get(statistic), "low": low, "high": high})


def _verdict(latency: dict[str, Any]) -> str:
    reason = latency.get("reason")
    return f"{latency['verdict']}: {reason}" if reason else str(latency["verdict"])
