"""Limits as they come from the command line, HTTP or Python, where bare numbers have a meaning.

There, 0.4 is a ratio of the baseline's FLOPs, 0.01 is a drop of one point, and a bare latency is in
milliseconds; with a unit, everything reads as in a spec.
"""

from __future__ import annotations

from typing import Any

from trimtab.spec._number import bare_number
from trimtab.spec._words import show
from trimtab.spec.errors import UnitError
from trimtab.spec.units import Drop, Flops, Latency


def parse_flops_option(value: str | float | Flops) -> Flops:
    """Reads ``0.4`` (a ratio), ``40%`` or ``1.2 GFLOPs``.

    Raises:
        UnitError: for anything else.
    """
    if isinstance(value, Flops):
        return value
    number = bare_number(value)
    if number is None:
        return Flops.parse(value)
    if not 0 < number <= 1:
        raise UnitError(
            f"must be a ratio in (0, 1] when it has no unit, but got {show(value)}",
            _unit_hint(Flops, value),
        )
    return Flops(ratio=float(number))


def parse_drop_option(value: str | float | Drop) -> Drop:
    """Reads ``0.01`` (one point), ``1pt`` or ``1%``.

    Raises:
        UnitError: for anything else.
    """
    if isinstance(value, Drop):
        return value
    number = bare_number(value)
    if number is None:
        return Drop.parse(value)
    if not 0 <= number < 1:
        raise UnitError(
            f"must be in the metric's units (0.01 is one point) when it has no unit, "
            f"but got {show(value)}",
            _unit_hint(Drop, value),
        )
    return Drop(absolute=float(number))


def parse_latency_option(value: str | float | Latency) -> Latency:
    """Reads ``8`` or ``8ms`` (milliseconds), or ``50%`` of the baseline.

    Raises:
        UnitError: for anything else.
    """
    if isinstance(value, Latency):
        return value
    number = bare_number(value)
    if number is None:
        return Latency.parse(value)
    if number <= 0:
        raise UnitError(f"must be a positive number of milliseconds, but got {show(value)}")
    return Latency(ms=float(number))


def _unit_hint(kind: Any, value: Any) -> str | None:
    """Borrows the hint that a spec's author would get for the same bare number."""
    try:
        kind.parse(value)
    except UnitError as error:
        return error.hint
    return None
