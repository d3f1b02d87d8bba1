"""Mask search under a budget of time: whole layers' parts may go, and the last layer is cheap.

The paper's search takes all layers to cost alike, and ranks layers to drop one kind at a time. Here
every part has its own price list, and the best choice of how many units each keeps is found at once
(a knapsack with one choice of each part), so that dropping a part is a choice like any other.

Legend:
    P  parts: attention and feed-forward of all layers    k_p  units that part p keeps
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from trimtab_strategies.cost import EncoderShape
from trimtab_strategies.fisher._search import Bools
from trimtab_strategies.fisher.prices import Floats, Prices

BISECTIONS = 12
STEPS = 8192
"""Into how many equal steps the budget is divided; each part's price is rounded up to whole ones,
so that of a 12-layer model 0.3 % of the budget may stay unspent, and none is overspent."""


Masks = tuple[list[Bools], list[Bools]]
"""Which heads and filters of each layer stay."""


@dataclass(frozen=True)
class PricedSearch:
    """The importance of each layer's heads and filters, and what they take."""

    heads: Sequence[Floats]
    filters: Sequence[Floats]
    prices: Prices

    @property
    def shape(self) -> EncoderShape:
        """The widths that there are to choose from."""
        return EncoderShape(1, 1, tuple(map(len, self.heads)), tuple(map(len, self.filters)))

    def candidates(self, share: float, by_flops: Callable[[float], Masks]) -> list[Masks]:
        """Gives masks that take no longer than a model whose parts all keep a share.

        What units are worth together is not what they are worth apart, so that the mask of most
        importance need not be the best one, most of all where it leaves nothing of a part. So
        there are up to three: that mask; the same if every part keeps a unit; and the largest of
        those that are chosen by FLOPs that is within the time. None comes twice.
        """
        limit = self.prices.evenly(self.shape, share)
        found = [self.best(limit), self.best(limit, least=1), self._largest(by_flops, limit)]
        return list({_units(masks): masks for masks in found if masks is not None}.values())

    def best(self, limit: float, least: int = 0) -> Masks | None:
        """Finds the masks of most importance within a time; None where ``least`` is too much."""
        gains = [_gains(one, 1) for one in self.heads]
        gains += [_gains(one, self.prices.block) for one in self.filters]
        of_heads, of_blocks = self.prices.by_layer(self.shape.n_layers)
        fits = [*of_heads, *of_blocks]
        costs = [fit.of(np.arange(len(gain))) for fit, gain in zip(fits, gains, strict=True)]
        counts = most_within(gains, costs, limit, least)
        if counts is None:
            return None
        n, block = self.shape.n_layers, self.prices.block
        return (
            [_first(one, count) for one, count in zip(self.heads, counts[:n], strict=True)],
            [_first(f, count * block) for f, count in zip(self.filters, counts[n:], strict=True)],
        )

    def time_of(self, masks: Masks) -> float:
        """Gives what a mask takes; blocks that are not whole cost their part."""
        heads, filters = ([int(mask.sum()) for mask in kind] for kind in masks)
        blocks = [count / self.prices.block for count in filters]
        return float(sum(map(sum, self.prices.of(self.shape, heads, blocks))))

    def _largest(self, masks_at: Callable[[float], Masks], limit: float) -> Masks:
        """Gives the mask of the largest share that is within a time; there is one of nothing."""
        within, beyond = masks_at(0.0), 1.0
        low = 0.0
        for _ in range(BISECTIONS):
            middle = (low + beyond) / 2
            masks = masks_at(middle)
            if self.time_of(masks) <= limit:
                within, low = masks, middle
            else:
                beyond = middle
        return within


def most_within(
    gains: Sequence[Floats], costs: Sequence[Floats], limit: float, least: int = 0
) -> list[int] | None:
    """Chooses how much to keep of every part: the most gain whose cost is within the limit.

    Args:
        gains: for each part, [K_p + 1], what 0, 1, 2 ... of its units are worth.
        costs: the same for what they cost; none costs nothing.
        limit: what all may cost together.
        least: how many units every part must keep, as far as it has so many.

    Returns:
        How many units of each part; None where ``least`` of all cost more than the limit.

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
        best, choice = _with_part(best, gain, price, min(least, len(gain) - 1))
        taken.append(choice)
    if not np.isfinite(best[-1]):
        return None
    return _traced(taken, steps, int(np.argmax(best)))


def _with_part(
    best: Floats, gain: Floats, price: NDArray[np.int64], least: int
) -> tuple[Floats, NDArray[np.int64]]:
    """Adds a part: the best of any of its choices, at every number of steps spent."""
    found, choice = np.full(len(best), -np.inf), np.zeros(len(best), dtype=np.int64)
    for count in range(least, len(gain)):
        cost = int(price[count])
        if cost >= len(best):
            continue
        reached = best[: len(best) - cost] + gain[count]
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


def _units(masks: Masks) -> bytes:
    return np.concatenate([*masks[0], *masks[1]]).tobytes()


def _first(importance: Floats, count: int) -> Bools:
    kept = np.zeros(len(importance), dtype=np.bool_)
    kept[np.argsort(-importance, kind="stable")[:count]] = True
    return kept
