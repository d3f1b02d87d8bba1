"""Several limits on latency at once: one mapping or a list of them, and what must hold."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, TypeAdapter

from trimtab.spec._latency import Device, LatencyBudget, LatencyLimit
from trimtab.spec._words import dotted, show
from trimtab.spec.errors import FieldError, KeyPath
from trimtab.spec.units import Latency

MOST_BUDGETS = 8
"""Requests of each are timed for every model that is looked at."""

Placed = tuple[KeyPath, LatencyLimit]

_ONE = TypeAdapter(LatencyBudget)
_SEVERAL = TypeAdapter(tuple[LatencyBudget, ...])


def budgets_of(
    latency: LatencyBudget | Sequence[LatencyBudget] | None,
) -> tuple[LatencyBudget, ...]:
    """Gives the mappings of a section ``budget.latency``, in the order of the spec."""
    if latency is None:
        return ()
    return (latency,) if isinstance(latency, LatencyBudget) else tuple(latency)


def _read(value: Any) -> LatencyBudget | tuple[LatencyBudget, ...]:
    """Takes a list of one mapping for the mapping; what is wrong in it keeps its place."""
    if not isinstance(value, list | tuple):
        one = _ONE.validate_python(value)
        _check_together([((limit.name,), limit) for limit in one.limits])
        return one
    if not value:
        raise FieldError("must be a mapping, but got an empty list", "write `{p95: 8 ms}`")
    if len(value) > MOST_BUDGETS:
        raise FieldError(
            f"must be at most {MOST_BUDGETS} mappings, as each has requests of its own timed, but "
            f"got {show(value)}",
            "keep those that matter",
        )
    several = _SEVERAL.validate_python(tuple(value))
    _check_together([placed for index, one in enumerate(several) for placed in _placed(index, one)])
    _check_one_device(several)
    return several if len(several) > 1 else several[0]


def _placed(index: int, budget: LatencyBudget) -> Iterator[Placed]:
    return (((index, limit.name), limit) for limit in budget.limits)


LatencyBudgetField = Annotated[
    LatencyBudget | tuple[LatencyBudget, ...],
    BeforeValidator(
        _read,
        json_schema_input_type=LatencyBudget
        | Annotated[list[LatencyBudget], Field(min_length=1, max_length=MOST_BUDGETS)],
    ),
]


def _check_together(placed: Sequence[Placed]) -> None:
    """Checks that limits on the same requests are on different statistics, and not at odds."""
    for index, (path, limit) in enumerate(placed):
        for before, earlier in placed[:index]:
            if _requests(limit.budget) == _requests(earlier.budget):
                _check_pair((before, earlier), (path, limit))


def _requests(budget: LatencyBudget) -> tuple[Any, ...]:
    lengths = None if budget.lengths is None else tuple(sorted(budget.lengths))
    return budget.batch_size, budget.threads, lengths


def _check_pair(first: Placed, second: Placed) -> None:
    (before, earlier), (path, later) = first, second
    if earlier.statistic == later.statistic:
        raise FieldError(
            f"must be left out where `{_named(before)}` is given: both limit the "
            f"{later.statistic} of the same requests",
            "keep one",
            at=path,
            at_key=True,
        )
    by_statistic = {limit.statistic: (at, limit.bound) for at, limit in (first, second)}
    if set(by_statistic) != {"p50", "p95"}:
        return
    (at, median), (_, p95) = by_statistic["p50"], by_statistic["p95"]
    assert isinstance(median, Latency) and isinstance(p95, Latency), "a throughput is of a mean"
    if median.ms is not None and p95.ms is not None and median.ms >= p95.ms:
        raise FieldError(
            f"must be less than `p95` of the same requests, which is {p95} and never below the "
            f"median, but got {show(str(median))}",
            "lower it, or leave it out",
            at=at,
        )


def _named(path: KeyPath) -> str:
    """Names a limit as it can be found: alone in its mapping, or in a list by its place there."""
    return dotted(path if len(path) == 1 else ("latency", *path))


def _check_one_device(budgets: Sequence[LatencyBudget]) -> None:
    named = [(index, one.device) for index, one in enumerate(budgets) if one.names_device]
    for index, device in named[1:]:
        first, known = named[0]
        if device != known:
            raise FieldError(
                f"must be {show(known)}, as `latency[{first}].device` is, but got {show(device)}: "
                "a study times on one device",
                "use a study for each",
                at=(index, "device"),
            )


def check_workloads(
    latency: LatencyBudget | tuple[LatencyBudget, ...], workers_device: Device, max_length: int
) -> None:
    """Checks latency budgets against the other sections of their spec.

    Raises:
        FieldError: leading to what is wrong from the whole spec.
    """
    for index, budget in enumerate(budgets_of(latency)):
        place = () if isinstance(latency, LatencyBudget) else (index,)
        _check_workload(budget, ("budget", "latency", *place), workers_device, max_length)


def _check_workload(
    budget: LatencyBudget, path: KeyPath, workers_device: Device, max_length: int
) -> None:
    if budget.device not in (None, "auto", workers_device) and workers_device != "auto":
        raise FieldError(
            f"must be what the workers use, which is `{workers_device}`, "
            f"but got {show(budget.device)}",
            "leave it out, or change `workers.device`",
            at=(*path, "device"),
        )
    for index, length in enumerate(budget.lengths or ()):
        if length > max_length:
            raise FieldError(
                f"must be at most {max_length}, where `max_length` cuts texts, but got {length}",
                at=(*path, "lengths", index),
            )
