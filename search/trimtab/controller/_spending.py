"""What timing costs a study: every second that went into it, over all of its runs."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any, Literal

from trimtab_storage import StorageError, Store

EVENT = "timing-cost"

Part = Literal["baseline", "table", "waiting", "points", "delivery"]
"""``waiting`` is that of workers with nothing to do, until those that are busy come back."""
TURNS = "turns"
"""What is written down beside the parts: until other runs on the host were done with timing."""


@dataclass(frozen=True)
class TimingCost:
    """Seconds of a study that went into timing, by what was timed, and all that it took.

    ``held_up_s`` is no part of it: where other runs on the host were timing, until they were done.
    """

    parts: Mapping[str, float]
    elapsed_s: float
    held_up_s: float = 0.0

    @property
    def seconds(self) -> float:
        """Seconds of all parts."""
        return sum(self.parts.values())

    @property
    def share(self) -> float:
        """The part of the study's time; 0 for a study that took none."""
        return self.seconds / self.elapsed_s if self.elapsed_s else 0.0

    def to_plain(self) -> dict[str, Any]:
        """Gives the cost as ``run --json`` does."""
        return {
            "seconds": round(self.seconds, 1),
            "elapsed_s": round(self.elapsed_s, 1),
            "share": round(self.share, 4),
            "parts": {name: round(seconds, 1) for name, seconds in self.parts.items()},
            "held_up_s": round(self.held_up_s, 1),
        }


class Spending:
    """Adds up what timing costs, and writes it down as events, so that a later run knows it.

    Only what a controller was doing when it was killed is not known.
    """

    def __init__(
        self, store: Store, study_id: int, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._store, self._study_id, self._clock = store, study_id, clock
        self._parts: Counter[str] = Counter()
        self._unwritten: Counter[str] = Counter()
        self._held_up_s = 0.0
        for event in store.events(study_id, kind=EVENT):
            self._parts.update(event.data)

    def of(self, part: Part) -> float:
        """Gives the seconds of one part."""
        return float(self._parts[part])

    def cost(self, elapsed_s: float) -> TimingCost:
        """Gives all of it, of a study that took so many seconds."""
        parts = dict(self._parts)
        held_up_s = parts.pop(TURNS, 0.0)
        return TimingCost(parts, elapsed_s, held_up_s)

    @contextmanager
    def on(self, part: Part) -> Iterator[None]:
        """Counts what is done meanwhile, whatever comes of it; what holds it up stands apart."""
        began, self._held_up_s = self._clock(), 0.0
        try:
            yield
        except BaseException:
            with suppress(StorageError):  # what went wrong first is what is said
                self._write(part, self._clock() - began)
            raise
        self._write(part, self._clock() - began)

    def hold_up(self, seconds: float) -> None:
        """Takes down that what is counted now waited for other runs."""
        self._held_up_s += seconds

    @contextmanager
    def waiting(self, busy: int, slots: int) -> Iterator[None]:
        """Counts the time of workers that are kept free meanwhile, as a share of all of them.

        It is written with what they are kept free for.
        """
        began = self._clock()
        yield
        self._add("waiting", (self._clock() - began) * max(0.0, 1 - busy / slots))

    def _write(self, part: Part, seconds: float) -> None:
        held_up_s = min(seconds, self._held_up_s)
        self._add(part, seconds - held_up_s)
        if held_up_s:
            self._add(TURNS, held_up_s)
        data = {name: round(seconds, 3) for name, seconds in self._unwritten.items()}
        self._unwritten.clear()
        self._store.log_event(self._study_id, EVENT, data)

    def _add(self, part: str, seconds: float) -> None:
        for counted in (self._parts, self._unwritten):
            counted[part] += seconds  # type: ignore[assignment]
