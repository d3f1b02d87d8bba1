"""What can go wrong in a study, drawn once; each error knows the command's exit code.

TrimtabError
├── InputError           (2) the spec, the data, the model or an option: the user's to mend
│   └── StudyChangedError    the spec differs from the study's in what must not change
├── JobError             (1) a job that the study cannot go on without has failed
├── NothingFinishedError (4) the search ended before anything was measured
└── InterruptedStudyError (130) stopped on request; the same command continues
"""

from __future__ import annotations

from collections.abc import Sequence


class TrimtabError(Exception):
    """The base of all errors that are shown as one clear line."""

    exit_code = 1


class InputError(TrimtabError):
    """Something the user gave cannot be worked with."""

    exit_code = 2


class StudyChangedError(InputError):
    """A study's spec was changed where that would mix up results."""

    def __init__(self, study: str, fields: Sequence[str]) -> None:
        super().__init__(
            f"study {study!r} exists with other values of: {', '.join(fields)}; only budget, "
            "max_drop, search.trials, search.time, search.stop, workers and output may change: "
            "give the study another name, or put these back"
        )
        self.fields = tuple(fields)


class JobError(TrimtabError):
    """A job failed that everything else waits for."""


class NothingFinishedError(TrimtabError):
    """The search is over, and no trial gave a result."""

    exit_code = 4


class InterruptedStudyError(TrimtabError):
    """The user stopped the run; what was measured is kept."""

    exit_code = 130
