"""The published latency model of pruning: flat, then rising, and the search under its limit.

Legend:
    L  layers    H  heads of a layer    F  filters of a layer    K  units of a part: H or F
    k  units kept in one layer          c, a, t  the fit's level, slope and threshold

Source: the post-training pruning paper (section 4.1) and its published code, whose search has four
faults that are mended here: the limit was overwritten from one try to the next; what is kept at
the level's price was left out of comparisons; a slope of 0 divided by zero; and not all layers
could be dropped.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]


@dataclass(frozen=True)
class Piecewise:
    """What one layer's attention, or feed-forward part, takes with ``k`` units.

    Nothing without any, ``level`` c up to ``threshold`` t units, and c + a(k - t) beyond, with
    ``slope`` a; in the unit of what it was fitted to.
    """

    level: float
    slope: float
    threshold: int

    def __post_init__(self) -> None:
        if self.threshold < 1 or min(self.level, self.slope) < 0:
            raise ValueError(
                "a fit needs a threshold of at least 1 and a level and slope of at least 0, but "
                f"got {self}"
            )

    @classmethod
    def fit(cls, measured: Sequence[float]) -> Piecewise:
        """Fits ``measured`` [K], the times with 1 to K units: of all thresholds the nearest one.

        For each, the level is the mean up to it, and the slope that of the least squares' line
        through its end over the rest; a falling one counts as flat. Ties go to the lower.

        Raises:
            ValueError: if there is nothing measured.
        """
        times = np.asarray(measured, dtype=np.float64)
        if not len(times):
            raise ValueError("a fit needs at least one time, but got none")
        fits = [cls._at(times, threshold) for threshold in range(1, len(times) + 1)]
        kept = np.arange(1, len(times) + 1)
        errors = [float(np.square(fit.of(kept) - times).sum()) for fit in fits]
        return fits[int(np.argmin(errors))]

    @classmethod
    def _at(cls, times: Floats, threshold: int) -> Piecewise:
        level = float(times[:threshold].mean())
        beyond = np.arange(1, len(times) - threshold + 1)
        rises = times[threshold:] - level
        slope = float(beyond @ rises / (beyond @ beyond)) if len(beyond) else 0.0
        return cls(level, max(slope, 0.0), threshold)

    def of(self, kept: NDArray[np.int64]) -> Floats:
        """Gives the times of numbers of units, of any shape."""
        rising = self.level + self.slope * np.maximum(kept - self.threshold, 0)
        return np.where(kept > 0, rising, 0.0)


def search_under_latency(
    head_importance: Floats,
    filter_importance: Floats,
    heads: Piecewise,
    filters: Piecewise,
    limit: float,
) -> tuple[Bools, Bools]:
    """Finds the heads and filters to keep so that all layers together take at most ``limit``.

    For every number of attention and of feed-forward parts dropped: those go whose most important
    units up to the threshold are worth least; each that stays pays its level and keeps these; and
    what is left of the limit is spent on single heads and filters at their slopes, as under a
    FLOPs budget. Of all these the one that keeps most importance is taken.

    Args:
        head_importance: [L, H], not negative.
        filter_importance: [L, F], not negative.
        heads: What attention takes.
        filters: What the feed-forward part takes, in the same unit.
        limit: What both may take over all layers, in that unit.

    Returns:
        Masks of the heads [L, H] and filters [L, F] kept; never over the limit by their fits.

    Raises:
        ValueError: if the limit is negative, or an importance is negative or not finite.
    """
    for name, values in (("head", head_importance), ("filter", filter_importance)):
        if not np.all(np.isfinite(values)) or np.any(values < 0):
            raise ValueError(f"{name} importances must be finite and not negative")
    if not limit >= 0:
        raise ValueError(f"the limit must not be negative, but got {limit}")
    heads_by_count = _choices(head_importance, heads)
    filters_by_count = _choices(filter_importance, filters)
    tried = (
        (_spend(some_heads, some_filters, limit), some_heads, some_filters)
        for some_heads in heads_by_count
        for some_filters in filters_by_count
        if some_heads.cost + some_filters.cost <= limit
    )
    spent, of_heads, of_filters = max(tried, key=lambda each: each[0].worth)
    return of_heads.mask(spent.n_heads), of_filters.mask(spent.n_filters)


@dataclass(frozen=True)
class _Choice:
    """A kind of part with some layers dropped: what is kept for the level, and what may be added.

    ``added`` are places [K'] of further units from the most important on, ``gain`` [K'+1] what the
    first 0, 1, 2 ... of them are worth together with the base, ``cost`` the levels of all layers.
    """

    base: Bools
    added: NDArray[np.intp]
    gain: Floats
    cost: float
    slope: float

    def mask(self, count: int) -> Bools:
        mask = self.base.copy()
        mask.flat[self.added[:count]] = True
        return mask


@dataclass(frozen=True)
class _Spent:
    worth: float
    n_heads: int
    n_filters: int


def _choices(importance: Floats, fit: Piecewise) -> list[_Choice]:
    """Lists what can be kept with 0, 1 ... and all layers dropped."""
    n_layers, n_units = importance.shape
    order = np.argsort(-importance, axis=1, kind="stable")
    top = np.zeros(importance.shape, dtype=np.bool_)
    np.put_along_axis(top, order[:, : min(fit.threshold, n_units)], True, axis=1)
    from_least = np.argsort((importance * top).sum(axis=1), kind="stable")
    return [_choice(importance, fit, top, from_least[n:]) for n in range(n_layers + 1)]


def _choice(importance: Floats, fit: Piecewise, top: Bools, layers: NDArray[np.intp]) -> _Choice:
    stays = np.zeros((len(importance), 1), dtype=np.bool_)
    stays[layers] = True
    base, others = top & stays, ~top & stays
    places = np.flatnonzero(others)
    places = places[np.argsort(-importance.flat[places], kind="stable")]
    gains = np.concatenate([[importance[base].sum()], importance.flat[places]])
    return _Choice(base, places, np.cumsum(gains), fit.level * len(layers), fit.slope)


def _spend(heads: _Choice, filters: _Choice, limit: float) -> _Spent:
    """Spends what the levels leave of the limit: as many filters as each number of heads leaves."""
    left = limit - heads.cost - filters.cost
    n_heads = np.arange(_affordable(np.array([left]), heads)[0] + 1)
    n_filters = _affordable(np.maximum(left - n_heads * heads.slope, 0.0), filters)
    worth = heads.gain[n_heads] + filters.gain[n_filters]
    best = int(np.argmax(worth))
    return _Spent(float(worth[best]), int(n_heads[best]), int(n_filters[best]))


def _affordable(budgets: Floats, choice: _Choice) -> NDArray[np.int64]:
    """Gives how many further units each budget buys; a slope of 0 gives them all away."""
    most = len(choice.added)
    if choice.slope == 0 or most == 0:
        return np.full(len(budgets), most)
    # A quotient may be rounded up to a whole number that cannot quite be paid for.
    counts = np.minimum(budgets / choice.slope, most).astype(np.int64)
    return counts - (counts * choice.slope > budgets)
