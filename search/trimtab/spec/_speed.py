"""How fast a model must be: a latency at most, or a throughput at least.

Legend:
    request    the texts that one forward pass is given together; a latency is that of a request
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

_LATENCY_FORM = "a latency with a unit (`8 ms`, or `50%` of the baseline)"
_THROUGHPUT_FORM = "texts a second (`200/s`), or a multiple of the baseline's (`2x`, `200%`)"
_RATES = frozenset(
    f"{what}/{span}"
    for what in ("", "text", "texts", "sample", "samples")
    for span in ("s", "sec", "second")
)


@dataclass(frozen=True)
class Latency:
    """A limit on latency: in milliseconds, or as a ratio of the baseline's."""

    ms: float | None = None
    ratio: float | None = None

    def __post_init__(self) -> None:
        check_one(self.ms, self.ratio)
        if self.ms is not None:
            check_range(self.ms, 1e-6, 1e9, "a positive latency", f"{plain(exact(self.ms))} ms")
        if self.ratio is not None:
            check_range(self.ratio, 1e-9, 1.0, "more than 0% and at most 100%", percent(self.ratio))

    @classmethod
    def parse(cls, value: Any) -> Self:
        """Reads ``8 ms``, ``0.5 s`` or ``50%``.

        Raises:
            UnitError: for anything else.
        """
        number, unit = read_quantity(value, _LATENCY_FORM, lambda n: f"write `{plain(n)} ms`")
        if unit == "%":
            return cls(ratio=scaled(number, PERCENT))
        if unit in TIME_UNITS:
            return cls(ms=scaled(number, TIME_UNITS[unit] * 1000))
        raise unknown_unit(value, _LATENCY_FORM)

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
        return percent(self.ratio)


@dataclass(frozen=True)
class Throughput:
    """The least texts a second: absolute, or as a multiple of the baseline's."""

    per_second: float | None = None
    ratio: float | None = None

    def __post_init__(self) -> None:
        check_one(self.per_second, self.ratio)
        if self.per_second is not None:
            check_range(self.per_second, 1e-3, 1e9, "from 0.001/s to 1,000,000,000/s", str(self))
        if self.ratio is not None:
            check_range(self.ratio, 1.0, 1e4, "from 100% to 1,000,000%", percent(self.ratio))

    @classmethod
    def parse(cls, value: Any) -> Self:
        """Reads ``200/s``, ``200 samples/s``, ``200%`` or ``2x``.

        Raises:
            UnitError: for anything else.
        """
        number, unit = read_quantity(value, _THROUGHPUT_FORM, _throughput_hint)
        if unit == "%":
            return cls(ratio=scaled(number, PERCENT))
        if unit == "x":
            return cls(ratio=float(number))
        if "".join(unit.split()) in _RATES:
            return cls(per_second=float(number))
        raise unknown_unit(value, _THROUGHPUT_FORM)

    def limit(self, baseline_ms: float, batch_size: int) -> float:
        """Gives the longest mean time of a request in milliseconds.

        Args:
            baseline_ms: The mean time of the baseline's requests of the same size.
            batch_size: The texts of a request.
        """
        if self.per_second is not None:
            return 1000.0 * batch_size / self.per_second
        assert self.ratio is not None
        return baseline_ms / self.ratio

    def __str__(self) -> str:
        if self.per_second is not None:
            return f"{plain(exact(self.per_second))}/s"
        assert self.ratio is not None
        return percent(self.ratio)


def _throughput_hint(number: Decimal) -> str:
    return f"write `{plain(number)}/s` for texts a second, or `2x` for twice the baseline's"
