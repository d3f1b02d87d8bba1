"""Decimal numbers with units: read exactly, written back exactly.

Binary floats would turn ``7%`` into ``7.000000000000001%`` on the way back; the shortest decimal
of a float (its ``repr``), shifted exactly, returns to the same float.
"""

from __future__ import annotations

import math
import re
from decimal import Decimal
from typing import Any

from trimtab.spec._words import show
from trimtab.spec.errors import UnitError

_QUANTITY = re.compile(
    r"\s*(?P<number>[-+]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][-+]?[0-9]{1,3})?)"
    r"\s*(?P<unit>%|[A-Za-z]*)\s*"
)
_MAX_CHARACTERS = 40


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
