"""The live status block of a run: on a terminal it is redrawn in place, elsewhere it is a line."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Self

from rich.console import Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from trimtab.cli._console import progress_console
from trimtab.cli._tables import duration, percent, points
from trimtab.controller import RunningJob, Status

LINE_EVERY_S = 60.0
Jobs = Callable[[], Sequence[RunningJob]]
"""Lists what runs now; any thread may ask."""


class RunReporter:
    """Shows a run on stderr. Use it in a ``with`` statement."""

    def __init__(self, *, quiet: bool = False) -> None:
        self._console = progress_console(quiet=quiet)
        self._live: Live | None = None
        self._status: Status | None = None
        self._watched: Jobs | None = None
        self._line_s = time.monotonic()

    def __enter__(self) -> Self:
        if self._console.is_terminal:
            self._live = Live(
                console=self._console, get_renderable=self._block, refresh_per_second=4
            )
            self._live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._status = self._watched = None
        if self._live is not None:
            self._live.stop()

    def note(self, text: str) -> None:
        """Shows a line that stays."""
        self._console.print(text, soft_wrap=True)

    def update(self, status: Status) -> None:
        """Takes the newest status; without a terminal it is shown once a minute."""
        self._status = status
        if self._live is None and time.monotonic() - self._line_s >= LINE_EVERY_S:
            self._line_s = time.monotonic()
            self._console.print(_summary(status), soft_wrap=True)

    def watch(self, jobs: Jobs) -> None:
        """Shows running jobs alone, where there is no study whose status could be shown."""
        self._watched = jobs

    def _block(self) -> Group:
        """Draws the block; called by the display's own thread, so it only reads."""
        status, watched = self._status, self._watched
        if status is None:
            return Group() if watched is None else Group(_jobs(watched()))
        return Group(Text(_summary(status)), _jobs(status.jobs()))


def _summary(status: Status) -> str:
    trials = status.trials
    done = trials["complete"] + trials["failed"]
    parts = [f"{status.study}: {done} of {status.wanted_trials} trials"]
    parts += [f"{trials[name]} {name}" for name in ("running", "failed") if trials[name]]
    if status.reused:
        parts.append(f"{status.reused} results reused")
    if status.best is not None:
        cost, drop = percent(status.best["flops_ratio"]), points(status.best["drop"])
        word = "best" if status.best["feasible"] else "closest"
        parts.append(f"{word}: {cost} FLOPs at {drop}")
    if status.hypervolume is not None:
        parts.append(f"hypervolume {percent(status.hypervolume)}")
    parts.append(f"{duration(status.elapsed_s)} used, {_left(status)}")
    return " · ".join(parts)


def _left(status: Status) -> str:
    at_most, expected = duration(status.remaining_s), status.expected_s
    if expected is None or (status.remaining_s is not None and expected >= status.remaining_s):
        return f"at most {at_most} left"
    return f"about {duration(expected)} left (at most {at_most})"


def _jobs(jobs: Sequence[RunningJob]) -> Table:
    grid = Table.grid(padding=(0, 1))
    for job in jobs:
        grid.add_row(f"  {job.label}", _bar(job), _stage(job))
    return grid


def _bar(job: RunningJob) -> ProgressBar:
    known = job.progress
    if known is None or known.total <= 0:
        return ProgressBar(total=None, width=24, pulse=True)
    return ProgressBar(total=known.total, completed=known.done, width=24)


def _stage(job: RunningJob) -> str:
    known = job.progress
    if known is None:
        return ""
    left = "" if job.remaining_s is None else f", {duration(job.remaining_s)} left"
    return f"{known.stage} {known.done}/{known.total}{left}"
