"""Questions about a study: limits as they come from an option, and the point to answer with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from trimtab.errors import InputError
from trimtab.selection import Choice, Limits, Measured, choose, is_feasible

if TYPE_CHECKING:
    from trimtab_storage import PointRow, Reader

Quantity = str | float | None


class Made(Measured, Protocol):
    """A measured point that says how it was made; the dense baseline's recipe is empty."""

    @property
    def recipe(self) -> Sequence[Mapping[str, Any]]:
        """The steps that made it."""


P = TypeVar("P", bound=Made)


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
    # Not above: whoever reads a study without limits has no use for the spec's many checks.
    from trimtab.spec import UnitError, parse_drop_option, parse_flops_option, parse_latency_option

    limits: dict[str, Any] = {}
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
    from trimtab.spec import UnitError

    try:
        return parse(value)
    except UnitError as error:
        raise UnitError(f"{name} {error.message}", error.hint) from None


def check_latency(reader: Reader, study_id: int) -> None:
    """Checks that questions about latency have an answer.

    Raises:
        InputError: if there are points, but none with a latency.
    """
    if reader.point_count(study_id) and not reader.has_latency(study_id):
        raise InputError(
            "no latency was measured in this study: leave out max_latency, and ask for the cost "
            "flops"
        )


def choose_among(points: Sequence[P], limits: Limits) -> Choice[P]:
    """Chooses the best of a study's points, or the closest of those that something was taken from.

    The dense baseline is a point like any other and may be the best, but where nothing meets the
    limits it is no answer: nobody asks for a smaller model to get the one that they have.

    Raises:
        ValueError: if there are no points.
    """
    compressed = [point for point in points if point.recipe or is_feasible(point, limits)]
    return choose(compressed or points, limits)


def choose_of_study(reader: Reader, study_id: int, limits: Limits) -> Choice[PointRow] | None:
    """Chooses among all points of a study as ``choose_among`` does; None if there are none.

    Of many points few are read: without a limit on latency the best is on the frontier of FLOPs,
    and so is the closest, unless the baseline is there too; then one that it beats may be closer.
    """
    if limits.max_latency_ms is None:
        front = reader.frontier(study_id)
        if any(point.recipe for point in front):
            choice = choose_among(front, limits)
            if choice.feasible or all(point.recipe for point in front):
                return choice
    points = reader.points(study_id)
    return choose_among(points, limits) if points else None
