"""Limits as they come from an option, a query or Python, as numbers against a baseline."""

from __future__ import annotations

from typing import Any

from trimtab.selection import Limits
from trimtab.spec import parse_drop_option, parse_flops_option, parse_latency_option
from trimtab.spec.errors import UnitError

Quantity = str | float | None


def limits_from(
    baseline: dict[str, Any] | None,
    *,
    max_drop: Quantity = None,
    max_flops: Quantity = None,
    max_latency: Quantity = None,
) -> Limits:
    """Reads limits: 0.01 or ``1pt`` of drop, 0.4 or ``40%`` of FLOPs, 8 or ``8ms`` of latency.

    Args:
        baseline: What ``1%`` of drop is a share of, as in ``status --json``.
        max_drop: Largest drop.
        max_flops: Largest mean FLOPs per sample.
        max_latency: Largest latency; a share of the baseline's is not known here.

    Raises:
        UnitError: naming the option that cannot be read.
    """
    limits: dict[str, float | None] = {}
    if max_drop is not None:
        drop = _read("max_drop", parse_drop_option, max_drop)
        limits["max_drop"] = drop.limit(0.0 if baseline is None else baseline["metric"])
    if max_flops is not None:
        flops = _read("max_flops", parse_flops_option, max_flops)
        limits |= {"max_flops_ratio": flops.ratio, "max_flops": flops.absolute}
    if max_latency is not None:
        latency = _read("max_latency", parse_latency_option, max_latency)
        if latency.ms is None:
            raise UnitError("max_latency must be a time, such as `8 ms`", None)
        limits["max_latency_ms"] = latency.ms
    return Limits(**limits)


def _read(name: str, parse: Any, value: str | float) -> Any:
    try:
        return parse(value)
    except UnitError as error:
        raise UnitError(f"{name} {error.message}", error.hint) from None
