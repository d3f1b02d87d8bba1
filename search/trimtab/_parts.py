"""The parts of a latency: one for each limit that a budget has on time, the first one's on top.

A point's latency is a mapping; where several limits were asked about, ``others`` in it is a list of
like mappings, in the order of the limits after the first.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from trimtab_workers.latency.asked import Asked

Latency = Mapping[str, Any]

OTHERS = "others"
NAMES = ("statistic", "batch_size", "lengths")
"""What tells parts apart, where there are several."""


def parts_of(latency: Latency | None) -> list[Latency]:
    """Takes a latency apart: the first limit's without the others, then the others'."""
    if latency is None:
        return []
    first = {name: value for name, value in latency.items() if name != OTHERS}
    return [first, *(latency.get(OTHERS) or ())]


def joined(parts: Sequence[Latency]) -> dict[str, Any]:
    """Puts parts together again; a single one is the whole latency."""
    first, *others = parts
    return {**first, OTHERS: [dict(part) for part in others]} if others else dict(first)


def joined_as(parts: Sequence[Latency], asked: Sequence[Asked]) -> dict[str, Any]:
    """Puts parts together; where there are several, each says what it is of."""
    if len(parts) == 1:
        return dict(parts[0])
    return joined(
        [
            {**_names_of(each), **part, **_lengths_of(each)}
            for part, each in zip(parts, asked, strict=True)
        ]
    )


def _names_of(asked: Asked) -> dict[str, Any]:
    return {"statistic": asked.statistic, "batch_size": asked.workload.batch_size}


def _lengths_of(asked: Asked) -> dict[str, Any]:
    lengths = asked.workload.lengths
    return {} if lengths is None else {"lengths": list(lengths)}


def requests_of(part: Latency) -> tuple[Any, ...]:
    """Gives what tells the requests of parts apart, to compare them by."""
    return part.get("batch_size"), tuple(part.get("lengths") or ())


def requests_text(part: Latency) -> str:
    """Says what a part is of, to tell it from others: ``p95 at batch 1``."""
    text = f"{part.get('statistic')} at batch {part.get('batch_size')}"
    lengths = part.get("lengths")
    if not lengths:
        return text
    low, high = min(lengths), max(lengths)
    return f"{text} of {low if low == high else f'{low} to {high}'} tokens"
