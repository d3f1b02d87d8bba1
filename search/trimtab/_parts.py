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
MEASURED_NAMES = ("statistic", "batch_size")
ASKED_NAMES = ("lengths", "asked_threads", "is_relative")
"""What tells parts apart beside, where there are several, and only the spec knows."""
STABLE = "stable"


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
    """Puts parts together; where there are several, each says what it is of.

    Raises:
        ValueError: if a part is of something else than its limit asks for.
    """
    if len(parts) == 1:
        return dict(parts[0])
    return joined([_named(part, each) for part, each in zip(parts, asked, strict=True)])


def _named(part: Latency, asked: Asked) -> dict[str, Any]:
    values = asked.statistic, asked.workload.batch_size
    measured = dict(zip(MEASURED_NAMES, values, strict=True))
    for name, value in measured.items():
        if part.get(name, value) != value:
            raise ValueError(f"{name} must be {value!r} as its limit says, but got {part[name]!r}")
    return {**measured, **part, **_asked_names(asked)}


def _asked_names(asked: Asked) -> dict[str, Any]:
    """Gives the names that only the spec knows, those that it does not say left out.

    Threads are those that were asked for, as what ran says how many there were in the end.
    """
    lengths, threads = asked.workload.lengths, asked.workload.threads
    return {
        **({} if lengths is None else {"lengths": list(lengths)}),
        **({} if threads is None else {"asked_threads": threads}),
        **({"is_relative": True} if asked.is_relative else {}),
    }


def named_part(
    parts: Sequence[Latency], asked: Asked, statistic: str | None = None
) -> Latency | None:
    """Finds the one of several parts that is of what is asked for, by what it says itself.

    It may be of another statistic of the same times, rather of the one that is named here.
    """
    wanted = _named({}, asked)
    kind = requests_of(wanted), asked.is_relative
    alike = [p for p in parts if (requests_of(p), bool(p.get("is_relative"))) == kind]
    own = (part for part in alike if part.get("statistic") == statistic)
    return next(own, alike[0] if alike else None)


def without_names(part: Latency) -> dict[str, Any]:
    """Gives a part as it is where there are no others; what was timed still says its size."""
    is_timed = part.get("value") is not None
    gone = ASKED_NAMES if is_timed else (*MEASURED_NAMES, *ASKED_NAMES)
    return {name: value for name, value in part.items() if name not in gone}


def requests_of(part: Latency) -> tuple[Any, ...]:
    """Gives what tells the requests of parts apart, to compare them by."""
    return part.get("batch_size"), tuple(part.get("lengths") or ()), part.get("asked_threads")


def requests_text(part: Latency, among: Sequence[Latency]) -> str:
    """Says what a part is of, to tell it from the others ``among`` which it is: ``p95 at batch 1``.

    Threads are named where not all have as many.
    """
    text = f"{part.get('statistic')} at batch {part.get('batch_size')}"
    if part.get("lengths"):
        text += f" of {lengths_text(part['lengths'])}"
    differ = len({each.get("asked_threads") for each in among}) > 1
    return text + on_threads(part.get("asked_threads") if differ else None)


def lengths_text(lengths: Sequence[int]) -> str:
    """Writes lengths of texts as ``16 to 64 tokens``."""
    low, high = min(lengths), max(lengths)
    return f"{low if low == high else f'{low} to {high}'} tokens"


def on_threads(threads: int | None) -> str:
    """Writes a number of threads to follow what runs on them; nothing where none was asked for."""
    if threads is None:
        return ""
    return f" on {threads} {'thread' if threads == 1 else 'threads'}"


def doubts_of(latency: Latency) -> str:
    """Says why a latency is in doubt; of several parts, which ones are. Empty where none is."""
    parts = parts_of(latency)
    doubtful = [part for part in parts if part.get("verdict") != STABLE]
    names = [f"{requests_text(part, parts)}: " if len(parts) > 1 else "" for part in doubtful]
    return "; ".join(f"{name}{part['reason']}" for name, part in zip(names, doubtful, strict=True))
