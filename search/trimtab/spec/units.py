"""Quantities with units: frozen values that check themselves and print as they are written.

Each ``parse`` takes text as it stands in a spec and refuses bare numbers, saying how that very
number is written. ``str()`` gives text that ``parse`` reads back to an equal value.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Self

from trimtab.spec._number import bare_number, check_range, exact, plain, scaled, split_quantity
from trimtab.spec._words import show
from trimtab.spec.errors import UnitError

_PERCENT = Decimal("0.01")
_FLOPS_PREFIXES = {"T": 12, "G": 9, "M": 6, "K": 3, "": 0}
_FLOPS_UNITS = {
    f"{prefix}{word}".lower(): Decimal(10) ** power
    for prefix, power in _FLOPS_PREFIXES.items()
    for word in ("FLOPs", "FLOP")
}
_MACS_UNITS = {
    f"{prefix}{word}".lower(): prefix for prefix in _FLOPS_PREFIXES for word in ("MACs", "MAC")
}
_DURATION_UNITS = {
    **dict.fromkeys(("ms",), Decimal("0.001")),
    **dict.fromkeys(("s", "sec", "second", "seconds"), Decimal(1)),
    **dict.fromkeys(("min", "minute", "minutes"), Decimal(60)),
    **dict.fromkeys(("h", "hour", "hours"), Decimal(3600)),
}
_POINT_UNITS = frozenset({"pt", "pts", "point", "points"})

_FLOPS_FORM = "FLOPs with a unit (`40%` of the baseline, or `1.2 GFLOPs` per sample)"
_DURATION_FORM = "a time with a unit (`90 s`, `30 min`, `2 h`)"
_DROP_FORM = "a drop with a unit (`1 pt`, or `1%` of the baseline's value)"
_LATENCY_FORM = "a latency with a unit (`8 ms`, or `50%` of the baseline)"


@dataclass(frozen=True)
class Flops:
    """A limit on FLOPs per sample: a ratio of the baseline's, or absolute; one MAC is two FLOPs."""

    ratio: float | None = None
    absolute: float | None = None

    def __post_init__(self) -> None:
        _check_one(self.ratio, self.absolute)
        if self.ratio is not None:
            check_range(
                self.ratio, 1e-9, 1.0, "more than 0% and at most 100%", _percent(self.ratio)
            )
        if self.absolute is not None:
            check_range(self.absolute, 1.0, 1e18, "1 FLOP to 1,000,000 TFLOPs", self.absolute)

    @classmethod
    def parse(cls, value: Any) -> Self:
        """Reads ``40%``, ``1.2 GFLOPs`` or ``1200 MFLOPs``.

        Raises:
            UnitError: for anything else.
        """
        number, unit = _quantity(value, _FLOPS_FORM, _flops_hint)
        if unit == "%":
            return cls(ratio=scaled(number, _PERCENT))
        if unit in _FLOPS_UNITS:
            return cls(absolute=scaled(number, _FLOPS_UNITS[unit]))
        if unit in _MACS_UNITS:
            raise UnitError(
                f"must be in FLOPs, but got {show(value)}",
                f"one MAC is two FLOPs: write `{plain(number * 2)} {_MACS_UNITS[unit]}FLOPs`",
            )
        raise _unknown_unit(value, _FLOPS_FORM)

    def limit(self, baseline_flops: float) -> float:
        """Gives the limit in FLOPs per sample."""
        if self.absolute is not None:
            return self.absolute
        assert self.ratio is not None
        return self.ratio * baseline_flops

    def __str__(self) -> str:
        if self.ratio is not None:
            return _percent(self.ratio)
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
        number, unit = _quantity(value, _DURATION_FORM, _duration_hint)
        if unit not in _DURATION_UNITS:
            raise _unknown_unit(value, _DURATION_FORM)
        return cls(scaled(number, _DURATION_UNITS[unit]))

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
        _check_one(self.absolute, self.relative)
        if self.absolute is not None:
            came = f"{plain(exact(self.absolute) * 100)} pt"
            check_range(self.absolute, 0.0, 1.0, "from 0 pt to 100 pt", came)
        if self.relative is not None:
            check_range(self.relative, 0.0, 1.0, "from 0% to 100%", _percent(self.relative))

    @classmethod
    def parse(cls, value: Any) -> Self:
        """Reads ``1 pt`` or ``1%``.

        Raises:
            UnitError: for anything else.
        """
        number, unit = _quantity(value, _DROP_FORM, _drop_hint)
        if unit == "%":
            return cls(relative=scaled(number, _PERCENT))
        if unit in _POINT_UNITS:
            return cls(absolute=scaled(number, _PERCENT))
        raise _unknown_unit(value, _DROP_FORM)

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
        return _percent(self.relative)


@dataclass(frozen=True)
class Latency:
    """A limit on latency: in milliseconds, or as a ratio of the baseline's."""

    ms: float | None = None
    ratio: float | None = None

    def __post_init__(self) -> None:
        _check_one(self.ms, self.ratio)
        if self.ms is not None:
            check_range(self.ms, 1e-6, 1e9, "a positive latency", f"{plain(exact(self.ms))} ms")
        if self.ratio is not None:
            check_range(
                self.ratio, 1e-9, 1.0, "more than 0% and at most 100%", _percent(self.ratio)
            )

    @classmethod
    def parse(cls, value: Any) -> Self:
        """Reads ``8 ms``, ``0.5 s`` or ``50%``.

        Raises:
            UnitError: for anything else.
        """
        number, unit = _quantity(value, _LATENCY_FORM, lambda n: f"write `{plain(n)} ms`")
        if unit == "%":
            return cls(ratio=scaled(number, _PERCENT))
        if unit in _DURATION_UNITS:
            return cls(ms=scaled(number, _DURATION_UNITS[unit] * 1000))
        raise _unknown_unit(value, _LATENCY_FORM)

    def limit(self, baseline_ms: float) -> float:
        """Gives the limit in milliseconds."""
        if self.ms is not None:
            return self.ms
        assert self.ratio is not None
        return self.ratio * baseline_ms

    def __str__(self) -> str:
        if self.ms is not None:
            return f"{plain(exact(self.ms))} ms"
        assert self.ratio is not None
        return _percent(self.ratio)


def _quantity(value: Any, form: str, hint: Any) -> tuple[Decimal, str]:
    """Splits a value into number and lower-case unit, or says why it cannot be."""
    bare = bare_number(value)
    if bare is not None:
        raise UnitError(f"must be {form}, but got {show(value)}", hint(abs(bare)))
    quantity = split_quantity(value)
    if quantity is None:
        raise UnitError(f"must be {form}, but got {show(value)}")
    number, unit = quantity
    if number.is_signed() and number:
        raise UnitError(f"must not be negative, but got {show(value)}")
    return number, unit.lower()


def _unknown_unit(value: Any, form: str) -> UnitError:
    return UnitError(f"must be {form}, but got {show(value)}")


def _percent(ratio: float) -> str:
    return f"{plain(exact(ratio) * 100)}%"


def _check_one(first: float | None, second: float | None) -> None:
    if (first is None) == (second is None):
        raise UnitError("must be given one way, relative or absolute, but got both or neither")


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
