"""Mask search under a FLOPs budget: Algorithm 1 of the paper, on plain arrays."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]


@dataclass(frozen=True)
class Mask:
    """Which heads and filters stay, over all layers side by side."""

    heads: Bools
    filters: Bools
    lost_importance: float


def search_mask(
    head_importance: Floats,
    filter_importance: Floats,
    head_cost: int,
    filter_cost: int,
    budget: int,
) -> Mask:
    """Finds the mask of least lost importance whose cost is at most ``budget``; exact.

    Every head costs the same and so does every filter, so for ``n`` kept heads it is best to keep
    the ``n`` most important ones and as many of the most important filters as the rest of the
    budget buys (equations 7 and 8). All ``n`` that can be paid for are tried, 0 included; those
    that cannot be paid for are left out, so the budget is never exceeded.

    Args:
        head_importance: diagonal Fisher information of all heads.
        filter_importance: the same for all filters.
        head_cost: cost of one head, in any unit, as an exact integer.
        filter_cost: cost of one filter in that unit.
        budget: what may be spent on both.

    Raises:
        ValueError: if an importance is negative or not finite, a cost is not positive, or the
            budget is negative.
    """
    _check(head_importance, filter_importance, head_cost, filter_cost, budget)
    head_order, head_gain = _ranked(head_importance)
    filter_order, filter_gain = _ranked(filter_importance)
    n_heads = np.arange(min(len(head_importance), budget // head_cost) + 1)
    left = budget - n_heads * head_cost
    n_filters = np.minimum(left // filter_cost, len(filter_importance))
    kept_importance = head_gain[n_heads] + filter_gain[n_filters]
    best = int(np.argmax(kept_importance))
    lost = head_gain[-1] + filter_gain[-1] - kept_importance[best]
    return Mask(
        _first(head_order, int(n_heads[best])),
        _first(filter_order, int(n_filters[best])),
        float(max(lost, 0.0)),
    )


def _ranked(importance: Floats) -> tuple[NDArray[np.intp], Floats]:
    """Gives units from most to least important, and what the first 0, 1, 2 … of them are worth."""
    order = np.argsort(-importance, kind="stable")
    return order, np.concatenate([[0.0], np.cumsum(importance[order])])


def _first(order: NDArray[np.intp], count: int) -> Bools:
    kept = np.zeros(len(order), dtype=np.bool_)
    kept[order[:count]] = True
    return kept


def _check(
    head_importance: Floats,
    filter_importance: Floats,
    head_cost: int,
    filter_cost: int,
    budget: int,
) -> None:
    for name, values in (("head", head_importance), ("filter", filter_importance)):
        if not np.all(np.isfinite(values)) or np.any(values < 0):
            raise ValueError(
                f"{name} importances must be finite and not negative; a NaN here usually means "
                "that the model's loss on the calibration rows is NaN"
            )
    if head_cost <= 0 or filter_cost <= 0:
        raise ValueError(f"costs must be positive, but got {head_cost} and {filter_cost}")
    if budget < 0:
        raise ValueError(f"the budget must not be negative, but got {budget}")
