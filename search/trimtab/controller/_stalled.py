"""Asks the rule of ``search.stop`` in a search, with what came since it was asked last."""

from __future__ import annotations

from trimtab.controller._history import History
from trimtab.controller._stopping import StopRule
from trimtab_storage import Reader


class StallWatch:
    """Whether a study's search has stalled; all there is is read once, and then what came since.

    Trials are read anew after each change of theirs that ``history`` is told, since only the
    database knows when they ended: another run, which reads them all, decides the same.
    """

    def __init__(self, rule: StopRule, reader: Reader, study_id: int, history: History) -> None:
        self._rule, self._reader, self._study_id = rule, reader, study_id
        self._history, self._ended_then = history, -1
        self._changed: set[int] = set()
        if rule.is_set:
            rule.note_trials(reader.trials(study_id))
            history.on_change = self._changed.add

    def gains_little(self) -> bool:
        """Asks the rule again only when a trial has ended since."""
        if self._rule.is_set and self._history.n_ended != self._ended_then:
            self._ended_then = self._history.n_ended
            rows = (self._reader.trial(trial_id) for trial_id in sorted(self._changed))
            self._rule.note_trials(row for row in rows if row is not None)
            self._changed.clear()
            self._rule.note_points(self._reader.points(self._study_id, after_id=self._rule.seen_id))
            self._rule.gains_little()
        return self.line is not None

    @property
    def line(self) -> str | None:
        """Says in one line why the search may be over; None if it gains enough, as asked last."""
        return self._rule.line
