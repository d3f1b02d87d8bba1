"""What a running study tells whoever watches."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from trimtab_workers.executors import Progress


@dataclass(frozen=True)
class RunningJob:
    """One job that is being done now; ``remaining_s`` is an estimate for its present stage."""

    label: str
    progress: Progress | None
    remaining_s: float | None = None


@dataclass(frozen=True)
class Status:
    """Where a study stands; ``jobs`` may be called from any thread.

    ``hypervolume`` is a share of the most that a frontier could cover, see ``trimtab.progress``.
    ``remaining_s`` is left of the time that the spec allows, of which the trials will take about
    ``expected_s``: None while nobody knows.
    """

    study: str
    state: str
    trials: dict[str, int]
    wanted_trials: int
    reused: int
    baseline: dict[str, Any] | None
    best: dict[str, Any] | None
    hypervolume: float | None
    elapsed_s: float
    remaining_s: float | None
    jobs: Callable[[], Sequence[RunningJob]]
    expected_s: float | None = None


class Reporter(Protocol):
    """Shows a run; every call returns at once and may come from the controller's thread only."""

    def note(self, text: str) -> None:
        """Shows a line that stays."""

    def update(self, status: Status) -> None:
        """Shows where the study stands; called about once a second."""


class SilentReporter:
    """Shows nothing; notes are kept, for programs and tests."""

    def __init__(self) -> None:
        self.notes: list[str] = []

    def note(self, text: str) -> None:
        """Keeps a line."""
        self.notes.append(text)

    def update(self, status: Status) -> None:
        """Forgets where the study stands."""
