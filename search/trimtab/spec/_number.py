"""Decimal numbers with units: read exactly, written back exactly.

Binary floats would turn ``7%`` into ``7.000000000000001%`` on the way back; the shortest decimal
of a float (its ``repr``), shifted exactly, returns to the same float.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from decimal import Decimal
from typing import Any

from trimtab.spec._words import show
from trimtab.spec.errors import UnitError

_QUANTITY = re.compile(
    r"\s*(?P<number>[-+]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][-+]?[0-9]{1,3})?)"
    r"\s*(?P<unit>%|[A-Za-z]*(?:\s*/\s*[A-Za-z]+)?)\s*"
)
_MAX_CHARACTERS = 40

PERCENT = Decimal("0.01")
TIME_UNITS = {
    **dict.fromkeys(("ms",), Decimal("0.001")),
    **dict.fromkeys(("s", "sec", "second", "seconds"), Decimal(1)),
    **dict.fromkeys(("min", "minute", "minutes"), Decimal(60)),
    **dict.fromkeys(("h", "hour", "hours"), Decimal(3600)),
}
"""How many seconds each unit of time is."""


def split_quantity(value: Any) -> tuple[Decimal, str] | None:
    """Splits ``"1.2 GFLOPs"`` into number and unit; None where the text has another form."""
    if not isinstance(value, str) or len(value) > _MAX_CHARACTERS:
        return None
    match = _QUANTITY.fullmatch(value)
    return (Decimal(match["number"]), match["unit"]) if match else None


def bare_number(value: Any) -> Decimal | None:
    """Gives the number when a value is a number without unit, be it a number or a text."""
    if isinstance(value, bool):
        return None
    if isinstance(value, int | float):
        is_sane = abs(value) < 1e30 and math.isfinite(value)
        return Decimal(repr(value)) if is_sane else None
    quantity = split_quantity(value)
    return quantity[0] if quantity and not quantity[1] else None


def plain(number: Decimal) -> str:
    """Writes a decimal without exponent and without trailing zeros."""
    text = f"{number:f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def scaled(number: Decimal, factor: Decimal) -> float:
    """Multiplies exactly, then rounds once."""
    return float(number * factor)


def exact(value: float) -> Decimal:
    """Gives the shortest decimal that reads back as ``value``."""
    return Decimal(repr(value))


def check_range(value: float, low: float, high: float, what: str, came: Any) -> None:
    """Refuses a quantity outside ``low`` to ``high`` (both included).

    Raises:
        UnitError: saying ``what`` must hold.
    """
    if not low <= value <= high:
        raise UnitError(f"must be {what}, but got {show(came)}")


def read_quantity(value: Any, form: str, hint: Callable[[Decimal], str]) -> tuple[Decimal, str]:
    """Splits a value into number and unit in lower case.

    Raises:
        UnitError: if it has another ``form``; for a number without unit with a ``hint`` for it.
    """
    bare = bare_number(value)
    if bare is not None:
        raise UnitError(f"must be {form}, but got {show(value)}", hint(abs(bare)))
    quantity = split_quantity(value)
    if quantity is None:
        raise unknown_unit(value, form)
    number, unit = quantity
    if number.is_signed() and number:
        raise UnitError(f"must not be negative, but got {show(value)}")
    return number, unit.lower()


def unknown_unit(value: Any, form: str) -> UnitError:
    """Makes the error for a value that has another form."""
    return UnitError(f"must be {form}, but got {show(value)}")


def percent(ratio: float) -> str:
    """Writes a ratio as a percentage that reads back as the same float."""
    return f"{plain(exact(ratio) * 100)}%"


def check_one(first: float | None, second: float | None) -> None:
    """Refuses a quantity that is both relative and absolute, or neither.

    Raises:
        UnitError: always the same.
    """
    if (first is None) == (second is None):
        raise UnitError("must be given one way, relative or absolute, but got both or neither")
