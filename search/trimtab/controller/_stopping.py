"""When a search has stalled: the rule of ``search.stop``, by arithmetic alone.

The rule looks at the last ``patience`` trials that ended, complete or failed, in the order in which
they ended. When all that they measured raised the hypervolume (see :mod:`trimtab.progress`) by less
than ``gain`` of what it was before them, no new trial is started; those that run may finish, and
are counted when they do. So a late success lets the search go on.

Two things hold it back. There must have been something to raise: trials count only from the first
point on that is within the reference. And all recommended recipes must have been tried, because
until then whole strategies that the user named were not looked at.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from trimtab.progress import Pair, by_ended, pairs_by_trial, share_of
from trimtab.spec._stopping import Stop
from trimtab_storage import PointRow, TrialRow
from trimtab_strategies.recipe import Recipe, from_plain


def gain_of_last(
    trials: Sequence[Sequence[Pair]], patience: int, max_drop: float, start: Sequence[Pair] = ()
) -> float | None:
    """Tells by how much the last trials raised the hypervolume, relative to what it was before.

    Args:
        trials: The drops and costs that each trial measured, in the order in which they ended; of
            one that failed there are none.
        patience: How many of them are looked at.
        max_drop: The largest drop allowed, in the metric's units.
        start: What was measured before any trial.

    Returns:
        0.01 for one per cent; None with fewer trials, or if there was nothing to raise.
    """
    if len(trials) < patience:
        return None
    earlier, last = trials[: len(trials) - patience], trials[len(trials) - patience :]
    known = [*start, *(pair for trial in earlier for pair in trial)]
    before = share_of(known, max_drop)
    if before <= 0:
        return None
    return share_of([*known, *(pair for trial in last for pair in trial)], max_drop) / before - 1


class StopRule:
    """Tells whether a study's search is over by ``search.stop``, and says why.

    ``line`` says it in one line; None as long as it is not over.
    """

    def __init__(
        self, stop: Stop | None, max_drop: float | None, recommended: Collection[Recipe]
    ) -> None:
        self._stop, self._max_drop, self._recommended = stop, max_drop, recommended
        self.line: str | None = None

    @property
    def is_set(self) -> bool:
        """Tells whether the spec has such a rule at all; else nothing need be read for it."""
        return self._stop is not None

    def is_over(self, trials: Sequence[TrialRow], points: Sequence[PointRow]) -> bool:
        """Looks at all trials of a study and at all its points anew."""
        self.line = None
        if self._stop is None or self._max_drop is None or self._has_more_to_try(trials):
            return False
        by_trial = pairs_by_trial(points)
        measured = [by_trial.get(trial.id, []) for trial in by_ended(trials)]
        patience, least = self._stop.patience, self._stop.gain
        gain = gain_of_last(measured, patience, self._max_drop, by_trial.get(None, []))
        if gain is None or gain >= least.ratio:
            return False
        last = "the last trial" if patience == 1 else f"the last {patience} trials"
        self.line = (
            f"stopped: {last} added {_shown(gain)} to the hypervolume (search.stop.gain {least})"
        )
        return True

    def _has_more_to_try(self, trials: Sequence[TrialRow]) -> bool:
        tried = {from_plain(trial.recipe) for trial in trials}
        return any(recipe not in tried for recipe in self._recommended)


def _shown(gain: float) -> str:
    """Writes a gain as the spec does: ``0.4%``."""
    if gain <= 0:
        return "nothing"
    return f"{100 * gain:.2f}".rstrip("0").rstrip(".") + "%" if gain >= 5e-5 else "next to nothing"
