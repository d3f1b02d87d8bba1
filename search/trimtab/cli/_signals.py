"""Ctrl-C and SIGTERM end a command, once, and are never lost.

Python raises what a signal means wherever the main thread happens to be. Where that is in a
library that catches everything, as some do while they are imported, or in a finalizer, the
exception is gone and the command would go on. So what came is remembered, and asked for between
the steps of a run; and a second signal is obeyed unless the first is seen to be at work.
"""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable
from types import FrameType

from trimtab.errors import InterruptedStudyError

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Stopped(KeyboardInterrupt):
    """A signal came.

    Not `KeyboardInterrupt` itself: once that passes through the `exec` of a string, of which
    imports are full, CPython ends a `python -m` by SIGINT, whatever exit code it was given.
    """


_stopped = False


def was_stopped() -> bool:
    """Tells whether a signal has come, whatever became of its exception."""
    return _stopped


def obey_signals(say_patience: Callable[[], None]) -> None:
    """Makes both signals raise `Stopped`; while it unwinds, another one only calls back."""
    global _stopped
    _stopped = False

    def stop(number: int, frame: FrameType | None) -> None:
        global _stopped
        if _stopped and _is_unwinding():
            say_patience()
            return
        _stopped = True
        raise Stopped

    for each in _SIGNALS:
        signal.signal(each, stop)


def wait_for_the_end(say_patience: Callable[[], None]) -> None:
    """Lets nothing stop the last words of a command any more."""
    for each in _SIGNALS:
        signal.signal(each, lambda number, frame: say_patience())


def _is_unwinding() -> bool:
    """Tells whether a stop, or what was raised because of it, is what runs `finally` now."""
    error = sys.exception()
    while error is not None and not isinstance(error, Stopped | InterruptedStudyError):
        error = error.__context__
    return error is not None
