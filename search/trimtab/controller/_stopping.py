"""When a search has stalled: the rule of ``search.stop``, by arithmetic alone.

The rule looks at the last ``patience`` trials that ended, complete or failed, in the order in which
they ended. When all that they measured raised the hypervolume (see :mod:`trimtab.progress`) by less
than ``gain`` of what it was before them, no new trial is started; those that run may finish, and
are counted when they do. So a late success lets the search go on.

Two things hold it back. There must have been something to raise: trials count only from the first
point on that is within the reference. And all recommended recipes must have been tried, because
until then not all was looked at that the user named; which these are, the trial loop knows
(:mod:`._recommended`).

Trials and points are told as they come, each once, and of most only a frontier is kept: so a
decision costs the same however long the search is.
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Iterable, Sequence

from trimtab.controller._history import is_only_looked_at
from trimtab.progress import Pair, front_of, pairs_by_trial, share_of
from trimtab.spec._stopping import Stop
from trimtab_storage import PointRow, TrialRow, TrialState

ENDED = (TrialState.COMPLETE, TrialState.FAILED)


class LastGain:
    """By how much the last trials raised the hypervolume, relative to what it was before them.

    ``patience`` is how many of them are looked at, ``max_drop`` the largest drop allowed, in the
    metric's units. Trials and what they measured may be told in any order.
    """

    def __init__(self, patience: int, max_drop: float) -> None:
        self._patience, self._max_drop = patience, max_drop
        self._last: list[tuple[str, int, int]] = []
        # Frontiers have the hypervolume of all that they were made of.
        self._before: list[Pair] = []
        self._with_last: list[Pair] = []
        self._own: dict[int, list[Pair]] = {}
        self._ended, self._earlier = set[int](), set[int]()

    def measured(self, trial_id: int | None, pairs: Sequence[Pair]) -> None:
        """Takes down what a trial measured; with None, what was there before any trial."""
        if trial_id is None or trial_id in self._ended:
            self._with_last = front_of([*self._with_last, *pairs])
        if trial_id is None or trial_id in self._earlier:
            self._before = front_of([*self._before, *pairs])
        else:
            self._own[trial_id] = front_of([*self._own.get(trial_id, ()), *pairs])

    def ended(self, trial_id: int, finished_at: str, number: int) -> None:
        """Takes down that a trial ended, and when; a second time does nothing."""
        if trial_id in self._ended:
            return
        self._ended.add(trial_id)
        self._with_last = front_of([*self._with_last, *self._own.get(trial_id, ())])
        insort(self._last, (finished_at, number, trial_id))
        if len(self._last) > self._patience:
            # One enters and one leaves, be it the same, where a clock was set back.
            *_, leaves = self._last.pop(0)
            self._earlier.add(leaves)
            self._before = front_of([*self._before, *self._own.pop(leaves, ())])

    def ratio(self) -> float | None:
        """Gives 0.01 for one per cent; None with fewer trials, or if there was nothing to raise."""
        if len(self._last) < self._patience:
            return None
        before = share_of(self._before, self._max_drop)
        return share_of(self._with_last, self._max_drop) / before - 1 if before > 0 else None


class StopRule:
    """Tells whether a study's search gains too little to go on by ``search.stop``, and says so.

    ``line`` says it in one line; None as long as it gains enough. ``seen_id`` is the last point
    that was told.
    """

    def __init__(self, stop: Stop | None, max_drop: float | None) -> None:
        self._stop = None if max_drop is None else stop
        self._gain = LastGain(1 if stop is None else stop.patience, max_drop or 0.0)
        self.line: str | None = None
        self.seen_id = 0

    @property
    def is_set(self) -> bool:
        """Tells whether there is such a rule at all; else nothing need be told to it."""
        return self._stop is not None

    def note_trials(self, trials: Iterable[TrialRow]) -> None:
        """Takes down trials that are new, or have come further, as they are now."""
        for trial in trials:
            # Few rows add nothing to the frontier; that says nothing of what all would add.
            if not is_only_looked_at(trial) and trial.state in ENDED:
                self._gain.ended(trial.id, trial.finished_at or "", trial.number)

    def note_points(self, points: Sequence[PointRow]) -> None:
        """Takes down points that are new; what is timed of them later has no part in it."""
        for trial_id, pairs in pairs_by_trial(points).items():
            self._gain.measured(trial_id, pairs)
        self.seen_id = max((point.id for point in points), default=self.seen_id)

    def gains_little(self) -> bool:
        """Decides by all that was told."""
        self.line = None
        if self._stop is None:
            return False
        gain, patience, least = self._gain.ratio(), self._stop.patience, self._stop.gain
        if gain is None or gain >= least.ratio:
            return False
        last = "the last trial" if patience == 1 else f"the last {patience} trials"
        self.line = (
            f"stopped: {last} added {_shown(gain)} to the hypervolume (search.stop.gain {least})"
        )
        return True


def _shown(gain: float) -> str:
    """Writes a gain as the spec does: ``0.4%``."""
    if gain <= 0:
        return "nothing"
    return f"{100 * gain:.2f}".rstrip("0").rstrip(".") + "%" if gain >= 5e-5 else "next to nothing"
