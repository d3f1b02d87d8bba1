"""Quantities with units: frozen values that check themselves and print as they are written.

Each ``parse`` takes text as it stands in a spec and refuses bare numbers, saying how that very
number is written. ``str()`` gives text that ``parse`` reads back to an equal value.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Self

from trimtab.spec._number import (
    PERCENT,
    TIME_UNITS,
    check_one,
    check_range,
    exact,
    percent,
    plain,
    read_quantity,
    scaled,
    unknown_unit,
)
from trimtab.spec._speed import Latency, Throughput
from trimtab.spec._words import show
from trimtab.spec.errors import UnitError

__all__ = ["Drop", "Duration", "Flops", "Latency", "Throughput"]

_FLOPS_PREFIXES = {"T": 12, "G": 9, "M": 6, "K": 3, "": 0}
_FLOPS_UNITS = {
    f"{prefix}{word}".lower(): Decimal(10) ** power
    for prefix, power in _FLOPS_PREFIXES.items()
    for word in ("FLOPs", "FLOP")
}
_MACS_UNITS = {
    f"{prefix}{word}".lower(): prefix for prefix in _FLOPS_PREFIXES for word in ("MACs", "MAC")
}
_POINT_UNITS = frozenset({"pt", "pts", "point", "points"})

_FLOPS_FORM = "FLOPs with a unit (`40%` of the baseline, or `1.2 GFLOPs` per sample)"
_DURATION_FORM = "a time with a unit (`90 s`, `30 min`, `2 h`)"
_DROP_FORM = "a drop with a unit (`1 pt`, or `1%` of the baseline's value)"


@dataclass(frozen=True)
class Flops:
    """A limit on FLOPs per sample: a ratio of the baseline's, or absolute; one MAC is two FLOPs."""

    ratio: float | None = None
    absolute: float | None = None

    def __post_init__(self) -> None:
        check_one(self.ratio, self.absolute)
        if self.ratio is not None:
            check_range(self.ratio, 1e-9, 1.0, "more than 0% and at most 100%", percent(self.ratio))
        if self.absolute is not None:
            check_range(self.absolute, 1.0, 1e18, "1 FLOP to 1,000,000 TFLOPs", self.absolute)

    @classmethod
    def parse(cls, value: Any) -> Self:
        """Reads ``40%``, ``1.2 GFLOPs`` or ``1200 MFLOPs``.

        Raises:
            UnitError: for anything else.
        """
        number, unit = read_quantity(value, _FLOPS_FORM, _flops_hint)
        if unit == "%":
            return cls(ratio=scaled(number, PERCENT))
        if unit in _FLOPS_UNITS:
            return cls(absolute=scaled(number, _FLOPS_UNITS[unit]))
        if unit in _MACS_UNITS:
            raise UnitError(
                f"must be in FLOPs, but got {show(value)}",
                f"one MAC is two FLOPs: write `{plain(number * 2)} {_MACS_UNITS[unit]}FLOPs`",
            )
        raise unknown_unit(value, _FLOPS_FORM)

    def limit(self, baseline_flops: float) -> float:
        """Gives the limit in FLOPs per sample."""
        if self.absolute is not None:
            return self.absolute
        assert self.ratio is not None
        return self.ratio * baseline_flops

    def __str__(self) -> str:
        if self.ratio is not None:
            return percent(self.ratio)
        assert self.absolute is not None
        number = exact(self.absolute)
        power, prefix = next(
            (power, prefix)
            for prefix, power in _FLOPS_PREFIXES.items()
            if number >= Decimal(10) ** power
        )
        return f"{plain(number.scaleb(-power))} {prefix}FLOPs"


@dataclass(frozen=True)
class Duration:
    """A span of time in seconds."""

    seconds: float

    def __post_init__(self) -> None:
        check_range(self.seconds, 0.0, 1e9, "a time from 0 s to 30 years", self.seconds)

    @classmethod
    def parse(cls, value: Any) -> Self:
        """Reads ``8 ms``, ``90 s``, ``30 min`` or ``2 h``.

        Raises:
            UnitError: for anything else.
        """
        number, unit = read_quantity(value, _DURATION_FORM, _duration_hint)
        if unit not in TIME_UNITS:
            raise unknown_unit(value, _DURATION_FORM)
        return cls(scaled(number, TIME_UNITS[unit]))

    def __str__(self) -> str:
        number = exact(self.seconds)
        for unit, size in (("h", 3600), ("min", 60), ("s", 1)):
            if number and number % size == 0:
                return f"{plain(number / size)} {unit}"
        is_short = 0 < number < 1
        return f"{plain(number * 1000)} ms" if is_short else f"{plain(number)} s"


@dataclass(frozen=True)
class Drop:
    """A largest loss of the metric: in the metric's units (1 pt is 0.01), or relative to it."""

    absolute: float | None = None
    relative: float | None = None

    def __post_init__(self) -> None:
        check_one(self.absolute, self.relative)
        if self.absolute is not None:
            came = f"{plain(exact(self.absolute) * 100)} pt"
            check_range(self.absolute, 0.0, 1.0, "from 0 pt to 100 pt", came)
        if self.relative is not None:
            check_range(self.relative, 0.0, 1.0, "from 0% to 100%", percent(self.relative))

    @classmethod
    def parse(cls, value: Any) -> Self:
        """Reads ``1 pt`` or ``1%``.

        Raises:
            UnitError: for anything else.
        """
        number, unit = read_quantity(value, _DROP_FORM, _drop_hint)
        if unit == "%":
            return cls(relative=scaled(number, PERCENT))
        if unit in _POINT_UNITS:
            return cls(absolute=scaled(number, PERCENT))
        raise unknown_unit(value, _DROP_FORM)

    def limit(self, baseline_metric: float) -> float:
        """Gives the largest drop in the metric's own units."""
        if self.absolute is not None:
            return self.absolute
        assert self.relative is not None
        return self.relative * abs(baseline_metric)

    def __str__(self) -> str:
        if self.absolute is not None:
            return f"{plain(exact(self.absolute) * 100)} pt"
        assert self.relative is not None
        return percent(self.relative)


def _flops_hint(number: Decimal) -> str:
    if number == 0:
        return "write `40%` for a share of the baseline"
    if number <= 1:
        return f"write `{plain(number * 100)}%` for a share of the baseline"
    if number <= 100:
        return f"write `{plain(number)}%` or `{plain(number)} GFLOPs`"
    return f"write `{Flops(absolute=min(float(number), 1e18))}`"


def _duration_hint(number: Decimal) -> str:
    return f"write `{plain(number)} s` or `{plain(number)} min`"


def _drop_hint(number: Decimal) -> str:
    if number < Decimal("0.1"):
        return f"write `{plain(number * 100)} pt` for {plain(number)} of the metric"
    return f"write `{plain(number)} pt` for points of the metric or `{plain(number)}%` of its value"
