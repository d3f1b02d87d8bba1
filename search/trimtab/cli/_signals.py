"""Ctrl-C and SIGTERM end a command, once, and are never lost.

Python raises what a signal means wherever the main thread happens to be. In a finalizer it is
thrown away (a library of regular expressions has one), and while libraries are imported some catch
everything, and others, which are not written in Python, end the process by it. So a finalizer's is
raised again, and that of an import once it is over; what came is remembered, and asked for between
the steps of a run; and a second signal is obeyed unless the first is at work.
"""

from __future__ import annotations

import _thread
import signal
import sys
import threading
from collections.abc import Callable
from types import FrameType

from trimtab.errors import InterruptedStudyError

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Stopped(KeyboardInterrupt):
    """A signal came.

    Not `KeyboardInterrupt` itself: once that passes through the `exec` of a string, of which
    imports are full, CPython ends a `python -m` by SIGINT, whatever exit code it was given.
    """


_AGAIN_AFTER_S = 0.1
_stopped = False
_show_lost = sys.__unraisablehook__


def was_stopped() -> bool:
    """Tells whether a signal has come, whatever became of its exception."""
    return _stopped


def obey_signals(say_patience: Callable[[], None]) -> None:
    """Makes both signals raise `Stopped`; while it unwinds, another one only calls back."""
    global _show_lost, _stopped
    _stopped = False

    def stop(number: int, frame: FrameType | None) -> None:
        global _stopped
        if _stopped and _is_unwinding():
            say_patience()
            return
        _stopped = True
        if _is_importing(frame):
            _try_again()
            return
        raise Stopped

    for each in _SIGNALS:
        signal.signal(each, stop)
    if sys.unraisablehook is not _raise_again:
        _show_lost, sys.unraisablehook = sys.unraisablehook, _raise_again


def _raise_again(lost: sys.UnraisableHookArgs) -> None:
    """Raises a stop anew, once the finalizer that it hit is over; shows anything else."""
    if not issubclass(lost.exc_type, Stopped):
        _show_lost(lost)
        return
    _try_again()


def _try_again() -> None:
    again = threading.Timer(_AGAIN_AFTER_S, _thread.interrupt_main, [signal.SIGTERM])
    again.daemon = True
    again.start()


def wait_for_the_end(say_patience: Callable[[], None]) -> None:
    """Lets nothing stop the last words of a command any more."""
    for each in _SIGNALS:
        signal.signal(each, lambda number, frame: say_patience())


def _is_importing(frame: FrameType | None) -> bool:
    while frame is not None and not frame.f_code.co_filename.startswith("<frozen importlib"):
        frame = frame.f_back
    return frame is not None


def _is_unwinding() -> bool:
    """Tells whether a stop, or what was raised because of it, is what runs `finally` now."""
    error = sys.exception()
    while error is not None and not isinstance(error, Stopped | InterruptedStudyError):
        error = error.__context__
    return error is not None
