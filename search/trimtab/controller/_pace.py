"""How long the trials that are left will take, going by those of this run."""

from __future__ import annotations

LEAST_ENDED = 3
"""One trial says little of the others: the first make statistics that later ones find."""


class Pace:
    """Watches trials come in and estimates when the last one will.

    All times are seconds of one clock. What is left is taken to go as what went: the mean time
    between ends, whatever number of workers and whatever waiting is in it.
    """

    def __init__(self) -> None:
        self._began: tuple[float, int] | None = None
        self._last: tuple[float, int] | None = None

    def left_s(self, now_s: float, n_ended: int, n_running: int, n_wanted: int) -> float | None:
        """Estimates the seconds until all trials have ended.

        None while there is too little to say, and again when it should have been over. To be asked
        again and again: it takes down when the count of ended trials grows.
        """
        if self._began is None:
            if n_ended or n_running:
                self._began = self._last = now_s, n_ended
            return None
        assert self._last is not None
        if n_ended > self._last[1]:
            self._last = now_s, n_ended
        (began_s, n_before), (last_s, n_then) = self._began, self._last
        if n_then - n_before < LEAST_ENDED:
            return None
        each_s = (last_s - began_s) / (n_then - n_before)
        left_s = each_s * (n_wanted - n_then) - (now_s - last_s)
        return left_s if left_s > 0 else None
