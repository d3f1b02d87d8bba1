"""Which recipes that were looked at get more rows: feasible ones, unbeaten ones, those that add.

Of the recipes looked at with a share of the training rows a third goes on, as soon as it is among
the best third: asynchronous successive halving (Li et al. 2020), but with several objectives: first
by what they lack to be within the limits, then by how often they are beaten in cost and drop
(non-dominated sorting), then by what the hypervolume would lose without them.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from trimtab.controller._expected import Expectation
from trimtab.progress import Pair, front_of, share_of
from trimtab.selection import Limits, Measured, RecipeScores, recipe_scores

KEEP = 1 / 3
LEAST_ROWS = 200
"""A look is judged on no fewer rows than these, if there are as many: else luck would decide."""


@dataclass(frozen=True, slots=True)
class Setting:
    """One setting of a model as selection sees it, and nothing else."""

    drop: float
    flops: float
    flops_ratio: float
    metric: float = math.nan
    latency: Mapping[str, Any] | None = None
    id: int = 0

    @classmethod
    def of(cls, point: Measured) -> Setting:
        """Takes what selection looks at from a point."""
        return cls(
            point.drop, point.flops, point.flops_ratio, point.metric, point.latency, point.id
        )

    def expected(self, expectation: Expectation | None) -> Setting:
        """Gives the setting with the latency that is expected of it, where latency matters."""
        if expectation is None:
            return self
        return replace(self, latency=expectation.as_if_timed(self.latency, self.flops_ratio))


@dataclass(frozen=True)
class Looked:
    """What was seen of a recipe with a share of the training rows."""

    share: float
    settings: tuple[Setting, ...]

    def scores(self, limits: Limits) -> RecipeScores:
        """Sums it up as the points of a whole recipe are."""
        return recipe_scores(self.settings, limits)

    def expected(self, expectation: Expectation | None) -> Looked:
        """Gives it with the latencies that are expected of the settings, where latency matters."""
        return replace(self, settings=tuple(s.expected(expectation) for s in self.settings))

    def to_plain(self) -> dict[str, Any]:
        """Gives it as JSON-able values."""
        rows = [[s.drop, s.flops, s.flops_ratio] for s in self.settings]
        return {"share": self.share, "settings": rows}

    @classmethod
    def from_plain(cls, plain: Mapping[str, Any]) -> Looked:
        """Reads what :meth:`to_plain` gave."""
        return cls(plain["share"], tuple(Setting(*row) for row in plain["settings"]))


def unbeaten(settings: Sequence[Setting]) -> tuple[Setting, ...]:
    """Leaves out the settings that another of the same model beats."""
    front = set(front_of([_pair(setting) for setting in settings]))
    return tuple({_pair(s): s for s in settings if _pair(s) in front}.values())


def rows_of(share: float, n_rows: int) -> int:
    """Tells how many of the rows that decide a look is judged on."""
    return min(n_rows, max(LEAST_ROWS, math.ceil(share * n_rows)))


def work_of(shares: Sequence[float]) -> float:
    """Tells what part of all training is done where only the best go on from look to look."""
    steps = [*shares, 1.0]
    return sum(share * KEEP**place for place, share in enumerate(steps))


def next_to_go_on(
    looked: Mapping[int, Looked], gone_on: Collection[int], limits: Limits, *, is_last: bool
) -> int | None:
    """Names the trial that gets more rows; None while none is among the best third yet.

    Args:
        looked: By number, all that were looked at with this share, those that went on as well.
        gone_on: Those that went on.
        limits: What counts as feasible.
        is_last: Whether no more trials will come; then at least one goes on.
    """
    n_best = max(int(len(looked) * KEEP + 1e-9), int(is_last))
    # A search gets better as it goes: without this nearly all of its later trials would go on.
    if len(gone_on) >= n_best:
        return None
    best = ranked(looked, limits)[:n_best]
    return next((number for number in best if number not in gone_on), None)


def ranked(looked: Mapping[int, Looked], limits: Limits) -> list[int]:
    """Orders trials that were looked at alike, the best one first."""
    scores = {number: each.scores(limits) for number, each in looked.items()}
    places = _places({n: (s.cost_ratio, s.drop) for n, s in scores.items()})
    gains = _gains(looked, limits.max_drop)
    return sorted(
        looked,
        key=lambda n: (max(0.0, scores[n].violation), places[n], -gains[n], n),
    )


def _places(pairs: Mapping[int, Pair]) -> dict[int, int]:
    """Gives each the number of the frontier it is on, once those before it are taken away.

    Taken by their first number, a frontier beats what comes if the last it took has a second
    number as small: so these last ones, which rise from frontier to frontier, are all to look at.
    """
    lasts: list[float] = []
    place_of: dict[Pair, int] = {}
    for pair in sorted(set(pairs.values())):
        place_of[pair] = place = bisect_right(lasts, pair[1])
        lasts[place : place + 1] = [pair[1]]
    return {number: place_of[pair] for number, pair in pairs.items()}


def _gains(looked: Mapping[int, Looked], max_drop: float | None) -> dict[int, float]:
    """Gives what the hypervolume of all would lose without each."""
    if max_drop is None:
        return dict.fromkeys(looked, 0.0)
    pairs = {number: [_pair(s) for s in each.settings] for number, each in looked.items()}
    front = set(front_of([pair for own in pairs.values() for pair in own]))
    whole, gains = share_of(front, max_drop), dict.fromkeys(looked, 0.0)
    # Nothing is lost without those that have no part in the frontier, which are nearly all.
    for number in [n for n, own in pairs.items() if not front.isdisjoint(own)]:
        others = [pair for other, own in pairs.items() if other != number for pair in own]
        gains[number] = whole - share_of(front_of(others), max_drop)
    return gains


def _pair(setting: Setting) -> Pair:
    return setting.drop, setting.flops_ratio
