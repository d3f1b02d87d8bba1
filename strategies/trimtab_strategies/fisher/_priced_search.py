"""Mask search under a budget of time: whole layers' parts may go, and the last layer is cheap.

The paper's search takes all layers to cost alike, and ranks layers to drop one kind at a time. Here
every part has its own price list, and the best choice of how many units each keeps is found at once
(a knapsack with one choice of each part), so that dropping a part is a choice like any other.

Legend:
    P  parts: attention and feed-forward of all layers    k_p  units that part p keeps
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from trimtab_strategies.cost import EncoderShape
from trimtab_strategies.fisher._search import Bools
from trimtab_strategies.fisher.prices import Floats, Prices

STEPS = 8192
"""Into how many equal steps the budget is divided; each part's price is rounded up to whole ones,
so that of a 12-layer model 0.3 % of the budget may stay unspent, and none is overspent."""


def search_within_time(
    heads: Sequence[Floats], filters: Sequence[Floats], prices: Prices, share: float
) -> tuple[list[Bools], list[Bools]]:
    """Finds the masks that keep the most importance in the time of an evenly sliced model.

    Args:
        heads: importance of each layer's heads.
        filters: the same of its filters.
        prices: what they take.
        share: the time to keep within is that of a model whose parts all keep this share.

    Returns:
        Which heads and filters of each layer stay; never over the time by the prices.
    """
    shape = EncoderShape(1, 1, tuple(map(len, heads)), tuple(map(len, filters)))
    of_heads, of_blocks = prices.by_layer(shape.n_layers)
    gains = [_gains(one, 1) for one in heads] + [_gains(one, prices.block) for one in filters]
    costs = [
        fit.of(np.arange(len(gain)))
        for fit, gain in zip([*of_heads, *of_blocks], gains, strict=True)
    ]
    counts = most_within(gains, costs, prices.evenly(shape, share))
    n = shape.n_layers
    return (
        [_first(one, count) for one, count in zip(heads, counts[:n], strict=True)],
        [_first(f, count * prices.block) for f, count in zip(filters, counts[n:], strict=True)],
    )


def most_within(gains: Sequence[Floats], costs: Sequence[Floats], limit: float) -> list[int]:
    """Chooses how much to keep of every part: the most gain whose cost is within the limit.

    Args:
        gains: for each part, [K_p + 1], what 0, 1, 2 ... of its units are worth.
        costs: the same for what they cost; none costs nothing.
        limit: what all may cost together.

    Raises:
        ValueError: if a gain or cost is negative or not finite, or the limit is negative.
    """
    for name, values in (("importances", gains), ("prices", costs)):
        if any(not np.all(np.isfinite(v)) or np.any(v < 0) for v in values):
            raise ValueError(f"{name} must be finite and not negative")
    if not limit >= 0:
        raise ValueError(f"the limit must not be negative, but got {limit}")
    step = limit / STEPS or 1.0
    # A price that is a whole number of steps but for its last digit is that number.
    steps = [np.ceil(cost / step * (1 - 1e-12)).astype(np.int64) for cost in costs]
    best, taken = np.zeros(STEPS + 1 if limit else 1), []
    for gain, price in zip(gains, steps, strict=True):
        best, choice = _with_part(best, gain, price)
        taken.append(choice)
    return _traced(taken, steps, int(np.argmax(best)))


def _with_part(
    best: Floats, gain: Floats, price: NDArray[np.int64]
) -> tuple[Floats, NDArray[np.int64]]:
    """Adds a part: the best of any of its choices, at every number of steps spent."""
    found, choice = np.full(len(best), -np.inf), np.zeros(len(best), dtype=np.int64)
    for count, (worth, cost) in enumerate(zip(gain, price, strict=True)):
        if cost >= len(best):
            continue
        reached = best[: len(best) - cost] + worth
        better = reached > found[cost:]
        found[cost:][better] = reached[better]
        choice[cost:][better] = count
    return found, choice


def _traced(
    taken: Sequence[NDArray[np.int64]], steps: Sequence[NDArray[np.int64]], spent: int
) -> list[int]:
    """Goes back from what was spent to what each part got."""
    counts = []
    for choice, price in zip(reversed(taken), reversed(steps), strict=True):
        counts.append(int(choice[spent]))
        spent -= int(price[counts[-1]])
    return counts[::-1]


def _gains(importance: Floats, block: int) -> Floats:
    """Gives what the 0, 1, 2 ... most important blocks of units are worth, [K + 1]."""
    worth: Floats = np.concatenate([[0.0], np.cumsum(-np.sort(-importance))])
    return worth[np.minimum(np.arange(0, len(importance) + block, block), len(importance))]


def _first(importance: Floats, count: int) -> Bools:
    kept = np.zeros(len(importance), dtype=np.bool_)
    kept[np.argsort(-importance, kind="stable")[:count]] = True
    return kept
